"""Reductions over one axis, a list of axes, or all (None)."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.tape import Operand, Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import FLOATS, DTypeLike, as_dtype
from graphopt.scoping import recorder
from graphopt.tensor.logic import isclose, truth
from graphopt.tensor.operands import Axes, TensorLike, as_variable, axes_of, choice, named


def all(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """Whether every element is true        x: [*n]   result: bool[*n less axes]."""
    g = recorder(x)
    found = _reduced(g, "ReduceMin", cast_to(truth(g, x), np.dtype("i4")), axis, keepdim)
    return named(cast_to(found, np.dtype("?")), name)


def allclose(
    x: TensorLike,
    y: TensorLike,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
    name: str | None = None,
) -> Variable:
    """Whether x and y are close everywhere; see isclose        x, y: broadcast   result: bool[]."""
    return all(isclose(x, y, rtol, atol, equal_nan), name=name)


def amax(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """The largest element; ties share the gradient        x: [*n]   result: [*n less axes]."""
    g = recorder(x)
    return named(_reduced(g, "ReduceMax", as_variable(g, x), axis, keepdim), name)


def amin(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """The smallest element; ties share the gradient        x: [*n]   result: [*n less axes]."""
    g = recorder(x)
    return named(_reduced(g, "ReduceMin", as_variable(g, x), axis, keepdim), name)


def any(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """Whether an element is true        x: [*n]   result: bool[*n less axes]."""
    g = recorder(x)
    found = _reduced(g, "ReduceMax", cast_to(truth(g, x), np.dtype("i4")), axis, keepdim)
    return named(cast_to(found, np.dtype("?")), name)


def logsumexp(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """Log sum exp x, safe for large x        x: [*n]   result: [*n less axes].

    >>> logsumexp(x, axis=-1)
    <Variable add_0 : f32[N]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    top = _reduced(g, "ReduceMax", x, axis, keepdim=True)
    top.stop_gradient = True  # it cancels out
    total = _reduced(g, "ReduceSum", g.Exp(g.Sub(x, top)), axis, keepdim)
    return named(g.Add(g.Log(total), _squeezed(g, top, axes_of(x, axis), keepdim)), name)


def _squeezed(g: Tape, x: Variable, axes: list[int] | None, keepdim: bool) -> Variable:
    """x, which has 1 in every reduced dim, with or without them."""
    if keepdim:
        return x
    squeezed: Variable = g.Squeeze(x, axes)
    return squeezed


