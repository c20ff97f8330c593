"""Tensors repeated along dims."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.errors import ArgumentError, ShapeError
from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import Dim
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.operands import (
    Ints,
    ShapeLike,
    TensorLike,
    as_variable,
    axis_of,
    dims_of,
    int_vector,
    items_of,
    named,
    with_dims,
)


def broadcast_to(x: TensorLike, shape: ShapeLike, name: str | None = None) -> Variable:
    """``x`` repeated along dims of size 1, or new ones in front, to ``shape``; -1 keeps a dim.

    x: broadcasts to shape

    >>> broadcast_to(x, [3, -1, 4])
    <Variable expand_0 : f32[3, N, 4]>

    Raises:
        ShapeError: a dim of ``x`` is neither 1 nor the one in ``shape``.
    """
    return expand(x, shape, name)


def expand(x: TensorLike, shape: ShapeLike, name: str | None = None) -> Variable:
    """``x`` repeated along dims of size 1, or new ones in front, to ``shape``; -1 keeps a dim.

    x: broadcasts to shape

    >>> expand(x, [3, -1, 4])
    <Variable expand_0 : f32[3, N, 4]>

    Raises:
        ShapeError: a dim of ``x`` is neither 1 nor the one in ``shape``.
    """
    g = recorder(x, *items_of(shape))
    x = as_variable(g, x)
    _check_expands(x, dims_of(shape))
    if isinstance(shape, (list, tuple)):
        shape = [1 if isinstance(d, int) and d == -1 else d for d in shape]
    y = g.Expand(x, int_vector(g, shape))
    dims = dims_of(shape)
    return named(with_dims(y, dims and [None if d == 1 else d for d in dims]), name)


def expand_as(x: TensorLike, y: Variable, name: str | None = None) -> Variable:
    """``x`` repeated along dims of size 1 to the shape of ``y``        x: broadcasts to y.

    >>> expand_as([1.0], x)
    <Variable expand_0 : f32[N, 4]>

    Raises:
        ShapeError: a dim of ``x`` is neither 1 nor that of ``y``.
    """
    g = recorder(x, y)
    x = as_variable(g, x)
    _check_expands(x, y.tensor_type.shape)
    return named(g.expand_like(x, y), name)


def _check_expands(x: Variable, target: Sequence[Dim | None] | None) -> None:
    """Refuse a shape that x does not expand to: the result would have another one.

    None and -1 in ``target`` are dims of any size; a symbol is one too, unless x has the same.
    """
    own = x.tensor_type.shape
    if own is None or target is None:
        return
    pairs = zip(reversed(own), reversed(target), strict=False)
    if len(target) >= len(own) and all(_expands(dim, wanted) for dim, wanted in pairs):
        return
    raise ShapeError(
        f"{x.name} cannot be expanded to [{', '.join(map(str, target))}]",
        operands=[(x.name, x.tensor_type)],
        where=here(),
        fix="only dims of size 1 expand: reshape it first",
    )


def _expands(dim: Dim, wanted: Dim | None) -> bool:
    if dim == 1 or dim == wanted or wanted in (-1, None):
        return True
    # a symbol may turn out to be what is wanted, but never 1: nothing shrinks
    return isinstance(dim, str) != isinstance(wanted, str) and wanted != 1


def repeat_interleave(
    x: TensorLike,
    repeats: int | Variable | Sequence[int],
    axis: int | None = None,
    name: str | None = None,
) -> Variable:
    """Each slice of ``x`` along ``axis`` repeated in a row; without ``axis`` x is flattened first.

    x: [*n]   repeats: one int, or one per slice (a list, or int[n])

    >>> repeat_interleave(x, 2, axis=1), repeat_interleave(x, [1, 0, 0, 2], axis=1)
    (<Variable reshape_0 : f32[N, 8]>, <Variable gather_0 : f32[N, 3]>)

    Raises:
        ArgumentError: ``repeats`` are not as many as the slices, or one is negative.
    """
    g = recorder(x, repeats)
    x = as_variable(g, x)
    if axis is None and x.ndim != 1:
        x = g.Reshape(x, [-1])
    at = axis_of(x, 0 if axis is None else axis)
    if isinstance(repeats, Constant):
        repeats = repeats.value.reshape(-1).tolist()
    if isinstance(repeats, Variable):
        return named(g.Gather(x, _repeated_rows(g, repeats), axis=at), name)
    times = [repeats] if isinstance(repeats, int) else list(repeats)
    _check_repeats(x, at, times)
    if len(times) == 1:
        return named(_each_repeated(g, x, times[0], at), name)
    return named(g.Gather(x, np.repeat(np.arange(len(times)), times), axis=at), name)


def _check_repeats(x: Variable, axis: int, times: list[int]) -> None:
    if min(times, default=-1) < 0 or (len(times) > 1 and x.shape[axis] not in (-1, len(times))):
        raise ArgumentError(
            f"repeat_interleave: repeats {times} do not fit axis {axis} of {x.name}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="give one int from 0 up, or one per slice",
        )


def _each_repeated(g: Tape, x: Variable, times: int, axis: int) -> Variable:
    """x with every slice repeated equally often: a new dim behind ``axis``, merged into it."""
    dims: list[Variable] = [g.dim_of(x, k) for k in range(x.ndim)]
    sizes = g.dims(*dims[: axis + 1], times, *dims[axis + 1 :])
    spread = g.Expand(g.Unsqueeze(x, [axis + 1]), sizes)
    known = x.shape[axis]
    dims[axis] = g.const([known * times]) if known != -1 else g.Mul(dims[axis], times)
    shape = x.tensor_type.shape or ()
    merged = None if known == -1 else known * times
    y = g.Reshape(spread, g.dims(*dims))
    return with_dims(y, [*shape[:axis], merged, *shape[axis + 1 :]])


def _repeated_rows(g: Tape, repeats: Variable) -> Variable:
    """0 repeats[0] times, 1 repeats[1] times, …        repeats: int[n]   result: i64[sum]."""
    ends = g.CumSum(cast_to(repeats, np.dtype("i8")), np.array(0))  # [n]
    total = g.Squeeze(g.Slice(ends, [-1], [np.iinfo(np.int64).max]), [0])
    place = g.Unsqueeze(g.Range(0, total, 1), [1])  # [sum, 1]
    passed = g.cast(g.GreaterOrEqual(place, ends), np.dtype("i8"))  # [sum, n]
    rows: Variable = g.ReduceSum(passed, [1], keepdims=0)
    return rows


def tile(x: TensorLike, repeat_times: Ints, name: str | None = None) -> Variable:
    """``x`` as a whole repeated ``repeat_times`` along each dim        x: [*n].

    ``repeat_times`` has an int for each dim, or for the last ones; for more dims than x has, x gets
    new ones in front.

    >>> tile(x, [1, 2])
    <Variable tile_0 : f32[N, 8]>
    """
    g = recorder(x, *items_of(repeat_times))
    x = as_variable(g, x)
    times = dims_of(repeat_times)
    if times is not None and len(times) > x.ndim:
        x = g.Unsqueeze(x, [*range(len(times) - x.ndim)])
    if times is not None and len(times) < x.ndim:
        repeat_times = [*[1] * (x.ndim - len(times)), *items_of(repeat_times)]  # type: ignore[list-item]
    y = g.Tile(x, int_vector(g, repeat_times))
    once = [n == 1 for n in dims_of(repeat_times) or ()]
    kept = [d if o else None for d, o in zip(x.tensor_type.shape or (), once, strict=False)]
    return named(with_dims(y, kept), name)
