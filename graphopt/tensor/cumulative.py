"""Running sums and products."""

from __future__ import annotations

import numpy as np

from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import DTypeLike, as_dtype
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, axis_of, named


def cumprod(
    x: TensorLike,
    dim: int | None = None,
    dtype: DTypeLike | None = None,
    name: str | None = None,
) -> Variable:
    """The product of all elements up to each one, along ``dim``        x, result: [*n].

    Without ``dim`` x is flattened first. ``dtype`` is what x is cast to first.

    >>> cumprod(x, dim=1)
    <Variable mul_1 : f32[N, 4]>
    """
    g = recorder(x)
    x, axis = _row(g, x, dim, dtype)
    known = x.shape[axis]
    return named(_by_mask(g, x, axis) if known == -1 else _by_doubling(g, x, axis, known), name)


def _by_doubling(g: Tape, x: Variable, axis: int, n: int) -> Variable:
    """After the step of length k every element is the product of 2 k; log n steps."""
    one, k, y = g.const(1, x.dtype), 1, x
    while k < n:
        before = g.Slice(y, [0], [n - k], [axis])
        y = g.Mul(y, g.Pad(before, [k, 0], one, [axis]))
        k *= 2
    return typed(y if k > 1 else g.Identity(y), x)


def _by_mask(g: Tape, x: Variable, axis: int) -> Variable:
    """Products of rows of a triangle; it has n times the elements of x, but n need not be known."""
    n, one = g.dim_of(x, axis), g.const(1, x.dtype)
    triangle = g.Trilu(g.Expand(g.const(True), g.dims(n, n)), upper=0)  # [n, n]
    last = g.Transpose(x, perm=[*(k for k in range(x.ndim) if k != axis), axis])  # [*m, n]
    factors = g.Where(triangle, g.Unsqueeze(last, [-2]), one)  # [*m, n, n]
    products = g.ReduceProd(factors, [-1], keepdims=0)
    back = [*range(x.ndim - 1)]
    back.insert(axis, x.ndim - 1)
    return typed(g.Transpose(products, perm=back), x)


def cumsum(
    x: TensorLike,
    axis: int | None = None,
    dtype: DTypeLike | None = None,
    name: str | None = None,
) -> Variable:
    """The sum of all elements up to each one, along ``axis``        x, result: [*n].

    Without ``axis`` x is flattened first. ``dtype`` is what x is cast to first.

    >>> cumsum(x, axis=1), cumsum(x).ndim
    (<Variable cumsum_0 : f32[N, 4]>, 1)
    """
    g = recorder(x)
    x, at = _row(g, x, axis, dtype)
    return named(g.CumSum(x, np.array(at)), name)


def _row(g: Tape, x: TensorLike, axis: int | None, dtype: DTypeLike | None) -> tuple[Variable, int]:
    """The operand in the wanted dtype, flattened where there is no axis; and the axis."""
    x = as_variable(g, x)
    x = x if dtype is None else cast_to(x, as_dtype(dtype))
    return (g.Reshape(x, [-1]), 0) if axis is None else (x, axis_of(x, axis))
