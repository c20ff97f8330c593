"""Reductions over one axis, a list of axes, or all."""

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
    """Whether every element over ``axis`` is true (not 0); by default over all dims.

    x: [*n]   result: bool[*n less axis], with 1 in its place if ``keepdim``

    >>> all(x > 0.0, axis=1)
    <Variable cast_1 : bool[N]>
    """
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
    """Whether x and y are close everywhere        x, y: broadcast   result: bool[].

    Close is |x - y| <= atol + rtol |y|, and NaN to NaN if ``equal_nan``.

    >>> allclose(x, 0.0)
    <Variable cast_1 : bool[]>
    """
    return all(isclose(x, y, rtol, atol, equal_nan), name=name)


def amax(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """The largest element over ``axis``, by default over all dims; equal ones share the gradient.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``

    >>> amax(x, axis=1)
    <Variable reducemax_0 : f32[N]>
    """
    g = recorder(x)
    return named(_reduced(g, "ReduceMax", as_variable(g, x), axis, keepdim), name)


def amin(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """The smallest element over ``axis``, by default over all dims; equal ones share the gradient.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``

    >>> amin(x, axis=1)
    <Variable reducemin_0 : f32[N]>
    """
    g = recorder(x)
    return named(_reduced(g, "ReduceMin", as_variable(g, x), axis, keepdim), name)


def any(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """Whether any element over ``axis`` is true (not 0); by default over all dims.

    x: [*n]   result: bool[*n less axis], with 1 in its place if ``keepdim``

    >>> any(x > 0.0, axis=1)
    <Variable cast_1 : bool[N]>
    """
    g = recorder(x)
    found = _reduced(g, "ReduceMax", cast_to(truth(g, x), np.dtype("i4")), axis, keepdim)
    return named(cast_to(found, np.dtype("?")), name)


def logsumexp(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """log sum exp x over ``axis``, by default over all dims; large x do not overflow.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``

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
    """The largest element over ``axis``, by default over all dims; equal ones share the gradient.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``

    >>> max(x, axis=1)
    <Variable reducemax_0 : f32[N]>
    """
    return amax(x, axis, keepdim, name)


def mean(
    x: TensorLike, axis: Axes = None, keepdim: bool = False, name: str | None = None
) -> Variable:
    """The mean over ``axis``, by default over all dims; of integers it is one, cut towards 0.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``

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
    """The smallest element over ``axis``, by default over all dims; equal ones share the gradient.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``

    >>> min(x, axis=1)
    <Variable reducemin_0 : f32[N]>
    """
    return amin(x, axis, keepdim, name)


def norm(
    x: TensorLike,
    p: float | str | None = None,
    axis: Axes = None,
    keepdim: bool = False,
    name: str | None = None,
) -> Variable:
    """(sum |x|^p)^(1/p) over ``axis``, by default over all dims.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``
    ``p`` is 2 unless given, also as "fro"; inf takes the largest |x|, -inf the smallest, and 0
    counts the elements that are not 0.

    >>> norm(x), norm(x, p=1, axis=-1)
    (<Variable sqrt_0 : f32[]>, <Variable reducesum_1 : f32[N]>)

    Raises:
        ArgumentError: ``p`` is a string other than "fro".
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
    """The product of the elements over ``axis``, by default over all dims.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``
    ``dtype`` is what x is cast to first.

    >>> prod(x, axis=1)
    <Variable reduceprod_0 : f32[N]>
    """
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
    """The standard deviation over ``axis``, by default over all dims: the root of ``var``.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``
    With ``unbiased`` the squares are divided by n - 1, else by n.

    >>> std(x, axis=0)
    <Variable sqrt_0 : f32[4]>
    """
    g = recorder(x)
    return named(g.Sqrt(var(x, axis, unbiased, keepdim)), name)


def sum(
    x: TensorLike,
    axis: Axes = None,
    dtype: DTypeLike | None = None,
    keepdim: bool = False,
    name: str | None = None,
) -> Variable:
    """The sum of the elements over ``axis``, by default over all dims.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``
    ``dtype`` is what x is cast to first; without it bool and i32 become i64.

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
    """The variance over ``axis``, by default over all dims: sum (x - mean)² / (n - 1).

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``
    Unless ``unbiased`` the sum is divided by n, the number of elements.

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
