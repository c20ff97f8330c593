"""Learning-rate schedules inside an exported training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphopt.errors import ArgumentError
from graphopt.ir.model.operator import Role
from graphopt.ir.model.program import RateSource
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType, to_onnx_dtype
from graphopt.optimizer.lr import LRScheduler
from graphopt.optimizer.rate import LearningRate
from graphopt.passes.engine.replace import read_instead

INPUT = "learning_rate"
I64 = TensorType(np.dtype("i8"), ())


def embed_schedules(
    step: Step,
    inputs: Sequence[Variable],
    rates: Mapping[str, RateSource],
    steps_per_epoch: int,
) -> tuple[list[Variable], dict[str, np.ndarray]]:
    """Compute the rates among ``inputs`` that follow a scheduler, in a step of the caller's own.

    Returns the new inputs, and the first values of the step counters among them.

    Raises:
        ArgumentError: ``steps_per_epoch`` is not a positive int.
    """
    if isinstance(steps_per_epoch, bool) or not steps_per_epoch >= 1:
        raise ArgumentError(f"steps_per_epoch must be a positive int, not {steps_per_epoch!r}")
    kept: list[Variable] = []
    fed: list[Variable] = []
    counters: dict[str, np.ndarray] = {}
    for v in inputs:
        schedule = _schedule(rates.get(v.name))
        if schedule is None:
            kept.append(v)
        elif (counter := _as_ops(step, v, schedule, int(steps_per_epoch))) is not None:
            kept.append(counter)
            counters[counter.name] = np.array(0, np.int64)
        else:
            fed.append(_as_input(step, v))
    data = [v for v in kept if not v.persistable]
    return [*data, *fed, *(v for v in kept if v.persistable)], counters


def _schedule(rate: RateSource | None) -> LRScheduler | None:
    return rate.scheduler if isinstance(rate, LearningRate) else None


def _as_ops(
    step: Step, v: Variable, schedule: LRScheduler, steps_per_epoch: int
) -> Variable | None:
    """Compute the rate from a counter of steps at the start of the step; None if impossible."""
    block = step.global_block()
    before = list(block.ops)
    g = Tape(block, role=Role.SCHEDULE, made_by="schedule")
    counter = step.add_state(step.unused_name(f"{v.name}_step"), I64)
    epoch = g.Add(g.Div(counter, steps_per_epoch), schedule.last_epoch)
    value = schedule.expression(g, epoch)
    if value is None:
        block.drop(block.ops[len(before) :])
        block.remove_var(counter)
        return None
    rate = g.emit("Cast", value, names=[f"{v.name}@NEXT"], to=to_onnx_dtype(v.dtype))
    next_counter = g.emit("Add", counter, 1, names=[f"{counter.name}@NEXT"])
    # The rate is made before anything reads it.
    block.reorder([*block.ops[len(before) :], *before])
    read_instead(step, rate, v)
    step.fetch = [rate if x is v else x for x in step.fetch]
    step.next_state = {**step.next_state, counter: next_counter}
    return counter


def _as_input(step: Step, v: Variable) -> Variable:
    """Feed the rate, under the name ``learning_rate``."""
    block = step.global_block()
    block.remove_var(v)
    v.name = step.unused_name(INPUT)
    v.persistable = False
    v.is_data = True
    block.add_var(v)
    return v
