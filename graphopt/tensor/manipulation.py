"""Tensors in other shapes, orders, pieces and dtypes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError, ShapeError
from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import integer
from graphopt.ir.types.types import DTypeLike, as_dtype
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.operands import (
    Axes,
    ShapeLike,
    TensorLike,
    as_variable,
    axes_of,
    axis_of,
    dims_of,
    int_vector,
    items_of,
    named,
    with_dims,
)

INT64_MIN = np.iinfo(np.int64).min


def cast(x: TensorLike, dtype: DTypeLike) -> Variable:
    """``x`` in another ``dtype``; floats lose their fraction on the way to integers        x: [*n].

    >>> cast(x, "int64")
    <Variable cast_0 : i64[N, 4]>
    """
    return cast_to(as_variable(recorder(x), x), as_dtype(dtype))


def chunk(x: TensorLike, chunks: int, axis: int = 0, name: str | None = None) -> list[Variable]:
    """``x`` cut into ``chunks`` equal pieces along ``axis``        x: [*n].

    Raises:
        ArgumentTypeError: ``chunks`` is not an int.
        ArgumentError: the dim cannot be cut into so many.
    """
    return split(x, chunks, axis, name)


def concat(x: Sequence[TensorLike], axis: int = 0, name: str | None = None) -> Variable:
    """Tensors joined along ``axis``        x: a list of tensors, alike in all dims but that one.

    >>> concat([x, x], axis=1)
    <Variable concat_0 : f32[N, 8]>

    Raises:
        ArgumentError: ``x`` is not a list or tuple, or is empty.
    """
    g, parts = _parts("concat", x)
    return named(g.Concat(*parts, axis=axis_of(parts[0], axis)), name)


def _parts(function: str, x: Sequence[TensorLike]) -> tuple[Tape, list[Variable]]:
    if not isinstance(x, (list, tuple)) or not x:
        raise ArgumentError(f"{function} takes a list of tensors, not {x!r}", where=here())
    g = recorder(*x)
    return g, [as_variable(g, v) for v in x]


def flatten(
    x: TensorLike, start_axis: int = 0, stop_axis: int = -1, name: str | None = None
) -> Variable:
    """The dims from ``start_axis`` to ``stop_axis``, both included, made one        x: [*n].

    >>> flatten(image, start_axis=1)
    <Variable reshape_0 : f32[N, 192]>

    Raises:
        ArgumentError: ``start_axis`` is behind ``stop_axis``.
    """
    g = recorder(x)
    x = as_variable(g, x)
    if x.ndim == 0:
        return named(g.Reshape(x, [1]), name)
    start, stop = axis_of(x, start_axis), axis_of(x, stop_axis)
    if start > stop:
        raise ArgumentError(
            f"flatten: start_axis {start_axis} is behind stop_axis {stop_axis}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
        )
    dims = x.tensor_type.shape or ()
    merged = [d for d in dims[start : stop + 1] if isinstance(d, int)]
    size = math.prod(merged) if len(merged) == stop + 1 - start else -1
    one_open = size != -1 and sum(isinstance(d, str) for d in dims[stop + 1 :]) == 1
    tail = [
        d if isinstance(d, int) else (-1 if one_open else g.dim_of(x, stop + 1 + k))
        for k, d in enumerate(dims[stop + 1 :])
    ]
    return reshape(x, [*[0] * start, size, *tail], name)


def flip(x: TensorLike, axis: int | Sequence[int], name: str | None = None) -> Variable:
    """The elements in reversed order along ``axis``, an int or a list of ints        x: [*n].

    >>> flip(x, axis=1)
    <Variable slice_0 : f32[N, 4]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    axes = axes_of(x, axis) or []
    n = len(axes)
    return named(g.Slice(x, [-1] * n, [INT64_MIN] * n, axes, [-1] * n), name)


def numel(x: TensorLike, name: str | None = None) -> Variable:
    """The number of elements as i64[]        x: [*n]."""
    g = recorder(x)
    return named(g.Size(as_variable(g, x)), name)


def reshape(x: TensorLike, shape: ShapeLike, name: str | None = None) -> Variable:
    """The elements of ``x``, in their order, in another ``shape``        x: [*n].

    One dim may be -1: what is left of the elements. A dim of 0 is that of x in the same place.

    >>> reshape(x, [-1, 2, 2]), reshape(x, x.shape)
    (<Variable reshape_0 : f32[N, 2, 2]>, <Variable reshape_1 : f32[N, 4]>)

    Raises:
        ArgumentError: ``shape`` has more than one -1, a dim below that, or a 0 where x has no dim.
        ShapeError: ``shape`` is for another number of elements.
    """
    g = recorder(x, *items_of(shape))
    x = as_variable(g, x)
    dims = dims_of(shape)
    if dims is not None:
        _check_reshape(x, dims)
    y = g.Reshape(x, int_vector(g, shape))
    return named(y if dims is None else with_dims(y, _result_dims(x, dims)), name)


