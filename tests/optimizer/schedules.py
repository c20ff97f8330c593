"""Paddle's tables of schedules, for several tests."""

import json
import math
from pathlib import Path

import numpy as np

from graphopt.optimizer import lr

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TABLES = json.loads((GOLDEN / "lr_tables.json").read_text())["lr_tables"]


def expected_rates(table):
    """The rate after construction, and after each call."""
    with np.load(GOLDEN / "lr_tables.npz") as file:
        return file[table["id"]]


def build(value):
    """A schedule, a function or a number, as the index of the tables describes it."""
    if not isinstance(value, dict):
        return value
    if "$expr" in value:
        return eval(f"lambda {value['var']}: {value['$expr']}", {"math": math})
    arguments = {key: build(v) for key, v in value.items() if key != "$lr"}
    return getattr(lr, value["$lr"])(**arguments)


def rates(schedule, steps):
    """The rate now and after each of the next steps."""
    found = [schedule()]
    for _ in range(steps):
        schedule.step()
        found.append(schedule())
    return found


def advance(schedule, arguments):
    """The rates after each of some steps; None is a step without argument."""
    found = []
    for argument in arguments:
        schedule.step() if argument is None else schedule.step(argument)
        found.append(schedule())
    return found
