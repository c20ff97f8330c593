"""The registry of formulations: other ways to work an op out, with what each costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable


@dataclass(frozen=True)
class Machine:
    """Where a Program is to run: a device, and how many channels its convolutions keep in a block.

    ``block`` is 0 where channels are not kept in blocks.
    """

    device: str = "cpu"
    block: int = 0


Build: TypeAlias = Callable[[Tape, Operator, Machine], "Variable | Sequence[Variable]"]
Fits: TypeAlias = Callable[[Operator, Machine], bool]
Cost: TypeAlias = Callable[[Operator, Machine], float]


@dataclass(frozen=True)
class Formulation:
    """One way to work an op out; ``cost`` in µs is asked where it ``fits``."""

    type: str
    name: str
    fits: Fits
    cost: Cost
    build: Build


FORMULATIONS: dict[str, list[Formulation]] = {}
AS_IS: dict[str, Cost] = {}  # what the op costs as it is, or as its portable body


def formulation(type: str, *, when: Fits, cost: Cost) -> Callable[[Build], Build]:
    """Register another way to work out the result of an op, or its results in order."""

    def register(build: Build) -> Build:
        name = build.__name__.replace("_", " ")
        FORMULATIONS.setdefault(type, []).append(Formulation(type, name, when, cost, build))
        return build

    return register
