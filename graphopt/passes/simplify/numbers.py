"""Rules of elementwise arithmetic."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import TensorType, to_onnx_dtype
from graphopt.passes.engine.patterns import (
    Becomes,
    Site,
    first,
    result_of,
    rule,
    same_shape,
    same_type,
    scalar,
    spreads,
)

FLOAT_KINDS = (np.dtype("f4"), np.dtype("f8"))


@rule("Sum")
def sum_of_two(s: Site, op: Operator) -> Becomes | None:
    """Sum(x, y) = Add(x, y)."""
    return Becomes("Add", tuple(op.inputs)) if len(op.inputs) == 2 else None


@rule("Add", "Sub")
def plus_zero(s: Site, op: Operator) -> Variable | None:
    """Add(x, 0) = Add(0, x) = Sub(x, 0) = x."""
    return _without(op, 0, op.type == "Add")


@rule("Div", "Mul", "Pow")
def times_one(s: Site, op: Operator) -> Variable | None:
    """Mul(x, 1) = Mul(1, x) = Div(x, 1) = Pow(x, 1) = x."""
    return _without(op, 1, op.type == "Mul")


def _without(op: Operator, neutral: int, either: bool) -> Variable | None:
    """The operand beside a neutral constant, if it has the result's type."""
    x, y = op.operands()
    for kept, other in ((x, y), (y, x))[: 1 + either]:
        if not isinstance(other, Constant) or not same_type(kept, result_of(op)):
            continue
        if scalar(other) == neutral:
            return kept
    return None


@rule("Add", "Div", "Max", "Min", "Mul", "Sub", "Where")
def one_number(s: Site, op: Operator) -> Becomes | None:
    """Mul(x, [c c …]) = Mul(x, c) where x has the whole shape."""
    wide = result_of(op).tensor_type.shape
    for k, v in enumerate(op.inputs):
        if not isinstance(v, Constant) or v.value.size < 2 or wide is None:
            continue
        others = [w for j, w in enumerate(op.inputs) if j != k and w is not None]
        if not any(w.tensor_type.shape == wide for w in others):
            continue
        if scalar(v) is not None and spreads(v.tensor_type.shape, wide):
            inputs = list(op.inputs)
            inputs[k] = factor(s, v.value.reshape(-1)[0], result_of(op), v.dtype)
            return Becomes(op.type, tuple(inputs), dict(op.attrs))
    return None


@rule("Neg")
def minus_minus(s: Site, op: Operator) -> Variable | None:
    """Neg(Neg(x)) = x."""
    inner = s.maker(first(op), "Neg")
    return first(inner) if inner else None


@rule("Add")
def plus_minus(s: Site, op: Operator) -> Becomes | None:
    """Add(x, Neg(y)) = Add(Neg(y), x) = Sub(x, y)."""
    x, y = op.operands()
    for kept, other in ((x, y), (y, x)):
        inner = s.maker(other, "Neg")
        if inner is not None:
            return Becomes("Sub", (kept, first(inner)))
    return None


@rule("Sub")
def minus_of_minus(s: Site, op: Operator) -> Becomes | None:
    """Sub(x, Neg(y)) = Add(x, y)."""
    x, y = op.operands()
    inner = s.maker(y, "Neg")
    if inner is None:
        return None
    return Becomes("Add", (x, first(inner)))


@rule("Div")
def times_inverse(s: Site, op: Operator) -> Becomes | None:
    """Div(x, c) = Mul(x, 1/c) for c a power of two: others round, and Floor would show it."""
    x, y = op.operands()
    if x.dtype not in FLOAT_KINDS or not is_number(y, x):
        return None
    c = scalar(y)
    if not c or not is_plain(c, x.dtype) or abs(math.frexp(c)[0]) != 0.5:
        return None
    return Becomes("Mul", (x, factor(s, 1 / c, x))) if is_plain(1 / c, x.dtype) else None


@rule("Neg")
def minus_scaled(s: Site, op: Operator) -> Becomes | None:
    """Neg(Mul(x, c)) = Mul(x, -c)."""
    found = scaled_once(s, first(op))
    if found is None:
        return None
    x, c = found
    return Becomes("Mul", (x, factor(s, -c, x)))


