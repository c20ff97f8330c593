"""Diagonals of matrices, and matrices from diagonals."""

from __future__ import annotations

import numpy as np

from graphopt.errors import ArgumentError
from graphopt.ir.model.tape import Operand, Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, axis_of, named, need_rank


def diag(
    x: TensorLike, offset: int = 0, padding_value: float = 0.0, name: str | None = None
) -> Variable:
    """A matrix with the vector ``x`` on a diagonal; or, of a matrix ``x``, its diagonal.

    x: [n] or [i, j]   result: [m, m] with m = n + |offset|, or [k]
    ``offset`` is 0 for the main diagonal, 1 for the one above it, -1 for the one below. What is not
    on the diagonal is ``padding_value``.

    >>> diag([1.0, 2.0], offset=1), diag(x[:4])
    (<Variable where_0 : f32[3, 3]>, <Variable gather_0 : f32[...]>)

    Raises:
        ArgumentError: ``x`` is neither a vector nor a matrix.
    """
    g = recorder(x)
    x = as_variable(g, x)
    need_rank(x, "diag", 1, 2)
    if x.ndim == 2:
        return diagonal(x, offset, name=name)
    after = g.Pad(x, [0, abs(offset)], g.const(0, x.dtype))  # [m]
    columns = _counted(g, after)
    on = g.Equal(g.Unsqueeze(columns, [0]), g.Add(g.Unsqueeze(columns, [1]), offset))  # [m, m]
    rows = g.Unsqueeze(after, [1 if offset > 0 else 0])
    return named(g.Where(on, rows, g.const(padding_value, x.dtype)), name)


def _counted(g: Tape, x: Variable) -> Variable:
    """0, 1, … below the length of x: i64[n]."""
    known = x.shape[0]
    return g.const(np.arange(known)) if known != -1 else g.Range(0, g.Size(x), 1)


def diagonal(
    x: TensorLike, offset: int = 0, axis1: int = 0, axis2: int = 1, name: str | None = None
) -> Variable:
    """The diagonals of matrices, as a new last dim        x: [*n, i, j]   result: [*n, k].

    The rows of the matrices are the dim ``axis1`` of x, their columns the dim ``axis2``, which may
    be any two. ``offset`` is 0 for the main diagonal, 1 for the one above it, -1 for the one below.

    >>> diagonal(image, axis1=2, axis2=3)
    <Variable gather_0 : f32[N, 3, 8]>

    Raises:
        ArgumentError: ``axis1`` and ``axis2`` are the same.
    """
    g = recorder(x)
    x = as_variable(g, x)
    down, right = axis_of(x, axis1), axis_of(x, axis2)
    if down == right:
        raise ArgumentError(f"diagonal: axis1 and axis2 are both {down}", where=here())
    places = _places(g, x, down, right, offset)
    others = [k for k in range(x.ndim) if k not in (down, right)]
    last = g.Transpose(x, perm=[*others, down, right])  # [*n, i, j]
    flat = g.reshape(last, *[0] * len(others), -1)  # [*n, i j]
    return named(g.Gather(flat, places, axis=-1), name)


def _places(g: Tape, x: Variable, down: int, right: int, offset: int) -> Operand:
    """Where the diagonal is in a flattened matrix: i64[k]."""
    rows, columns = x.shape[down], x.shape[right]
    above, left = max(offset, 0), max(-offset, 0)
    if -1 not in (rows, columns):
        known = max(min(rows - left, columns - above), 0)
        return left * columns + above + np.arange(known) * (columns + 1)
    i, j = (g.Squeeze(g.dim_of(x, axis), [0]) for axis in (down, right))
    count = g.Max(g.Min(g.Sub(i, left), g.Sub(j, above)), 0)
    steps = g.Mul(g.Range(0, count, 1), g.Add(j, 1))
    places: Variable = g.Add(steps, g.Add(g.Mul(j, left), above))
    return places