def _result_dims(x: Variable, dims: Sequence[int | None]) -> list[int | str | None]:
    """The dims of the result; None where onnx or the run must tell.

    -1 is x's only open dim if the known ones agree: [N, 4] as [-1, 2, 2] is [N, 2, 2].
    """
    old = x.tensor_type.shape or ()
    new = [old[k] if d == 0 else (None if d == -1 else d) for k, d in enumerate(dims)]
    symbols = [d for d in old if isinstance(d, str)]
    left = [d for d in symbols if d not in new]
    sizes = [math.prod(d for d in shape if isinstance(d, int)) for shape in (old, new)]
    if None not in dims and len(left) == 1 and sizes[0] == sizes[1]:
        new = [left[0] if d is None else d for d in new]
    return new


def _check_reshape(x: Variable, dims: Sequence[int | None]) -> None:
    """Refuse what is no shape, or holds another number of elements."""
    operands = [(x.name, x.tensor_type), ("shape", [*dims])]
    wrong = [d for d in dims if d is not None and d < -1]
    copied = [k for k, d in enumerate(dims) if d == 0 and k >= x.ndim]
    if dims.count(-1) > 1 or wrong or copied:
        raise ArgumentError(
            f"{x.name} cannot be reshaped to {[*dims]}",
            operands=operands,
            where=here(),
            fix="use ints, one -1 at most, and 0 only where x has the dim",
        )
    sizes = [x.shape[k] if d == 0 else d for k, d in enumerate(dims)]
    if not x.tensor_type.is_static or None in sizes:
        return
    size = math.prod(d for d in sizes if d is not None and d != -1)
    elements = math.prod(x.shape)
    if elements != size and (-1 not in sizes or size == 0 or elements % size):
        raise ShapeError(
            f"{x.name} cannot be reshaped to {[*dims]}: it has {elements} elements",
            operands=operands,
            where=here(),
            fix="put -1 where the dim is to be worked out",
        )


def roll(
    x: TensorLike,
    shifts: int | Sequence[int],
    axis: Axes = None,
    name: str | None = None,
) -> Variable:
    """Elements moved by ``shifts`` along ``axis``; what leaves at one end comes in at the other.

    x: [*n]   shifts: an int, or one for each axis; without ``axis`` x is rolled as if it were flat

    >>> roll(x, 1, axis=1)
    <Variable concat_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: a shift is not an int.
        ArgumentError: there is not one shift for each axis.
    """
    g = recorder(x)
    x = as_variable(g, x)
    listed = shifts if isinstance(shifts, (list, tuple)) else [shifts]
    moves = [integer("roll: a shift", shift) for shift in listed]
    axes = [axis] if axis is None or isinstance(axis, int) else list(axis)
    if len(axes) != len(moves):
        raise ArgumentError(f"roll: {len(moves)} shifts for {len(axes)} axes", where=here())
    if axis is None:
        return named(g.reshape_like(_rolled(g, g.Reshape(x, [-1]), moves[0], 0), x), name)
    y = x
    for shift, a in zip(moves, axes, strict=True):
        y = _rolled(g, y, shift, axis_of(x, a))
    return named(y, name)


def _rolled(g: Tape, x: Variable, shift: int, axis: int) -> Variable:
    n = g.dim_of(x, axis)  # [1]
    known = x.shape[axis]
    cut: Variable = (
        g.const(np.array([-shift % known])) if known > 0 else g.Mod(g.const([-shift]), n)
    )
    head = g.Slice(x, [0], cut, [axis])
    tail = g.Slice(x, cut, n, [axis])
    y: Variable = g.Concat(tail, head, axis=axis)
    return typed(y, x)


def shape(input: TensorLike) -> Variable:
    """The shape as a tensor whose values the run knows        input: [*n]   result: i64[rank].

    >>> shape(x)
    <Variable shape_0 : i64[2]>
    """
    g = recorder(input)
    return named(g.Shape(as_variable(g, input)), None)


def split(
    x: TensorLike,
    num_or_sections: int | Sequence[int],
    axis: int = 0,
    name: str | None = None,
) -> list[Variable]:
    """``x`` cut into pieces along ``axis``        x: [*n].

    ``num_or_sections`` is a number of equal pieces, or a list of their sizes; one size may be -1:
    what is left.

    >>> split(x, [1, -1], axis=1)
    [<Variable split_0 : f32[N, 1]>, <Variable split_1 : f32[N, 3]>]

    Raises:
        ArgumentTypeError: ``num_or_sections`` is neither an int nor a list of ints.
        ArgumentError: the dim cannot be cut like this.
    """
    g = recorder(x)
    x = as_variable(g, x)
    at = axis_of(x, axis)
    dim = x.shape[at]
    asked = num_or_sections if isinstance(num_or_sections, (list, tuple)) else [num_or_sections]
    if not all(isinstance(size, int) for size in asked):
        raise ArgumentTypeError(
            f"split: num_or_sections is an int or a list of ints, not {num_or_sections!r}",
            where=here(),
        )
    if isinstance(num_or_sections, int):
        n = num_or_sections
        if n < 1 or (dim != -1 and dim % n):
            raise _uneven(x, at, f"into {n} equal pieces")
        pieces = g.emit("Split", x, outputs=n, axis=at, num_outputs=n)
    else:
        sizes = _sections(x, at, list(num_or_sections))
        n = len(sizes)
        rest = [g.Sub(g.dim_of(x, at), [sum(s for s in sizes if s != -1)])] if -1 in sizes else []
        wanted = [rest[0] if s == -1 else s for s in sizes]
        pieces = g.emit("Split", x, int_vector(g, wanted), outputs=n, axis=at)
    return [named(piece, name) for piece in ([pieces] if n == 1 else pieces)]


