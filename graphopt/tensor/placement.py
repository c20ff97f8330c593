"""Elements put in a tensor, by index or by mask."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.scoping import recorder
from graphopt.tensor.logic import truth
from graphopt.tensor.operands import (
    ShapeLike,
    TensorLike,
    as_variable,
    axis_of,
    choice,
    int_vector,
    items_of,
    like,
    named,
)

REDUCTIONS = {
    "assign": "none",
    "add": "add",
    "mul": "mul",
    "multiply": "mul",
    "amax": "max",
    "amin": "min",
}


def masked_fill(
    x: TensorLike, mask: TensorLike, value: TensorLike, name: str | None = None
) -> Variable:
    """``value`` where ``mask`` is true, else x        x, mask: broadcast   value: [].

    >>> masked_fill(x, x < 0.0, 0.0)
    <Variable where_0 : f32[N, 4]>
    """
    g = recorder(x, mask, value)
    x = as_variable(g, x)
    return named(g.Where(truth(g, mask), like(g, value, x), x), name)


def put_along_axis(
    arr: TensorLike,
    indices: TensorLike,
    values: TensorLike,
    axis: int,
    reduce: str = "assign",
    include_self: bool = True,
    broadcast: bool = True,
) -> Variable:
    """``arr`` with ``values`` put along ``axis``: y[i, indices[i, j]] = values[i, j] for axis 1.

    indices: arr's shape but for that axis, of which dims of size 1 are repeated if ``broadcast``
    values: broadcast to indices
    ``reduce`` says what is done where values meet: "assign", "add", "mul" or "multiply", "amax",
    "amin" or "mean"; without ``include_self`` the element of ``arr`` does not count.

    >>> put_along_axis(x, [[0]], 9.0, axis=1)
    <Variable scatterelements_0 : f32[N, 4]>

    Raises:
        ArgumentError: there is no such ``reduce``.
    """
    choice("put_along_axis", "reduce", reduce, [*REDUCTIONS, "mean"])
    g = recorder(arr, indices, values)
    x = as_variable(g, arr)
    at = axis_of(x, axis)
    places = as_variable(g, indices)
    places = index_along(g, places, x, at) if broadcast else places
    new = g.expand_like(like(g, values, x), places)
    put = _Put(g, places, at)
    if reduce == "mean":
        return _mean(put, x, new, include_self)
    rule = REDUCTIONS[reduce]
    if not include_self and rule != "none":
        x = put(x, g.expand_like(g.const(_neutral(rule, x.dtype), x.dtype), places))
    return put(x, new, rule)


def _neutral(rule: str, dtype: np.dtype) -> float:
    """What leaves the other operand as it is; of max and min the end of the dtype's range."""
    if rule in ("add", "mul"):
        return float(rule == "mul")
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min if rule == "max" else np.iinfo(dtype).max)
    return -math.inf if rule == "max" else math.inf


class _Put:
    """Puts values at fixed places along an axis."""

    def __init__(self, g: Tape, places: Variable, axis: int) -> None:
        self.g, self.places, self.axis = g, places, axis

    def __call__(self, x: Variable, values: Variable, reduction: str = "none") -> Variable:
        y: Variable = self.g.ScatterElements(
            x, self.places, values, axis=self.axis, reduction=reduction
        )
        return y


def _mean(put: _Put, x: Variable, new: Variable, include_self: bool) -> Variable:
    """The sum of what meets at a place, divided by how many that are."""
    g = put.g
    ones, zeros = (g.expand_like(g.const(v, x.dtype), put.places) for v in (1, 0))
    count = g.expand_like(g.const(1, x.dtype), x)
    if not include_self:
        x, count = put(x, zeros), put(count, zeros)
    mean: Variable = g.Div(put(x, new, "add"), put(count, ones, "add"))
    return mean


def index_along(g: Tape, index: Variable, x: Variable, axis: int) -> Variable:
    """The index broadcast to the dims of x, but for the axis."""
    old, shape = index.tensor_type.shape or (), x.tensor_type.shape or ()
    if len(old) != len(shape) or all(
        k == axis or d == e or (isinstance(d, int) and d > 1)
        for k, (d, e) in enumerate(zip(old, shape, strict=True))
    ):
        return index
    wanted = [g.dim_of(index if k == axis else x, k) for k in range(x.ndim)]
    spread: Variable = g.Expand(index, g.dims(*wanted))
    return spread


def scatter(
    x: TensorLike,
    index: TensorLike,
    updates: TensorLike,
    overwrite: bool = True,
    name: str | None = None,
) -> Variable:
    """``x`` with the rows ``index`` replaced by ``updates``.

    x: [n, *s]   index: int[k]   updates: [k, *s]
    Of a row that comes more than once one update stays, or their sum with ``overwrite=False``.

    >>> scatter(x, [2, 0], [[1.0] * 4, [2.0] * 4])
    <Variable scatternd_0 : f32[N, 4]>
    """
    g = recorder(x, index, updates)
    x, rows = as_variable(g, x), cast_to(as_variable(g, index), np.dtype("i8"))
    new = as_variable(g, updates)
    rows = g.Reshape(rows, [-1, 1])  # [k, 1]
    if overwrite:
        return named(g.ScatterND(x, rows, new), name)
    bare = g.ScatterND(x, rows, g.zeros_like(new))
    return named(g.ScatterND(bare, rows, new, reduction="add"), name)


def scatter_nd(
    index: TensorLike, updates: TensorLike, shape: ShapeLike, name: str | None = None
) -> Variable:
    """Zeros of ``shape`` with ``updates`` added at the places ``index``; see scatter_nd_add.

    >>> scatter_nd([[1], [3]], [5.0, 7.0], [4])
    <Variable scatternd_0 : f32[4]>
    """
    g = recorder(index, updates, *items_of(shape))
    new = as_variable(g, updates)
    zeros = g.ConstantOfShape(int_vector(g, shape), value=np.zeros(1, new.dtype))
    return scatter_nd_add(zeros, index, new, name)


def scatter_nd_add(
    x: TensorLike, index: TensorLike, updates: TensorLike, name: str | None = None
) -> Variable:
    """``x`` with ``updates`` added at the places ``index``; a place that comes twice gets both.

    x: [*n, *s]   index: int[*k, d], places in the first d dims, *n   updates: [*k, *s]

    >>> scatter_nd_add(x, [[0, 1], [0, 1]], [1.0, 2.0])
    <Variable scatternd_0 : f32[N, 4]>
    """
    g = recorder(x, index, updates)
    x, at = as_variable(g, x), cast_to(as_variable(g, index), np.dtype("i8"))
    return named(g.ScatterND(x, at, as_variable(g, updates), reduction="add"), name)
