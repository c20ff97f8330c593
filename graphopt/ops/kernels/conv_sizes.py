"""The sizes of a convolution, and what it costs to bring its tensors into blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ops.registry.formulations import Machine
from graphopt.ops.registry.prices import LEAVES, MOVED, STAYS

F32 = np.dtype("f4")


@dataclass(frozen=True)
class Sizes:
    """A convolution of two spatial dims: X [n, c, *i], W [m, c, *k], Y [n, m, *o]."""

    n: int
    c: int
    m: int
    i: tuple[int, int]
    k: tuple[int, int]
    o: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    head: tuple[int, int]
    tail: tuple[int, int]

    @property
    def products(self) -> int:
        """Multiplications."""
        return self.columns * self.m

    @property
    def columns(self) -> int:
        """The elements of all windows, laid out."""
        return self.n * self.c * math.prod(self.k) * math.prod(self.o)


def sizes(op: Operator) -> Sizes | None:
    """The sizes of a Conv or of a gradient of one; None for what has no formulation here."""
    X, W = op.operand("X"), op.operand("W")
    Y = next(op.writes()) if op.type == "Conv" else op.operand("dY")
    rank = X.ndim - 2
    auto = op.attrs.get("auto_pad", "NOTSET")
    if rank != 2 or op.attrs["group"] != 1 or X.dtype != F32 or auto not in ("NOTSET", "VALID"):
        return None
    if 0 in (*X.shape, *W.shape, *Y.shape):
        return None
    ones, none = [1] * rank, [0] * 2 * rank
    pads = (op.attrs.get("pads") if auto == "NOTSET" else None) or none
    return Sizes(
        n=X.shape[0], c=X.shape[1], m=W.shape[0],
        i=_pair(X.shape[2:]), k=_pair(W.shape[2:]), o=_pair(Y.shape[2:]),
        stride=_pair(op.attrs.get("strides") or ones),
        dilation=_pair(op.attrs.get("dilations") or ones),
        head=_pair(pads[:rank]), tail=_pair(pads[rank:]),
    )  # fmt: skip


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]


def sure(op: Operator) -> Sizes:
    """The sizes of an op that has a formulation."""
    found = sizes(op)
    assert found is not None
    return found


def filled(channels: int, machine: Machine) -> int:
    """The channels of full blocks that hold so many."""
    return -(-channels // machine.block) * machine.block


def moved_cost(channels: int, area: int, machine: Machine) -> float:
    """What it costs to bring a tensor into blocks or back."""
    price = STAYS if channels % machine.block == 0 else MOVED
    return filled(channels, machine) * area * price


def read_cost(channels: int, area: int, machine: Machine) -> float:
    """What it costs to bring an input into blocks: one of fewer channels is read as it is."""
    return 0.0 if channels < machine.block else moved_cost(channels, area, machine)


def left_cost(s: Sizes, machine: Machine) -> float:
    """What it costs to be out of blocks where neighbours may be in them."""
    if not machine.block or s.c % machine.block or s.m % machine.block:
        return 0.0
    return s.n * (s.c * math.prod(s.i) + s.m * math.prod(s.o)) * LEAVES


def skips(s: Sizes, size: int) -> bool:
    """Whether X has full blocks of which strides leave some out."""
    return s.c % size == 0 and s.k == (1, 1) != s.stride and not any((*s.head, *s.tail))
