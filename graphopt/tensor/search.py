"""Elements by index, by order and by condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np

from graphopt.errors import ArgumentError
from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import DTypeLike, as_dtype
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.logic import truth
from graphopt.tensor.operands import (
    Ints,
    TensorLike,
    as_variable,
    axis_of,
    int_vector,
    named,
    need_rank,
    pair,
)
from graphopt.tensor.placement import index_along


def argmax(
    x: TensorLike,
    axis: int | None = None,
    keepdim: bool = False,
    dtype: DTypeLike = "int64",
    name: str | None = None,
) -> Variable:
    """The index of the largest element along ``axis``, the first of equal ones.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``; i64 unless ``dtype`` says
    Without ``axis`` it is the index in the flattened x.

    >>> argmax(x, axis=1)
    <Variable argmax_0 : i64[N]>
    """
    return named(_extreme("ArgMax", x, axis, keepdim, dtype), name)


def argmin(
    x: TensorLike,
    axis: int | None = None,
    keepdim: bool = False,
    dtype: DTypeLike = "int64",
    name: str | None = None,
) -> Variable:
    """The index of the smallest element along ``axis``, the first of equal ones.

    x: [*n]   result: [*n less axis], with 1 in its place if ``keepdim``; i64 unless ``dtype`` says
    Without ``axis`` it is the index in the flattened x.

    >>> argmin(x, axis=1)
    <Variable argmin_0 : i64[N]>
    """
    return named(_extreme("ArgMin", x, axis, keepdim, dtype), name)


def _extreme(
    type: str, x: TensorLike, axis: int | None, keepdim: bool, dtype: DTypeLike
) -> Variable:
    g = recorder(x)
    x = as_variable(g, x)
    if axis is not None:
        found = g.emit(type, x, axis=axis_of(x, axis), keepdims=int(keepdim))
    else:
        found = g.emit(type, g.Reshape(x, [-1]), axis=0, keepdims=int(keepdim))
        found = g.Reshape(found, [1] * x.ndim) if keepdim and x.ndim != 1 else found
    return cast_to(found, as_dtype(dtype))


def argsort(
    x: TensorLike,
    axis: int = -1,
    descending: bool = False,
    stable: bool = False,
    name: str | None = None,
) -> Variable:
    """The indices that sort ``x`` along ``axis``        x: [*n]   result: i64[*n].

    ``descending`` puts the largest first. Equal elements keep their order, with ``stable`` or not.

    >>> argsort(x, axis=1)
    <Variable topk_1 : i64[N, 4]>
    """
    g = recorder(x)
    return named(_sorted(g, as_variable(g, x), axis, descending)[1], name)


def _sorted(g: Tape, x: Variable, axis: int, descending: bool) -> tuple[Variable, Variable]:
    at = axis_of(x, axis)
    values, indices = g.emit(
        "TopK", x, g.dim_of(x, at), outputs=2, axis=at, largest=int(descending)
    )
    return typed(values, x), typed(indices, x)


def gather(
    x: TensorLike, index: TensorLike, axis: int | None = None, name: str | None = None
) -> Variable:
    """The slices of ``x`` at ``index`` along ``axis``, by default 0.

    x: [*n]   index: int[k] or int[k, 1]   result: [*n] with k in place of the axis

    >>> gather(x, [2, 0], axis=1)
    <Variable gather_0 : f32[N, 2]>

    Raises:
        ArgumentError: ``index`` has more than two dims.
    """
    g = recorder(x, index)
    x, at = as_variable(g, x), as_variable(g, index)
    need_rank(at, "gather: index", 0, 1, 2)
    at = g.Squeeze(at, [1]) if at.ndim == 2 else at
    return named(g.Gather(x, at, axis=axis_of(x, 0 if axis is None else axis)), name)


def gather_nd(x: TensorLike, index: TensorLike, name: str | None = None) -> Variable:
    """The elements or slices of ``x`` at places in its first d dims.

    x: [*n, *s]   index: int[*k, d], a place in *n each   result: [*k, *s]

    >>> gather_nd(image, [[0, 1], [0, 2]])
    <Variable gathernd_0 : f32[2, 8, 8]>
    """
    g = recorder(x, index)
    at = cast_to(as_variable(g, index), np.dtype("i8"))
    return named(g.GatherND(as_variable(g, x), at), name)


def index_sample(x: TensorLike, index: TensorLike) -> Variable:
    """y[i, j] = x[i, index[i, j]]        x: [n, m]   index: int[n, k]   result: [n, k].

    >>> index_sample(x, [[0, 3], [2, 2]])
    <Variable gatherelements_0 : f32[2, 2]>

    Raises:
        ArgumentError: ``x`` or ``index`` does not have two dims.
    """
    g = recorder(x, index)
    x, at = as_variable(g, x), as_variable(g, index)
    need_rank(x, "index_sample", 2)
    need_rank(at, "index_sample: index", 2)
    return named(g.GatherElements(x, at, axis=1), None)


def index_select(
    x: TensorLike, index: TensorLike, axis: int = 0, name: str | None = None
) -> Variable:
    """The slices of ``x`` at ``index`` along ``axis``        x: [*n]   index: int[k].

    >>> index_select(x, [2, 0], axis=1)
    <Variable gather_0 : f32[N, 2]>

    Raises:
        ArgumentError: ``index`` does not have one dim.
    """
    g = recorder(x, index)
    x, at = as_variable(g, x), as_variable(g, index)
    need_rank(at, "index_select: index", 1)
    return named(g.Gather(x, at, axis=axis_of(x, axis)), name)


@overload
def nonzero(x: TensorLike, as_tuple: Literal[False] = False) -> Variable: ...


@overload
def nonzero(x: TensorLike, as_tuple: Literal[True]) -> tuple[Variable, ...]: ...


def nonzero(x: TensorLike, as_tuple: bool = False) -> Variable | tuple[Variable, ...]:
    """The places of the elements of ``x`` that are not 0        x: [*n]   result: i64[k, rank].

    With ``as_tuple`` there is one i64[k, 1] for each dim.

    >>> len(nonzero(x, as_tuple=True))
    2
    """
    g = recorder(x)
    x = as_variable(g, x)
    found: Variable = g.Transpose(g.NonZero(x))  # [k, rank]
    if not as_tuple:
        return found
    return tuple(g.Gather(found, [k], axis=1) for k in range(x.ndim))


def slice(input: TensorLike, axes: Sequence[int], starts: Ints, ends: Ints) -> Variable:
    """The elements input[starts:ends] along ``axes``        input: [*n].

    ``starts`` and ``ends`` have a number, or a Variable of one, for each of ``axes``; negative ones
    count from the end, and those beyond the end stand for it.

    >>> slice(x, axes=[1], starts=[1], ends=[3])
    <Variable slice_0 : f32[N, 2]>
    """
    return strided_slice(input, axes, starts, ends, [1] * len(axes))


def sort(
    x: TensorLike,
    axis: int = -1,
    descending: bool = False,
    stable: bool = False,
    name: str | None = None,
) -> Variable:
    """The elements of ``x`` in ascending order along ``axis``        x, result: [*n].

    ``descending`` puts the largest first. Equal elements keep their order, with ``stable`` or not.

    >>> sort(x, axis=1)
    <Variable topk_0 : f32[N, 4]>
    """
    g = recorder(x)
    return named(_sorted(g, as_variable(g, x), axis, descending)[0], name)


def strided_slice(
    x: TensorLike,
    axes: Sequence[int],
    starts: Ints,
    ends: Ints,
    strides: Ints,
    name: str | None = None,
) -> Variable:
    """The elements x[starts:ends:strides] along ``axes``        x: [*n].

    ``starts``, ``ends`` and ``strides`` have a number, or a Variable of one, for each of ``axes``;
    negative ``starts`` and ``ends`` count from the end.

    >>> strided_slice(x, axes=[1], starts=[0], ends=[4], strides=[2])
    <Variable slice_0 : f32[N, 2]>
    """
    bounds = [starts, ends, strides]
    g = recorder(x, *[v for b in bounds for v in (b if isinstance(b, (list, tuple)) else [b])])
    x = as_variable(g, x)
    at = np.array([axis_of(x, a) for a in axes], np.int64)
    first, last, step = (int_vector(g, b) for b in bounds)
    return named(g.Slice(x, first, last, at, step), name)


def take_along_axis(
    arr: TensorLike, indices: TensorLike, axis: int, broadcast: bool = True
) -> Variable:
    """The elements of ``arr`` at ``indices`` along ``axis``.

    For axis 1 it is y[i, j] = arr[i, indices[i, j]].
    indices: arr's shape but for that axis   result: that of indices
    With ``broadcast`` dims of size 1 are repeated in either.

    >>> take_along_axis([[1.0, 2.0], [3.0, 4.0]], [[0]], axis=1)
    <Variable gatherelements_0 : f32[2, 1]>
    """
    g = recorder(arr, indices)
    x, index = as_variable(g, arr), as_variable(g, indices)
    at = axis_of(x, axis)
    if broadcast:
        x, index = index_along(g, x, index, at), index_along(g, index, x, at)
    return named(g.GatherElements(x, index, axis=at), None)


def topk(
    x: TensorLike,
    k: int | Variable,
    axis: int | None = None,
    largest: bool = True,
    sorted: bool = True,
    name: str | None = None,
) -> tuple[Variable, Variable]:
    """The ``k`` largest elements of ``x`` along ``axis``, and their indices.

    x: [*n]   results: [*n] and i64[*n] with k in place of the axis, by default the last
    Without ``largest`` they are the smallest. They come in order if ``sorted``.

    >>> topk(x, 2)
    (<Variable topk_0 : f32[N, 2]>, <Variable topk_1 : i64[N, 2]>)

    Raises:
        ArgumentError: ``k`` is not positive, or more than there are elements.
    """
    g = recorder(x, k)
    x = as_variable(g, x)
    at = axis_of(x, -1 if axis is None else axis)
    if isinstance(k, int) and not 0 < k <= (x.shape[at] if x.shape[at] != -1 else k):
        raise ArgumentError(
            f"topk: k cannot be {k}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix=f"give a k from 1 to the length of dim {at}",
        )
    values, indices = g.emit(
        "TopK", x, int_vector(g, k), outputs=2, axis=at, largest=int(largest), sorted=int(sorted)
    )
    return named(values, name), indices


@overload
def where(condition: TensorLike) -> tuple[Variable, ...]: ...


@overload
def where(
    condition: TensorLike, x: TensorLike, y: TensorLike, name: str | None = None
) -> Variable: ...


def where(
    condition: TensorLike,
    x: TensorLike | None = None,
    y: TensorLike | None = None,
    name: str | None = None,
) -> Variable | tuple[Variable, ...]:
    """``x`` where ``condition`` is true, else ``y``; without them the places where it is true.

    condition, x, y: broadcast   result: as they broadcast, or one i64[k, 1] for each dim

    >>> where(x > 0.0, x, 0.0)
    <Variable where_0 : f32[N, 4]>

    Raises:
        ArgumentError: only one of ``x`` and ``y`` is given.
    """
    if x is None and y is None:
        return nonzero(condition, as_tuple=True)
    if x is None or y is None:
        raise ArgumentError("where takes both x and y, or neither")
    g = recorder(condition, x, y)
    if not isinstance(x, Variable) and not isinstance(y, Variable):
        x = as_variable(g, x)
    left, right = pair("Where", x, y)
    return named(g.Where(truth(g, condition), left, right), name)
