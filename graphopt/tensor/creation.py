"""New tensors: constants of a shape, ranges, copies, triangles."""

from __future__ import annotations

import numpy as np

from graphopt.errors import ArgumentError, ShapeError
from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import as_literal, integer
from graphopt.ir.types.types import DTypeLike, TensorType, as_dtype
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.operands import (
    ShapeLike,
    TensorLike,
    as_variable,
    dims_of,
    int_vector,
    named,
    with_dims,
)

Number = float | Variable


def arange(
    start: Number = 0,
    end: Number | None = None,
    step: Number = 1,
    dtype: DTypeLike | None = None,
    name: str | None = None,
) -> Variable:
    """The numbers ``start``, ``start`` + ``step``, … below ``end`` (above it for a negative step).

    A single bound is the end, and the start is 0. ``dtype`` is by default f32 if one of the numbers
    is a float, else i64.

    >>> arange(5), arange(0.0, 1.0, 0.25)
    (<Variable range_0 : i64[5]>, <Variable range_1 : f32[4]>)

    Raises:
        ArgumentError: ``step`` is 0; an integer ``dtype`` cannot hold a float that is given.
    """
    if end is None:
        start, end = 0, start
    if not isinstance(step, Variable) and step == 0:
        raise ArgumentError("arange: step cannot be 0", where=here())
    g = recorder(start, end, step)
    found = as_dtype(dtype) if dtype is not None else _range_dtype(start, end, step)
    bounds = [_scalar(g, v, found) for v in (start, end, step)]
    return named(g.Range(*bounds), name)


def _range_dtype(*values: Number) -> np.dtype:
    kinds = [(v.dtype if isinstance(v, Variable) else np.asarray(v).dtype).kind for v in values]
    return np.dtype("f4") if "f" in kinds else np.dtype("i8")


def _scalar(g: Tape, value: Number, dtype: np.dtype) -> Variable:
    if not isinstance(value, Variable):
        return g.const(value, dtype)
    cast = cast_to(value, dtype)
    scalar: Variable = cast if cast.ndim == 0 else g.Reshape(cast, np.zeros(0, np.int64))
    return scalar


def assign(x: TensorLike, output: Variable | None = None) -> Variable:
    """A copy of ``x``, or ``output`` with the value of ``x``, which lasts if it is persistable.

    x: [*n]   output: [*n] of x's dtype; a number or an array as ``x`` takes the dtype of ``output``

    >>> assign([1, 2, 3])
    <Variable identity_0 : i64[3]>

    Raises:
        ShapeError: ``output`` has another shape or dtype.
        ArgumentError: ``output`` has a value already and is not persistable.
    """
    g = recorder(x, output)
    if output is None:
        copy: Variable = g.Identity(as_variable(g, x))
        return copy
    value = as_variable(g, x) if isinstance(x, Variable) else g.const(x, output.dtype)
    _check_assignable(output, value)
    g.emit("Identity", value, into=[output])
    return output


def _check_assignable(output: Variable, value: Variable) -> None:
    operands = [(output.name, output.tensor_type), (value.name, value.tensor_type)]
    same_shape = output.ndim == value.ndim and all(
        d == e or -1 in (d, e) for d, e in zip(output.shape, value.shape, strict=True)
    )
    if output.dtype != value.dtype or not same_shape:
        raise ShapeError(
            f"assign: {output.name} has another type",
            operands=operands,
            where=here(),
            fix="cast or reshape the value first",
        )
    if not output.persistable and (
        output.is_data or any(v is output for op in output.block.ops for v in op.writes())
    ):
        raise ArgumentError(
            f"assign: {output.name} has a value already and is not persistable",
            operands=operands,
            where=here(),
            fix="use the result of assign(x), or make the variable with create_global_var",
        )


def eye(
    num_rows: int,
    num_columns: int | None = None,
    dtype: DTypeLike = "float32",
    name: str | None = None,
) -> Variable:
    """Ones on the main diagonal, zeros elsewhere        result: [num_rows, num_columns].

    ``num_columns`` is by default ``num_rows``, and ``dtype`` f32.

    >>> eye(2, 3)
    <Variable eyelike_0 : f32[2, 3]>
    """
    columns = num_rows if num_columns is None else num_columns
    g = recorder()
    base = g.ConstantOfShape([num_rows, columns], value=np.zeros(1, as_dtype(dtype)))
    return named(g.EyeLike(base), name)


def full(
    shape: ShapeLike,
    fill_value: Number,
    dtype: DTypeLike | None = None,
    name: str | None = None,
) -> Variable:
    """A tensor of ``shape`` whose elements are all ``fill_value``.

    ``fill_value`` is a number or a Variable of one element; ``dtype`` is by default that of the
    Variable, or f32.

    >>> full([2, 3], 0.5)
    <Variable constantofshape_0 : f32[2, 3]>
    """
    items = shape if isinstance(shape, (list, tuple)) else [shape]
    g = recorder(fill_value, *items)
    if dtype is not None:
        found = as_dtype(dtype)
    else:
        found = fill_value.dtype if isinstance(fill_value, Variable) else np.dtype("f4")
    return named(_filled(g, shape, fill_value, found), name)


