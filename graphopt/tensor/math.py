"""Elementwise mathematics; two operands are broadcast and promoted as in Paddle."""

from __future__ import annotations

import math

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.ir.model import arithmetic
from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import as_literal
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, binary, named, pair, unary


def abs(x: TensorLike, name: str | None = None) -> Variable:
    """|x|, whose gradient is 0 at 0        x: [*n]."""
    return unary("Abs", x, name)


def acos(x: TensorLike, name: str | None = None) -> Variable:
    """The angle in [0, π] whose cosine is x        x: [*n]."""
    return unary("Acos", x, name)


def add(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """x + y        x, y: broadcast.

    >>> add(x, 1.0)
    <Variable add_0 : f32[N, 4]>
    """
    return binary("Add", x, y, name)


def asin(x: TensorLike, name: str | None = None) -> Variable:
    """The angle in [-π/2, π/2] whose sine is x        x: [*n]."""
    return unary("Asin", x, name)


def atan(x: TensorLike, name: str | None = None) -> Variable:
    """The angle in (-π/2, π/2) whose tangent is x        x: [*n]."""
    return unary("Atan", x, name)


def atan2(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """The angle of the point (y, x) with the first axis, in (-π, π]; 0 at (0, 0).

    x, y: broadcast; x is the height, as in atan(x / y)

    >>> atan2(x, 1.0)
    <Variable add_0 : f32[N, 4]>
    """
    up, right = pair("Div", x, y)
    g = recorder(up, right)
    zero, one, half, full = (g.const(v, up.dtype) for v in (0.0, 1.0, math.pi / 2, math.pi))
    steep = g.Greater(g.Abs(up), g.Abs(right))
    least, most = g.Where(steep, right, up), g.Where(steep, up, right)
    angle = g.Atan(g.Div(least, g.Where(g.Equal(most, zero), one, most)))  # within ±π / 4
    turned = g.Where(steep, half, g.Where(g.Less(right, zero), full, zero))
    below = g.Less(up, zero)
    turned = g.Where(below, g.Neg(turned), turned)
    return named(g.Add(turned, g.Where(steep, g.Neg(angle), angle)), name)


def ceil(x: TensorLike, name: str | None = None) -> Variable:
    """The least integer not below x        x: [*n]."""
    return unary("Ceil", x, name)


def clip(
    x: TensorLike,
    min: TensorLike | None = None,
    max: TensorLike | None = None,
    name: str | None = None,
) -> Variable:
    """min(max(x, ``min``), ``max``); the gradient is 1 inside and on the bounds        x: [*n].

    A bound is a number or a Variable of one element; None is no bound.

    >>> clip(x, min=0.0)
    <Variable clip_0 : f32[N, 4]>

    Raises:
        ArgumentError: a bound has more than one element, or none.
    """
    g = recorder(x, min, max)
    x = as_variable(g, x)
    return named(g.Clip(x, _bound(x, min), _bound(x, max)), name)


def _bound(x: Variable, value: TensorLike | None) -> Variable | None:
    """A bound as a scalar of x's dtype."""
    if value is None:
        return None
    g = recorder(x, value)
    if not isinstance(value, Variable):
        number = as_literal(value)
        if number.size != 1:
            raise ArgumentError(f"clip: a bound is one number, not {value!r}", where=here())
        return g.const(number.reshape(()), x.dtype)
    bound = cast_to(value, x.dtype)
    return bound if bound.ndim == 0 else g.Reshape(bound, np.zeros(0, np.int64))


def cos(x: TensorLike, name: str | None = None) -> Variable:
    """Cosine of x        x: [*n]."""
    return unary("Cos", x, name)


def cosh(x: TensorLike, name: str | None = None) -> Variable:
    """Hyperbolic cosine of x        x: [*n]."""
    return unary("Cosh", x, name)


def divide(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """x / y; the quotient of integers is f32        x, y: broadcast."""
    return binary("Div", x, y, name, to_float=True)


def erf(x: TensorLike, name: str | None = None) -> Variable:
    """2/√π ∫₀ˣ exp(-t²) dt        x: [*n]."""
    return unary("Erf", x, name)


def exp(x: TensorLike, name: str | None = None) -> Variable:
    """The exponential of x        x: [*n]."""
    return unary("Exp", x, name)


def expm1(x: TensorLike, name: str | None = None) -> Variable:
    """exp(x) - 1, exact near 0        x: [*n]."""
    g = recorder(x)
    x = as_variable(g, x)
    one = g.const(1.0, x.dtype)
    near = g.Clip(x, g.const(-1.0, x.dtype), one)
    rounded = g.Exp(near)
    lost = g.Mul(rounded, g.Sub(near, g.Log(rounded)))  # what rounding took from the result
    lost.stop_gradient = True
    return named(g.Add(g.Sub(g.Exp(x), one), lost), name)


def floor(x: TensorLike, name: str | None = None) -> Variable:
    """The greatest integer not above x        x: [*n]."""
    return unary("Floor", x, name)


def floor_divide(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """floor(x / y), also for negative integers: -7 // 2 = -4        x, y: broadcast."""
    return named(arithmetic.floor_divide(*pair("Div", x, y)), name)


def fmax(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """The larger of x and y, or the one that is not NaN        x, y: broadcast.

    Of equal elements x gets the gradient.
    """
    left, right = pair("Max", x, y)
    g = recorder(left, right)
    wins = g.Or(g.GreaterOrEqual(left, right), g.IsNaN(right))
    return named(g.Where(wins, left, right), name)


def fmin(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """The smaller of x and y, or the one that is not NaN        x, y: broadcast.

    Of equal elements x gets the gradient.
    """
    left, right = pair("Min", x, y)
    g = recorder(left, right)
    wins = g.Or(g.LessOrEqual(left, right), g.IsNaN(right))
    return named(g.Where(wins, left, right), name)


def increment(x: Variable, value: float = 1.0, name: str | None = None) -> Variable:
    """x + ``value``, a number; a persistable ``x`` is assigned the sum        x: [*n].

    Raises:
        ArgumentTypeError: ``x`` is not a Variable.
    """
    if not isinstance(x, Variable):
        raise ArgumentTypeError(f"increment takes a Variable, not {x!r}", where=here())
    g = recorder(x)
    step = g.const(value, x.dtype)
    if not x.persistable:
        return named(g.Add(x, step), name)
    g.emit("Add", x, step, into=[x])
    return x


def lerp(x: TensorLike, y: TensorLike, weight: TensorLike, name: str | None = None) -> Variable:
    """x + weight (y - x); no gradient flows to ``weight``        x, y, weight: broadcast."""
    left, right = pair("Sub", y, x)
    weight = stopped(weight) if isinstance(weight, Variable) else weight
    step = binary("Mul", binary("Sub", left, right, None), weight, None)
    return binary("Add", right, step, name)


def stopped(x: Variable) -> Variable:
    """x without its gradient: x itself if none flows to it, else a copy where gradients stop."""
    if x.stop_gradient:
        return x
    copy: Variable = recorder(x).Identity(x)
    copy.stop_gradient = True
    return copy


def log(x: TensorLike, name: str | None = None) -> Variable:
    """Natural logarithm of x        x: [*n]."""
    return unary("Log", x, name)


def log10(x: TensorLike, name: str | None = None) -> Variable:
    """Logarithm of x to base 10        x: [*n]."""
    return named(arithmetic.binary("Mul", log(x), 1 / math.log(10)), name)


def log1p(x: TensorLike, name: str | None = None) -> Variable:
    """log(1 + x), exact near 0        x: [*n]."""
    g = recorder(x)
    x = as_variable(g, x)
    one = g.const(1.0, x.dtype)
    near = g.Clip(x, g.const(-1.0, x.dtype), one)
    lost = g.Sub(near, g.Sub(g.Add(near, one), one))  # what rounding took from 1 + x
    lost.stop_gradient = True
    return named(g.Add(g.Log(g.Add(x, one)), lost), name)


def log2(x: TensorLike, name: str | None = None) -> Variable:
    """Logarithm of x to base 2        x: [*n]."""
    return named(arithmetic.binary("Mul", log(x), 1 / math.log(2)), name)


def maximum(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """The larger of x and y; equal elements share the gradient        x, y: broadcast."""
    return binary("Max", x, y, name)


def minimum(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """The smaller of x and y; equal elements share the gradient        x, y: broadcast."""
    return binary("Min", x, y, name)


def mod(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """The remainder of x / y, with the sign of y: -5 mod 3 = 1        x, y: broadcast."""
    return named(arithmetic.modulo(*pair("Mod", x, y)), name)


remainder = floor_mod = mod


def multiply(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """The product x y        x, y: broadcast."""
    return binary("Mul", x, y, name)


def neg(x: TensorLike, name: str | None = None) -> Variable:
    """-x        x: [*n]."""
    return unary("Neg", x, name)


def pow(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """x to the power of y        x, y: broadcast.

    >>> pow(x, 2)
    <Variable pow_0 : f32[N, 4]>
    """
    return binary("Pow", x, y, name)


def reciprocal(x: TensorLike, name: str | None = None) -> Variable:
    """1 / x        x: [*n]."""
    return unary("Reciprocal", x, name)


def round(x: TensorLike, decimals: int = 0, name: str | None = None) -> Variable:
    """x rounded to so many ``decimals``; of two that are equally near the even one: 2.5 to 2.

    x: [*n]
    """
    if not decimals:
        return unary("Round", x, name)
    g = recorder(x)
    x = as_variable(g, x)
    scale = g.const(10.0**decimals, x.dtype)
    return named(g.Div(g.Round(g.Mul(x, scale)), scale), name)


def rsqrt(x: TensorLike, name: str | None = None) -> Variable:
    """1 / √x        x: [*n]."""
    return unary("Reciprocal", sqrt(x), name)


def scale(
    x: TensorLike,
    scale: TensorLike = 1.0,
    bias: float = 0.0,
    bias_after_scale: bool = True,
    act: str | None = None,
    name: str | None = None,
) -> Variable:
    """scale x + bias; or scale (x + bias) if not ``bias_after_scale``        x: [*n].

    ``scale`` is a number or a Variable, ``bias`` a number. ``act`` is accepted as in Paddle and not
    used.

    >>> scale(x, scale=2.0, bias=0.5)
    <Variable add_0 : f32[N, 4]>
    """
    g = recorder(x, scale)
    x = as_variable(g, x)
    factor = cast_to(scale, x.dtype) if isinstance(scale, Variable) else g.const(scale, x.dtype)
    shift = g.const(bias, x.dtype)
    if not bias_after_scale:
        return named(g.Mul(g.Add(x, shift), factor), name)
    scaled = g.Mul(x, factor)
    return named(g.Add(scaled, shift) if bias else scaled, name)


def sign(x: TensorLike, name: str | None = None) -> Variable:
    """-1, 0 or 1, as x is negative, 0 or positive        x: [*n]."""
    return unary("Sign", x, name)


def sin(x: TensorLike, name: str | None = None) -> Variable:
    """Sine of x        x: [*n]."""
    return unary("Sin", x, name)


def sinh(x: TensorLike, name: str | None = None) -> Variable:
    """Hyperbolic sine of x        x: [*n]."""
    return unary("Sinh", x, name)


def sqrt(x: TensorLike, name: str | None = None) -> Variable:
    """√x        x: [*n]."""
    return unary("Sqrt", x, name)


def square(x: TensorLike, name: str | None = None) -> Variable:
    """x²        x: [*n].

    >>> square(x)
    <Variable mul_0 : f32[N, 4]>
    """
    return binary("Mul", x, x, name)


def subtract(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """The difference x - y        x, y: broadcast."""
    return binary("Sub", x, y, name)


def tan(x: TensorLike, name: str | None = None) -> Variable:
    """Tangent of x        x: [*n]."""
    return unary("Tan", x, name)


def tanh(x: TensorLike, name: str | None = None) -> Variable:
    """Hyperbolic tangent of x        x: [*n].

    >>> tanh(x)
    <Variable tanh_0 : f32[N, 4]>
    """
    return unary("Tanh", x, name)


def trunc(input: TensorLike, name: str | None = None) -> Variable:
    """The nearest integer towards 0        input: [*n]."""
    g = recorder(input)
    x = as_variable(g, input)
    return named(g.Mul(g.Sign(x), g.Floor(g.Abs(x))), name)
