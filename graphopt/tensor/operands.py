"""What users pass, made into operands: numbers and arrays, axes, shapes; and results named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.ir.model import arithmetic
from graphopt.ir.model.arithmetic import cast_to, promoted
from graphopt.ir.model.tape import Operand, Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import Dim, TensorType
from graphopt.ir.types.where import here
from graphopt.scoping import recorder

TensorLike: TypeAlias = Variable | np.ndarray | np.generic | float | int | bool | Sequence[Any]
Axes: TypeAlias = int | Sequence[int] | None
ShapeLike: TypeAlias = Variable | int | Sequence[int | Variable | None]
Ints: TypeAlias = int | Variable | Sequence[int | Variable]


def as_variable(g: Tape, x: object) -> Variable:
    """x if it is a Variable, else a constant of its value.

    Raises:
        ArgumentTypeError: x is not a tensor, a number, an array or a list of numbers.
    """
    if isinstance(x, Variable):
        return x
    if np.asarray(x).dtype.kind in "biufV":  # V: bfloat16
        return g.const(x)  # type: ignore[arg-type]
    raise ArgumentTypeError(
        f"a Variable, a number or an array is needed, not {x!r}",
        where=here(),
        fix="record the value first, e.g. with static.data",
    )


def like(g: Tape, value: TensorLike, x: Variable) -> Variable:
    """A value in the dtype of x."""
    return cast_to(value, x.dtype) if isinstance(value, Variable) else g.const(value, x.dtype)


def pair(type: str, x: object, y: object) -> tuple[Variable, Variable]:
    """Two operands in the dtype they meet in; ``type`` is the op that asks, for the error.

    Raises:
        ArgumentTypeError: an operand is neither a Variable nor a number, or list or array of them.
        DTypeError: an integer Variable meets a float Variable.
    """
    g = recorder(x, y)
    if not (isinstance(x, Variable) or isinstance(y, Variable)):
        x = as_variable(g, x)
    dtype = promoted(type, x, y)
    left, right = (
        cast_to(v, dtype) if isinstance(v, Variable) else g.const(v, dtype)  # type: ignore[arg-type]
        for v in (x, y)
    )
    return left, right


def unary(type: str, x: object, name: str | None) -> Variable:
    """Record a one-operand op."""
    g = recorder(x)
    return named(g.emit(type, as_variable(g, x)), name)


def binary(
    type: str, x: object, y: object, name: str | None, *, to_float: bool = False
) -> Variable:
    """Record a two-operand op after promotion; ``to_float`` makes integer operands f32 first."""
    g = recorder(x, y)
    left = as_variable(g, x) if not isinstance(y, Variable) else x
    return named(arithmetic.binary(type, left, y, to_float=to_float), name)


def named(result: Variable, name: str | None) -> Variable:
    """The result under the name that the user gave; without one, as it is."""
    if name is None:
        return result
    block = result.program.current_block()
    if not block.ops or not any(v is result for v in block.ops[-1].writes()):
        result = result.program.recorder().Identity(result)  # an operand keeps its own name
    del block.vars[result.name]
    result.name = result.program.unused_name(name)
    block.add_var(result)
    return result


def axes_of(x: Variable, axis: Axes) -> list[int] | None:
    """Axes counted from the front; None where all dims are meant (also by an empty list).

    Raises:
        ArgumentError: an axis is not one of x's, or comes twice.
    """
    if axis is None or x.ndim == 0 or (isinstance(axis, (list, tuple)) and not axis):
        return None
    axes = [axis_of(x, a) for a in (axis if isinstance(axis, (list, tuple)) else [axis])]
    if len(set(axes)) < len(axes):
        raise ArgumentError(f"axis {axis} names a dim of {x.name} twice", where=here())
    return axes


def axis_of(x: Variable, axis: object, *, extra: int = 0) -> int:
    """One axis counted from the front; ``extra`` dims are about to be added to x.

    Raises:
        ArgumentTypeError: the axis is not an int.
        ArgumentError: x has no such axis.
    """
    rank = x.ndim + extra
    if isinstance(axis, Constant) and axis.value.size == 1:
        axis = axis.value.item()
    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):
        raise ArgumentTypeError(f"an axis is an int, not {axis!r}", where=here())
    if not -rank <= axis < rank:
        raise ArgumentError(
            f"axis {axis} is out of range for {x.name}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix=f"use an axis from {-rank} to {rank - 1}",
        )
    return int(axis) % rank


def int_vector(g: Tape, values: object) -> Operand:
    """Ints, Variables of one int, or a Variable of many, as i64[n]; a constant where all are known.

    Raises:
        ArgumentTypeError: a value is not an int.
    """
    if isinstance(values, Variable):
        vector = cast_to(values, np.dtype("i8"))
        flat: Variable = vector if vector.ndim == 1 else g.Reshape(vector, [-1])
        return flat
    items = list(values) if isinstance(values, (list, tuple, np.ndarray)) else [values]
    if any(isinstance(v, Variable) for v in items):
        parts = [int_vector(g, v if isinstance(v, Variable) else [v]) for v in items]
        joined: Variable = g.Concat(*parts, axis=0)
        return joined
    return g.const(np.array([_int(v) for v in items], np.int64))


def _int(value: object) -> int:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    raise ArgumentTypeError(f"an int is needed, not {value!r}", where=here())


def items_of(values: object) -> list[object]:
    """The items of a list or tuple; anything else is one item."""
    return list(values) if isinstance(values, (list, tuple)) else [values]


def dims_of(shape: object) -> list[int | None] | None:
    """What is known of a wanted shape: ints, None for a dim given by a Variable.

    None where not even the number of dims is known.

    Raises:
        ArgumentTypeError: a dim is neither an int nor a Variable.
    """
    if isinstance(shape, Constant):
        return [int(v) for v in shape.value.reshape(-1)]
    if isinstance(shape, Variable):
        length = (shape.tensor_type.shape or ("?",))[0]
        return [None] * length if isinstance(length, int) else None
    items = list(shape) if isinstance(shape, (list, tuple, np.ndarray)) else [shape]
    items = [v.value.item() if isinstance(v, Constant) and v.value.size == 1 else v for v in items]
    return [None if isinstance(v, Variable) else _int(v) for v in items]


def with_dims(y: Variable, dims: Sequence[Dim | None] | None) -> Variable:
    """y with the dims that onnx could not infer but the caller knows; None is one it does not."""
    found = y.tensor_type.shape
    if dims is None or (found is not None and len(found) != len(dims)):
        return y
    inferred = found or [y.program.fresh_symbol() if d is None else d for d in dims]
    shape = (e if d is None else d for d, e in zip(dims, inferred, strict=True))
    y.tensor_type = TensorType(y.dtype, tuple(shape))
    return y


def need_rank(x: Variable, function: str, *ranks: int) -> None:
    """Refuse a tensor unless its number of dims is one of ``ranks``.

    Raises:
        ArgumentError: it is not.
        ArgumentTypeError: the number of dims is not known.
    """
    if x.ndim not in ranks:
        wanted = " or ".join(f"{r}-D" for r in ranks)
        raise ArgumentError(
            f"{function} takes a {wanted} tensor",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix=f"reshape {x.name} first",
        )


def choice(function: str, argument: str, value: object, known: Sequence[str]) -> str:
    """The value if it is one of the known ones.

    Raises:
        ArgumentError: it is not.
    """
    if isinstance(value, str) and value in known:
        return value
    raise ArgumentError(
        f"{function}: {argument} cannot be {value!r}",
        where=here(),
        fix=f"use one of {', '.join(known)}",
    )