def _filled(g: Tape, shape: object, value: Number, dtype: np.dtype) -> Variable:
    wanted = int_vector(g, shape)
    if isinstance(value, Variable):
        y: Variable = g.Expand(_scalar(g, value, dtype), wanted)
    else:
        y = g.ConstantOfShape(wanted, value=as_literal(value).reshape(1).astype(dtype))
    return with_dims(y, dims_of(shape))


def full_like(
    x: TensorLike,
    fill_value: Number,
    dtype: DTypeLike | None = None,
    name: str | None = None,
) -> Variable:
    """A tensor of the shape of ``x`` whose elements are all ``fill_value``        x: [*n].

    ``fill_value`` is a number or a Variable of one element; ``dtype`` is by default that of ``x``.

    >>> full_like(x, 2.0)
    <Variable expand_0 : f32[N, 4]>
    """
    g = recorder(x, fill_value)
    x = as_variable(g, x)
    scalar = _scalar(g, fill_value, x.dtype if dtype is None else as_dtype(dtype))
    y: Variable = g.Expand(scalar, g.shape_of(x))
    y.tensor_type = TensorType(y.dtype, x.tensor_type.shape)
    return named(y, name)


def linspace(
    start: Number,
    stop: Number,
    num: int,
    dtype: DTypeLike | None = None,
    name: str | None = None,
) -> Variable:
    """``num`` numbers from ``start`` to ``stop``, both included, evenly spaced.

    ``start`` and ``stop`` are numbers or Variables of one element; ``dtype`` is by default f32.

    >>> linspace(0.0, 1.0, 5)
    <Variable identity_0 : f32[5]>

    Raises:
        ArgumentTypeError: ``num`` is not an int.
        ArgumentError: ``num`` is negative.
    """
    num = integer("linspace: num", num)
    if num < 0:
        raise ArgumentError(f"linspace: num must be 0 or more, not {num}", where=here())
    found = as_dtype(dtype or "float32")
    g = recorder(start, stop)
    if not isinstance(start, Variable) and not isinstance(stop, Variable):
        return named(g.Identity(g.const(np.linspace(start, stop, num).astype(found))), name)
    first, last = _scalar(g, start, found), _scalar(g, stop, found)
    share = g.const(np.linspace(0.0, 1.0, num), found)  # [num], from 0 to 1
    left = g.Sub(g.const(1, found), share)
    return named(g.Add(g.Mul(left, first), g.Mul(share, last)), name)


def ones(shape: ShapeLike, dtype: DTypeLike | None = None, name: str | None = None) -> Variable:
    """A tensor of ``shape`` with every element 1; f32 unless ``dtype`` says.

    >>> ones([2, 3], "int64")
    <Variable constantofshape_0 : i64[2, 3]>
    """
    return full(shape, 1, dtype, name)


def ones_like(x: TensorLike, dtype: DTypeLike | None = None, name: str | None = None) -> Variable:
    """Ones in the shape of ``x``, and in its dtype unless ``dtype`` says        x: [*n]."""
    return full_like(x, 1, dtype, name)


def tril(x: TensorLike, diagonal: int = 0, name: str | None = None) -> Variable:
    """The elements on and below a diagonal, zeros elsewhere        x, result: [*n, i, j].

    ``diagonal`` is 0 for the main one, 1 for the one above it, -1 for the one below.

    >>> tril([[1.0, 2.0], [3.0, 4.0]])
    <Variable trilu_0 : f32[2, 2]>
    """
    g = recorder(x)
    return named(g.Trilu(as_variable(g, x), np.array(diagonal, np.int64), upper=0), name)


def triu(x: TensorLike, diagonal: int = 0, name: str | None = None) -> Variable:
    """The elements on and above a diagonal, zeros elsewhere        x, result: [*n, i, j].

    ``diagonal`` is 0 for the main one, 1 for the one above it, -1 for the one below.

    >>> triu([[1.0, 2.0], [3.0, 4.0]], diagonal=1)
    <Variable trilu_0 : f32[2, 2]>
    """
    g = recorder(x)
    return named(g.Trilu(as_variable(g, x), np.array(diagonal, np.int64), upper=1), name)


def zeros(shape: ShapeLike, dtype: DTypeLike | None = None, name: str | None = None) -> Variable:
    """A tensor of ``shape`` with every element 0; f32 unless ``dtype`` says.

    >>> zeros([2, 3])
    <Variable constantofshape_0 : f32[2, 3]>
    """
    return full(shape, 0, dtype, name)


def zeros_like(x: TensorLike, dtype: DTypeLike | None = None, name: str | None = None) -> Variable:
    """Zeros in the shape of ``x``, and in its dtype unless ``dtype`` says        x: [*n]."""
    return full_like(x, 0, dtype, name)
