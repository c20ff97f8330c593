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
    """What was measured of the kernels that a Program is to run on; unless it says so, nothing.

    Attributes:
        priced: what formulations cost there; without prices ops become their portable bodies.
        fused: that the forms of ``Fuse`` are quicker, and its ops of onnxruntime's own exist.
        joined: that one Split is quicker than many slices (``JoinSlices``).
        in_place: that states can be written over while a step runs, and in what order it runs.
        block: how many channels convolutions keep side by side; 0 where they keep none so.
    """

    priced: bool = False
    fused: bool = False
    joined: bool = False
    in_place: bool = False
    block: int = 0


PORTABLE = Machine()
MEASURED = Machine(priced=True, fused=True, joined=True, in_place=True)  # onnxruntime's CPU kernels


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