def max(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """The largest element; ties share the gradient        x: [*n]   result: [*n less axes].

    >>> max(x, axis=1)
    <Variable reducemax_0 : f32[N]>
    """
    return amax(x, axis, keepdim, name)


def mean(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """The arithmetic mean; of integers cut to an integer        x: [*n]   result: [*n less axes].

    >>> mean(x), mean(x, axis=1, keepdim=True)
    (<Variable reducemean_0 : f32[]>, <Variable reducemean_1 : f32[N, 1]>)
    """
    g = recorder(x)
    x = as_variable(g, x)
    if x.dtype in FLOATS:
        return named(_reduced(g, "ReduceMean", x, axis, keepdim), name)
    total = _reduced(g, "ReduceSum", x, axis, keepdim)
    return named(g.Div(total, count(g, x, axis)), name)


def min(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """The smallest element; ties share the gradient        x: [*n]   result: [*n less axes]."""
    return amin(x, axis, keepdim, name)


def norm(
    x: TensorLike,
    p: float | str | None = None,
    axis: Axes = None,
    keepdim: bool = False,
    name: str | None = None,
) -> Variable:
    """(sum |x|^p)^(1/p); p is 2 (also "fro"), or ±inf        x: [*n]   result: [*n less axes].

    >>> norm(x), norm(x, p=1, axis=-1)
    (<Variable sqrt_0 : f32[]>, <Variable reducesum_1 : f32[N]>)
    """
    g = recorder(x)
    x = as_variable(g, x)
    if isinstance(p, str):
        choice("norm", "p", p, ["fro"])
    power = 2.0 if p is None or isinstance(p, str) else float(p)
    if power == 2.0:
        return named(g.Sqrt(_reduced(g, "ReduceSum", g.Mul(x, x), axis, keepdim)), name)
    size = g.Abs(x)
    if math.isinf(power):
        extreme = "ReduceMax" if power > 0 else "ReduceMin"
        return named(_reduced(g, extreme, size, axis, keepdim), name)
    if power == 0.0:
        size = g.Sign(size)  # how many are not 0
    if power in (0.0, 1.0):
        return named(_reduced(g, "ReduceSum", size, axis, keepdim), name)
    total = _reduced(g, "ReduceSum", g.Pow(size, power), axis, keepdim)
    return named(g.Pow(total, 1.0 / power), name)


def prod(
    x: TensorLike,
    axis: Axes = None,
    keepdim: bool = False,
    dtype: DTypeLike | None = None,
    name: str | None = None,
) -> Variable:
    """The product of the elements        x: [*n]   result: [*n less axes]."""
    g = recorder(x)
    x = as_variable(g, x)
    x = x if dtype is None else cast_to(x, as_dtype(dtype))
    return named(_reduced(g, "ReduceProd", x, axis, keepdim), name)


def std(
    x: TensorLike,
    axis: Axes = None,
    unbiased: bool = True,
    keepdim: bool = False,
    name: str | None = None,
) -> Variable:
    """The standard deviation, the root of ``var``        x: [*n]   result: [*n less axes]."""
    g = recorder(x)
    return named(g.Sqrt(var(x, axis, unbiased, keepdim)), name)


def sum(
    x: TensorLike,
    axis: Axes = None,
    dtype: DTypeLike | None = None,
    keepdim: bool = False,
    name: str | None = None,
) -> Variable:
    """The sum of the elements; of bool and i32 as i64        x: [*n]   result: [*n less axes].

    >>> sum(x, axis=[0, 1]), sum(x, axis=-1, keepdim=True)
    (<Variable reducesum_0 : f32[]>, <Variable reducesum_1 : f32[N, 1]>)
    """
    g = recorder(x)
    x = as_variable(g, x)
    if dtype is not None:
        x = cast_to(x, as_dtype(dtype))
    elif x.dtype in (np.dtype("?"), np.dtype("i4")):
        x = cast_to(x, np.dtype("i8"))
    return named(_reduced(g, "ReduceSum", x, axis, keepdim), name)


def var(
    x: TensorLike,
    axis: Axes = None,
    unbiased: bool = True,
    keepdim: bool = False,
    name: str | None = None,
) -> Variable:
    """Mean of (x - mean)², over n - 1 if unbiased        x: [*n]   result: [*n less axes].

    >>> var(x, axis=0)
    <Variable div_0 : f32[4]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    off = g.Sub(x, _reduced(g, "ReduceMean", x, axis, keepdim=True))
    total = _reduced(g, "ReduceSum", g.Mul(off, off), axis, keepdim)
    return named(g.Div(total, count(g, x, axis, less=int(unbiased))), name)


def count(g: Tape, x: Variable, axis: Axes, *, less: int = 0) -> Variable:
    """How many elements of x go into one of the result, minus ``less``, in x's dtype: []."""
    axes = axes_of(x, axis)
    axes = list(range(x.ndim)) if axes is None else axes
    dims = [(x.tensor_type.shape or ())[a] for a in axes]
    known = math.prod(d for d in dims if isinstance(d, int))
    open_axes = [a for a, d in zip(axes, dims, strict=True) if isinstance(d, str)]
    if not open_axes:
        return g.const(known - less, x.dtype)
    n: Variable = g.const(known)
    for a in open_axes:
        n = g.Mul(n, g.Squeeze(g.dim_of(x, a), [0]))
    return g.cast(g.Sub(n, less) if less else n, x.dtype)


def _reduced(g: Tape, type: str, x: Variable, axis: Axes, keepdim: bool) -> Variable:
    axes = axes_of(x, axis)
    operands: tuple[Operand, ...] = () if axes is None else (np.array(axes, np.int64),)
    result: Variable = g.emit(type, x, *operands, keepdims=int(keepdim))
    return result