def _sections(x: Variable, axis: int, sizes: list[int]) -> list[int]:
    """The sizes of the pieces, -1 worked out where the dim is known."""
    dim, known = x.shape[axis], sum(s for s in sizes if s != -1)
    if sizes.count(-1) > 1 or (dim != -1 and (known > dim or (-1 not in sizes and known != dim))):
        raise _uneven(x, axis, f"into pieces of {sizes}")
    return [dim - known if s == -1 and dim != -1 else s for s in sizes]


def _uneven(x: Variable, axis: int, how: str) -> ArgumentError:
    return ArgumentError(
        f"{x.name} cannot be split {how} along axis {axis}",
        operands=[(x.name, x.tensor_type)],
        where=here(),
        fix="give sizes that add up to the dim; one may be -1",
    )


def squeeze(x: TensorLike, axis: Axes = None, name: str | None = None) -> Variable:
    """``x`` without dims of size 1: those among ``axis``, or all        x: [*n].

    ``axis`` is an int or a list of ints. A dim of another size stays; one of unknown size must turn
    out to be 1 if ``axis`` names it.

    >>> squeeze(x[:, :1], axis=1)
    <Variable squeeze_0 : f32[N]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    axes = axes_of(x, axis)
    if axes is None:
        gone = [k for k, d in enumerate(x.shape) if d == 1]
    else:
        gone = [k for k in axes if x.shape[k] in (1, -1)]
    return named(g.Squeeze(x, gone) if gone else x, name)


def stack(x: Sequence[TensorLike], axis: int = 0, name: str | None = None) -> Variable:
    """Tensors joined along a new dim, which is put in at ``axis``        x: a list of tensors [*n].

    >>> stack([x, x], axis=1)
    <Variable concat_0 : f32[N, 2, 4]>

    Raises:
        ArgumentError: ``x`` is not a list or tuple, or is empty.
    """
    g, parts = _parts("stack", x)
    at = axis_of(parts[0], axis, extra=1)
    return named(g.Concat(*[g.Unsqueeze(v, [at]) for v in parts], axis=at), name)


def transpose(x: TensorLike, perm: Sequence[int], name: str | None = None) -> Variable:
    """Dims in another order: dim k of the result is dim ``perm[k]`` of ``x``        x: [*n].

    >>> transpose(image, [0, 2, 3, 1])
    <Variable transpose_0 : f32[N, 8, 8, 3]>

    Raises:
        ArgumentError: ``perm`` does not name every dim once.
    """
    g = recorder(x)
    x = as_variable(g, x)
    axes = [axis_of(x, a) for a in perm]
    if sorted(axes) != [*range(x.ndim)]:
        raise ArgumentError(
            f"transpose: perm {[*perm]} must name every dim of {x.name} once",
            operands=[(x.name, x.tensor_type)],
            where=here(),
        )
    return named(g.Transpose(x, perm=axes), name)


def unbind(input: TensorLike, axis: int = 0) -> list[Variable]:
    """The slices of ``input`` along ``axis``, without that dim        input: [*n].

    Raises:
        ArgumentError: the size of the dim is not known.
    """
    g = recorder(input)
    x = as_variable(g, input)
    at = axis_of(x, axis)
    if x.shape[at] == -1:
        raise _uneven(x, at, "into single slices")
    return [g.Squeeze(piece, [at]) for piece in split(x, x.shape[at], at)]


def unsqueeze(x: TensorLike, axis: int | Sequence[int], name: str | None = None) -> Variable:
    """``x`` with new dims of size 1 at ``axis``        x: [*n].

    ``axis`` is an int, or a list of ints of which each counts in the result of those before it.

    >>> unsqueeze(x, [0, -1])
    <Variable unsqueeze_0 : f32[1, N, 4, 1]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    dims = [*range(x.ndim)]  # where old dims go; -1 is a new one
    for a in axis if isinstance(axis, (list, tuple)) else [axis]:
        dims.insert(axis_of(x, a, extra=len(dims) - x.ndim + 1), -1)
    return named(g.Unsqueeze(x, [k for k, d in enumerate(dims) if d == -1]), name)


def unstack(x: TensorLike, axis: int = 0, num: int | None = None) -> list[Variable]:
    """The slices of ``x`` along ``axis``, without that dim        x: [*n].

    ``num`` is how many there must be, if it is given.

    Raises:
        ArgumentError: the size of the dim is not known, or is not ``num``.
    """
    pieces = unbind(x, axis)
    if num is not None and num != len(pieces):
        raise ArgumentError(f"unstack: num is {num}, there are {len(pieces)} slices", where=here())
    return pieces
