"""Comparisons and truth values. Results are bool; no gradient flows."""

from __future__ import annotations

import numpy as np

from graphopt.ir.model import arithmetic
from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, binary, named, pair, unary


def equal(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """x == y, elementwise        x, y: broadcast   result: bool.

    >>> equal(x, 0.0)
    <Variable equal_0 : bool[N, 4]>
    """
    return binary("Equal", x, y, name)


def greater_equal(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """x >= y, elementwise        x, y: broadcast."""
    return binary("GreaterOrEqual", x, y, name)


def greater_than(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """x > y, elementwise        x, y: broadcast."""
    return binary("Greater", x, y, name)


def isclose(
    x: TensorLike,
    y: TensorLike,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
    name: str | None = None,
) -> Variable:
    """|x - y| <= atol + rtol |y|, elementwise        x, y: broadcast   result: bool.

    Infinities of one sign are close, and with ``equal_nan`` NaN is close to NaN. ``rtol`` and
    ``atol`` are numbers.

    >>> isclose(x, 0.0)
    <Variable or_0 : bool[N, 4]>
    """
    left, right = pair("Sub", x, y)
    g = recorder(left, right)
    allowed = g.Add(g.Mul(g.Abs(right), g.const(rtol, left.dtype)), g.const(atol, left.dtype))
    near = g.LessOrEqual(g.Abs(g.Sub(left, right)), allowed)
    # An infinite y allows everything.
    close = g.Or(g.Equal(left, right), g.And(near, g.Not(g.IsInf(right))))
    if equal_nan:
        close = g.Or(close, g.And(g.IsNaN(left), g.IsNaN(right)))
    return named(close, name)


def isfinite(x: TensorLike, name: str | None = None) -> Variable:
    """Whether x is neither NaN nor infinite        x: [*n]."""
    g = recorder(x)
    x = as_variable(g, x)
    return named(g.Not(g.Or(g.IsNaN(x), g.IsInf(x))), name)


def isinf(x: TensorLike, name: str | None = None) -> Variable:
    """Whether x is infinite        x: [*n]."""
    return unary("IsInf", x, name)


def isnan(x: TensorLike, name: str | None = None) -> Variable:
    """Whether x is not a number        x: [*n]."""
    return unary("IsNaN", x, name)


def less_equal(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """x <= y, elementwise        x, y: broadcast."""
    return binary("LessOrEqual", x, y, name)


def less_than(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """x < y, elementwise        x, y: broadcast."""
    return binary("Less", x, y, name)


def logical_and(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """Whether x and y are both true (not 0)        x, y: broadcast."""
    g = recorder(x, y)
    return named(g.And(truth(g, x), truth(g, y)), name)


def logical_not(x: TensorLike, name: str | None = None) -> Variable:
    """Whether x is false (0)        x: [*n]."""
    g = recorder(x)
    return named(g.Not(truth(g, x)), name)


def logical_or(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """Whether x or y is true (not 0)        x, y: broadcast."""
    g = recorder(x, y)
    return named(g.Or(truth(g, x), truth(g, y)), name)


def logical_xor(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """Whether exactly one of x and y is true (not 0)        x, y: broadcast."""
    g = recorder(x, y)
    return named(g.Xor(truth(g, x), truth(g, y)), name)


def not_equal(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """x != y, elementwise        x, y: broadcast."""
    return named(arithmetic.unary("Not", equal(x, y)), name)


def truth(g: Tape, x: TensorLike) -> Variable:
    """x as bool: whether each element is not 0."""
    return cast_to(as_variable(g, x), np.dtype("?"))
