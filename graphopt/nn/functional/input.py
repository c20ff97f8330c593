"""Functions of integer inputs."""

from __future__ import annotations

import numpy as np

from graphopt.errors import ArgumentError, DTypeError
from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import integer
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, named

INT32_MAX = np.iinfo(np.int32).max


def embedding(
    x: TensorLike,
    weight: TensorLike,
    padding_idx: int | None = None,
    sparse: bool = False,
    name: str | None = None,
) -> Variable:
    """Rows of a table        x: int[*n]   weight: [rows, d]   result: [*n, d].

    Elements of x that equal ``padding_idx``, a row that may count from the end, give zeros and no
    gradient. An element that is negative or too large is an error when it runs. ``sparse`` is
    accepted as in Paddle and changes nothing.

    >>> w = label.program.global_block().create_var("w", [10, 3])
    >>> embedding(label, w)
    <Variable gather_0 : f32[N, 3]>

    Raises:
        DTypeError: x is not i32 or i64.
        ArgumentError: ``padding_idx`` is not a row of ``weight``.
        ArgumentTypeError: it is not an int.
    """
    g = recorder(x, weight)
    ids, table = as_variable(g, x), as_variable(g, weight)
    if ids.dtype not in (np.dtype("i4"), np.dtype("i8")):
        raise DTypeError(
            "embedding takes i32 or i64 ids",
            operands=[(ids.name, ids.tensor_type)],
            where=here(),
            fix=f"cast them: {ids.name}.astype('int64')",
        )
    # Gather would count a negative id from the end; moved behind the last row it is an error.
    checked = g.Where(g.Less(ids, g.const(0, ids.dtype)), g.const(INT32_MAX, ids.dtype), ids)
    found = g.Gather(table, checked, axis=0)
    if padding_idx is None:
        return named(found, name)
    pad = padding_row(padding_idx, table.shape[0])
    padded = g.Unsqueeze(g.Equal(ids, g.const(pad, ids.dtype)), [-1])  # [*n, 1]
    return named(g.Where(padded, g.const(0.0, found.dtype), found), name)


def padding_row(padding_idx: int, rows: int) -> int:
    """The row that ``padding_idx`` names in a table of ``rows``; negative ones count from the end.

    Raises:
        ArgumentError: there is no such row.
        ArgumentTypeError: it is not an int.
    """
    if not -rows <= integer("embedding: padding_idx", padding_idx) < rows:
        raise ArgumentError(
            f"embedding: padding_idx {padding_idx} is not a row of a table of {rows}", where=here()
        )
    return padding_idx % rows


def one_hot(x: TensorLike, num_classes: int, name: str | None = None) -> Variable:
    """1 at the index that x holds, 0 elsewhere        x: int[*n]   result: f32[*n, num_classes].

    >>> one_hot(label, 10)
    <Variable onehot_0 : f32[N, 10]>
    """
    g = recorder(x)
    x = cast_to(as_variable(g, x), np.dtype("i8"))
    return named(g.OneHot(x, np.array(num_classes), np.array([0.0, 1.0], np.float32)), name)