@rule("Mul")
def scaled_twice(s: Site, op: Operator) -> Becomes | None:
    """Mul(Mul(x, a), b) = Mul(x, ab) for scalars a, b."""
    outer = scaled(op)
    inner = None if outer is None else scaled_once(s, outer[0])
    if outer is None or inner is None:
        return None
    x, a = inner
    if not is_plain(a * outer[1], x.dtype):
        return None
    return Becomes("Mul", (x, factor(s, a * outer[1], x)))


@rule("Mul")
def scaled_minus(s: Site, op: Operator) -> Becomes | None:
    """Mul(Neg(x), c) = Mul(x, -c)."""
    found = scaled(op)
    inner = None if found is None else s.maker(found[0], "Neg")
    if found is None or inner is None:
        return None
    return Becomes("Mul", (first(inner), factor(s, -found[1], first(inner))))


@rule("Mul")
def scaled_mask(s: Site, op: Operator) -> Becomes | None:
    """Mul(Mul(x, c), Cast(m)) = Mul(x, Mul(Cast(m), c)) for a bool m: dropout, as its gradient."""
    for kept, other in (op.inputs, op.inputs[::-1]):
        mask, found = s.maker(other, "Cast"), scaled_once(s, kept)
        if found is None or mask is None or first(mask).dtype != np.bool_:
            continue
        x, c = found
        if other is None or not same_type(x, result_of(op)) or not same_type(x, other):
            continue
        return Becomes("Mul", (x, s.emit(op, "Mul", other, factor(s, c, x))))
    return None


@rule("Where")
def where_factor(s: Site, op: Operator) -> Becomes | None:
    """Where(m, c, 0) = Mul(Cast(m), c), which runtimes are quicker at; Where(m, 1, 0) = Cast(m)."""
    mask, x, y = op.operands()
    result = result_of(op)
    if result.dtype not in FLOAT_KINDS or not same_shape(mask, result):
        return None
    c = scalar(x) if is_number(x, mask) and is_number(y, mask) and scalar(y) == 0 else None
    if c is None or not is_plain(c, result.dtype):
        return None
    cast = {"to": to_onnx_dtype(result.dtype)}
    if c == 1:
        return Becomes("Cast", (mask,), cast)
    return Becomes("Mul", (s.emit(op, "Cast", mask, **cast), factor(s, c, result)))


@rule("Add")
def twice(s: Site, op: Operator) -> Becomes | None:
    """Add(x, x) = Mul(x, 2) for floats, so that factors meet."""
    x, y = op.operands()
    if x is not y or x.dtype not in FLOAT_KINDS:
        return None
    return Becomes("Mul", (x, factor(s, 2, x)))


def scaled(op: Operator) -> tuple[Variable, float] | None:
    """x and c, if the op is Mul(x, c) of floats and c a scalar."""
    x, y = op.operands()
    for kept, other in ((x, y), (y, x)):
        if kept.dtype in FLOAT_KINDS and is_number(other, kept):
            c = scalar(other)
            return (kept, c) if c is not None and is_plain(c, kept.dtype) else None
    return None


def scaled_once(s: Site, v: Variable | None) -> tuple[Variable, float] | None:
    """x and c, if v is Mul(x, c) and only one op needs it."""
    inner = s.maker(v, "Mul")
    if inner is None or v is None or not s.once(v):
        return None
    return scaled(inner)


def is_number(v: Variable, beside: Variable) -> bool:
    """Whether v is a constant of one element, and of no more dims than the variable beside it."""
    rank = beside.tensor_type.rank
    return isinstance(v, Constant) and v.value.size == 1 and (v.ndim == 0 or v.ndim <= (rank or 0))


def factor(s: Site, number: float, beside: Variable, dtype: np.dtype | None = None) -> Constant:
    """A constant of one element.

    onnxruntime is slow where a scalar of lower rank meets a last dim of 1.
    """
    shape = beside.tensor_type.shape or ()
    value = np.asarray(number, beside.dtype if dtype is None else dtype)
    return s.program.constant(value.reshape([1] * len(shape) if shape[-1:] == (1,) else []))


def is_plain(number: float, dtype: np.dtype) -> bool:
    """Whether a factor is finite and not so small that digits are lost."""
    return math.isfinite(number) and abs(number) >= float(np.finfo(dtype).tiny)


@rule("Pow")
def square(s: Site, op: Operator) -> Becomes | None:
    """Pow(x, 2) = Mul(x, x)."""
    x, y = op.operands()
    two = is_number(y, x) and scalar(y) == 2
    kind: TensorType = x.tensor_type
    return Becomes("Mul", (x, x)) if two and kind.is_float else None
