"""One formula, two readings: on Python's floats, or as float64 ops of a tape.

A schedule writes its rate once, for ``Maths[N]``. N is float, or Traced: a scalar of a Program.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypeAlias, TypeVar

import numpy as np

from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable

F64 = np.dtype("f8")


class Traced:
    """A scalar of a tape under Python's arithmetic; each operator is one to three float64 ops."""

    __slots__ = ("g", "variable")

    def __init__(self, g: Tape, variable: Variable) -> None:
        self.g = g
        self.variable = variable

    def __add__(self, other: Scalar) -> Traced:
        return record(self.g, "Add", self, other)

    def __radd__(self, other: float) -> Traced:
        return record(self.g, "Add", other, self)

    def __sub__(self, other: Scalar) -> Traced:
        return record(self.g, "Sub", self, other)

    def __rsub__(self, other: float) -> Traced:
        return record(self.g, "Sub", other, self)

    def __mul__(self, other: Scalar) -> Traced:
        return record(self.g, "Mul", self, other)

    def __rmul__(self, other: float) -> Traced:
        return record(self.g, "Mul", other, self)

    def __truediv__(self, other: Scalar) -> Traced:
        return record(self.g, "Div", self, other)

    def __rtruediv__(self, other: float) -> Traced:
        return record(self.g, "Div", other, self)

    def __floordiv__(self, other: Scalar) -> Traced:
        return record(self.g, "Floor", self / other)

    def __mod__(self, other: Scalar) -> Traced:
        return self - self // other * other

    def __neg__(self) -> Traced:
        return record(self.g, "Neg", self)

    def __lt__(self, other: Scalar) -> Traced:
        return record(self.g, "Less", self, other)


Scalar: TypeAlias = float | Traced


def record(g: Tape, type: str, *operands: Scalar | Variable) -> Traced:
    """One op on scalars; numbers become float64 constants."""
    return Traced(g, g.emit(type, *[_operand(g, x) for x in operands]))


def _operand(g: Tape, x: Scalar | Variable) -> Variable:
    if isinstance(x, Traced):
        return x.variable
    return x if isinstance(x, Variable) else g.const(x, F64)


N = TypeVar("N", float, Traced)


class Maths(Protocol[N]):
    """What a formula may use besides operators."""

    def exp(self, x: N) -> N:
        """e^x."""

    def power(self, x: N | float, y: N | float) -> N:
        """x^y."""

    def least(self, x: N, y: N | float) -> N:
        """The smaller of two numbers."""

    def greatest(self, x: N, y: N | float) -> N:
        """The greater of two numbers."""

    def wave(self, t: N) -> N:
        """(1 + cos pi t) / 2: from 1 at t = 0 down to 0 at t = 1, and back."""

    def count(self, bounds: Sequence[float], x: N) -> N:
        """How many of the bounds are at most x."""

    def pick(self, values: Sequence[float], k: N) -> N:
        """values[k]."""


class OnFloats:
    """Formulas on Python's floats."""

    def exp(self, x: float) -> float:
        """e^x."""
        return math.exp(x)

    def power(self, x: float, y: float) -> float:
        """x^y."""
        return float(x**y)

    def least(self, x: float, y: float) -> float:
        """The smaller of two numbers."""
        return min(x, y)

    def greatest(self, x: float, y: float) -> float:
        """The greater of two numbers."""
        return max(x, y)

    def wave(self, t: float) -> float:
        """(1 + cos pi t) / 2."""
        return (1 + math.cos(math.pi * t)) / 2

    def count(self, bounds: Sequence[float], x: float) -> float:
        """How many of the bounds are at most x."""
        return sum(bound <= x for bound in bounds)

    def pick(self, values: Sequence[float], k: float) -> float:
        """values[k]."""
        return values[int(k)]


class OnTape:
    """Formulas as ops."""

    def __init__(self, g: Tape) -> None:
        self.g = g

    def exp(self, x: Traced) -> Traced:
        """e^x."""
        return record(self.g, "Exp", x)

    def power(self, x: Scalar, y: Scalar) -> Traced:
        """x^y."""
        return record(self.g, "Pow", x, y)

    def least(self, x: Traced, y: Scalar) -> Traced:
        """The smaller of two numbers."""
        return record(self.g, "Min", x, y)

    def greatest(self, x: Traced, y: Scalar) -> Traced:
        """The greater of two numbers."""
        return record(self.g, "Max", x, y)

    def wave(self, t: Traced) -> Traced:
        """(1 + cos pi t) / 2."""
        # onnxruntime 1.20 has a float64 kernel for Sin, not for Cos.
        return (record(self.g, "Sin", math.pi * (t + 0.5)) + 1) / 2

    def where(self, test: Traced, x: Traced, y: Traced) -> Traced:
        """x where the test holds, else y."""
        return record(self.g, "Where", test, x, y)

    def count(self, bounds: Sequence[float], x: Traced) -> Traced:
        """How many of the bounds are at most x."""
        passed = self.g.LessOrEqual(self.g.const(np.array(bounds, F64)), x.variable)  # [k]
        return Traced(self.g, self.g.ReduceSum(self.g.cast(passed, F64), keepdims=0))

    def pick(self, values: Sequence[float], k: Traced) -> Traced:
        """values[k]."""
        table = self.g.const(np.array(values, F64))  # [n]
        return record(self.g, "Gather", table, self.g.cast(k.variable, np.dtype("i8")))
