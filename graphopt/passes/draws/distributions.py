"""Distributions: random ops as functions of uniform bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Operand
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import to_onnx_dtype
from graphopt.passes.draws.bits import WORD, Bits, Keys

SINGLE, DOUBLE = np.dtype("f4"), np.dtype("f8")
ULP = 2.0**-32


def dropout(r: Bits, op: Operator, keys: Keys) -> None:
    """Y = mask X / (1 - ratio), mask: whether a number is at least ratio        X, Y: [*n]."""
    x, ratio = op.operand("data"), op.maybe("ratio")
    p = float(ratio.value) if isinstance(ratio, Constant) else 0.5
    threshold = np.array(min(round(p / ULP), 2**32 - 1), WORD)
    bits, mask = r.bits(next(keys), x), op.result("mask")
    if mask is None:
        mask = r.g.GreaterOrEqual(bits, threshold)
    else:
        _into(r, mask, "GreaterOrEqual", bits, threshold)
    scaled = r.g.Mul(x, r.g.full(1 / (1 - p) if p < 1 else 0.0, x))
    _into(r, op.result("output"), "Mul", scaled, r.g.cast(mask, x.dtype))


def uniform(r: Bits, op: Operator, keys: Keys) -> None:
    """Uniform in [low, high)."""
    dtype = next(op.writes()).dtype
    bits = r.bits(next(keys), shaped_like(op))
    _finish(r, op, _uniform_in(r, bits, op.attrs["low"], op.attrs["high"], dtype))


def normal(r: Bits, op: Operator, keys: Keys) -> None:
    """√(-2 ln u) cos(2π v) scale + mean, in float32. Box, Muller, 1958."""
    like = shaped_like(op)
    u = r.g.Add(r.g.Mul(r.g.cast(r.bits(next(keys), like), SINGLE), ULP), ULP / 2)  # (0, 1]
    radius = r.g.Sqrt(r.g.Mul(r.g.Log(u), -2.0))
    angle = r.g.Mul(r.g.cast(r.bits(next(keys), like), SINGLE), 2 * math.pi * ULP)
    z = r.g.Mul(radius, r.g.Cos(angle))
    _finish(r, op, r.g.Add(r.g.Mul(z, op.attrs["scale"]), op.attrs["mean"]))


def bernoulli(r: Bits, op: Operator, keys: Keys) -> None:
    """1 with the probability that the operand states, else 0."""
    p = op.operand("input")
    work = DOUBLE if p.dtype == DOUBLE else SINGLE
    u = _uniform_in(r, r.bits(next(keys), p), 0.0, 1.0, work)
    _finish(r, op, r.g.Less(u, r.g.cast(p, work)))


def _uniform_in(r: Bits, bits: Variable, low: float, high: float, dtype: np.dtype) -> Variable:
    """Uniform in [low, high), exactly so in ``dtype``."""
    work = DOUBLE if dtype == DOUBLE else SINGLE
    scaled = r.g.Add(r.g.Mul(r.g.cast(bits, work), (high - low) * ULP), low)
    found: Variable = r.g.Min(scaled, np.asarray(max(below(high, dtype), low), work))
    return found


def below(high: float, dtype: np.dtype) -> float:
    """The largest number of a dtype that is less than ``high``.

    >>> below(1.0, np.dtype("f8")), below(0.1, np.dtype("f2"))
    (0.9999999999999999, 0.09997...)
    """
    bound = np.asarray(high, dtype)
    if float(bound) >= high:
        bound = np.nextafter(bound, np.asarray(-np.inf, dtype))
    return float(bound)


def shaped_like(op: Operator) -> Variable:
    """The variable whose shape the op's result has: the operand, else the result itself."""
    return [*op.reads(), *op.writes()][0]


def _into(r: Bits, result: Variable | None, type: str, *operands: Operand, **attrs: Any) -> None:  # noqa: ANN401
    """Record the op that makes a result of the random op; the result keeps its type."""
    if result is not None:
        known = result.tensor_type
        r.g.emit(type, *operands, into=[result], **attrs)
        result.tensor_type = known


def _finish(r: Bits, op: Operator, drawn: Variable) -> None:
    """Make the op's result of what was drawn, in its dtype."""
    result = next(op.writes())
    _into(r, result, "Cast", drawn, to=to_onnx_dtype(result.dtype))


Distribution: TypeAlias = Callable[[Bits, Operator, Keys], None]
# The numbers that an element needs, and how they are drawn.
DISTRIBUTIONS: dict[str, tuple[int, Distribution]] = {
    "Bernoulli": (1, bernoulli),
    "Dropout": (1, dropout),
    "RandomNormal": (2, normal),
    "RandomNormalLike": (2, normal),
    "RandomUniform": (1, uniform),
    "RandomUniformLike": (1, uniform),
}
