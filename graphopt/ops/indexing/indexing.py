"""Ops that pick or place elements by index: their gradients place or pick at the same index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ops.moves.movement import given, vector
from graphopt.ops.registry.cases import case, i64, ints, scalar
from graphopt.ops.registry.registry import Grads, gradient
from graphopt.ops.tools.positions import I64, dims, put_back, up_to, zeros

I64_MAX = np.iinfo(np.int64).max
PAIRS = replace(ints((5, 2), 3, low=-3), symbolic=False)  # their length gives the result's rank


@gradient(
    "Gather",
    cases=[
        case(data=(5, 3), indices=ints((2, 4), 5, low=-5)),
        case(data=(5, 3), indices=scalar(2)),
        case(data=(2, 4, 3), indices=ints((5,), 4, low=-4), attrs={"axis": 1}),
        case(data=(2, 3, 4), indices=ints((2, 2), 4), attrs={"axis": -1}),
    ],
    nondiff=["indices"],
)
def gather(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X at indices along an axis        X: [*m, n, *s]   indices: [*q]   Y: [*m, *q, *s]."""
    X, indices, axis = op.operand("data"), op.operand("indices"), op.attrs["axis"]
    rows = g.Unsqueeze(g.cast(indices, I64), [-1])  # [*q, 1]
    if axis == 0 or axis == -(X.tensor_type.rank or 0):
        return {"data": typed(g.ScatterND(g.zeros_like(X), rows, dY, reduction="add"), X)}
    if X.tensor_type.shape is None or indices.tensor_type.shape is None:
        return {"data": put_back(g, X, dY, None, lambda p: g.Gather(p, indices, axis=axis), "add")}
    axis, q = axis % X.ndim, indices.ndim
    # Two transposes cost less than an index per element.
    order = [axis, *(k for k in range(X.ndim) if k != axis)]
    picked = [*range(axis, axis + q)]
    dY = g.Transpose(dY, perm=picked + [k for k in range(dY.ndim) if k not in picked])
    dX = g.ScatterND(zeros(g, dims(g, X, order), X), rows, dY, reduction="add")  # [n, *m, *s]
    return {"data": typed(g.Transpose(dX, perm=np.argsort(order).tolist()), X)}


@gradient(
    "GatherElements",
    cases=[
        case(data=(3, 4), indices=ints((2, 4), 3, low=-3)),
        case(data=(3, 4), indices=ints((3, 5), 4), attrs={"axis": 1}),
    ],
    nondiff=["indices"],
)
def gather_elements(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X at one index along an axis per element of Y        X: [*n]   indices, Y: [*q]."""
    X, indices, axis = op.operand("data"), op.operand("indices"), op.attrs["axis"]
    zeros = g.zeros_like(X)
    return {"data": typed(g.ScatterElements(zeros, indices, dY, axis=axis, reduction="add"), X)}


@gradient(
    "GatherND",
    cases=[
        case(data=(3, 4), indices=PAIRS),
        case(data=(3, 4, 2), indices=ints((2, 2, 1), 3)),
        case(data=(2, 4, 3), indices=ints((2, 5, 1), 4), attrs={"batch_dims": 1}),
        case(data=(2, 3, 4), indices=ints((2, 3, 1), 4), attrs={"batch_dims": 2}),
    ],
    nondiff=["indices"],
)
def gather_nd(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X at index tuples        X: [*b, *n, *s]   indices: [*b, *q, k]   Y: [*b, *q, *s]."""
    X, indices = op.operand("data"), op.operand("indices")
    batch = [_batch_index(g, indices, axis) for axis in range(op.attrs["batch_dims"])]
    full = g.Concat(*batch, indices, axis=-1) if batch else indices  # [*b, *q, b + k]
    return {"data": typed(g.ScatterND(g.zeros_like(X), full, dY, reduction="add"), X)}


@gradient(
    "Pad",
    cases=[
        case(data=(2, 3), pads=i64(1, 0, 0, 2), constant_value=()),
        case(data=(2, 3, 4), pads=i64(1, 2), axes=i64(-1)),
        case(data=(2, 3), pads=given(1, 0, 0, 2), constant_value=()),
        case(data=(2, 3, 4), pads=given(1, 2), axes=i64(-2)),
        case(data=(2, 3, 4), pads=given(1, 2), axes=given(-2), constant_value=()),
        case(data=(2, 3, 4), pads=given(0, 1, 2, 0), axes=given(-1, 0), attrs={"mode": "wrap"}),
        case(data=(3, 4), pads=i64(1, 2, 0, 1), attrs={"mode": "reflect"}),
        case(data=(3, 4), pads=given(1, 2, 0, 1), attrs={"mode": "edge"}),
        case(data=(3, 4, 2), pads=i64(1, 2), axes=i64(-2), attrs={"mode": "wrap"}),
        case(data=(2, 3), pads=i64(0, 0, 0, 0), attrs={"mode": "edge"}),
    ],
    nondiff=["pads", "axes"],
)
def pad(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X with elements put around it, or cut off        X: [*n]   Y: [*(before + n + after)]."""
    if op.attrs["mode"] != "constant":
        return {"data": _unpad_copies(g, op, dY), "constant_value": None}
    dX = typed(_unpad_constants(g, op, dY), op.operand("data"))
    around = g.Sub(g.ReduceSum(dY, keepdims=0), g.ReduceSum(dX, keepdims=0))
    return {"data": dX, "constant_value": around}


@gradient(
    "Slice",
    cases=[
        case(data=(4, 5), starts=i64(1, 0), ends=i64(3, -1)),
        case(data=(4, 5), starts=i64(-3), ends=i64(I64_MAX), axes=i64(-1), steps=i64(1)),
        case(data=(4, 5), starts=given(-3), ends=given(4), axes=i64(1)),
        case(data=(4, 5), starts=i64(3), ends=i64(-I64_MAX), axes=i64(0), steps=i64(-2)),
        case(data=(4, 5, 2), starts=i64(0, 4), ends=i64(4, 1), axes=i64(0, 1), steps=i64(2, -1)),
        case(data=(4, 5), starts=given(1), ends=given(5), axes=given(1), steps=given(2)),
    ],
    nondiff=["starts", "ends", "axes", "steps"],
)
def slice_(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X from starts to ends by steps        X: [*n]   Y: [*((end - start) / step)]."""
    X, starts, ends = op.operand("data"), op.operand("starts"), op.operand("ends")
    axes, steps = known_axes(op, starts.tensor_type.shape), op.maybe("steps")
    if axes is not None and _all_ones(steps):
        return {"data": typed(g.Pad(dY, _cut_off(g, op, dY, axes), None, i64(*axes)), X)}
    depth = None if axes is None else 1 + max(axes)
    along = op.maybe("axes") if axes is None else i64(*axes)
    return {"data": put_back(g, X, dY, depth, lambda p: g.Slice(p, starts, ends, along, steps))}


def known_axes(op: Operator, counted: tuple[int | str, ...] | None) -> list[int] | None:
    """The axes of an op that takes them as an operand; without one, the first ``counted[0]``."""
    axes, shape = op.maybe("axes"), op.operand("data").tensor_type.shape
    if isinstance(axes, Constant):
        found: list[int] = axes.value.tolist()
        if shape is not None:
            return [k % len(shape) for k in found]
        return found if min(found, default=0) >= 0 else None
    if axes is None and counted and isinstance(counted[0], int):
        return list(range(counted[0]))
    return None


def _batch_index(g: Tape, indices: Variable, axis: int) -> Variable:
    """The position along a batch dim, for every tuple of ``indices``: [*b, *q, 1]."""
    inner = indices.ndim - axis - 1
    column = g.Reshape(up_to(g, g.dim_of(indices, axis)), [-1, *[1] * inner])  # [b, 1, 1, ..]
    return g.Expand(column, vector(g, [dims(g, indices, range(indices.ndim - 1)), 1]))


def _all_ones(steps: Variable | None) -> bool:
    return steps is None or (isinstance(steps, Constant) and bool((steps.value == 1).all()))


def _cut_off(g: Tape, op: Operator, dY: Variable, axes: Sequence[int]) -> Variable:
    """How many elements a Slice by steps of 1 left out before, then after, along its axes."""
    X, starts, ends = op.operand("data"), op.operand("starts"), op.operand("ends")
    n = dims(g, X, axes)
    known = [v.value.tolist() for v in (starts, ends, n) if isinstance(v, Constant)]
    if len(known) == 3:
        bounds = zip(*known, strict=True)
        kept = [(*slice(start, end).indices(size)[:2], size) for start, end, size in bounds]
        before, after = [k[0] for k in kept], [size - max(lo, hi) for lo, hi, size in kept]
        return g.const(i64(*before, *after))
    start = g.cast(starts, I64)
    start = g.Where(g.Less(start, 0), g.Add(start, n), start)
    front = g.Max(g.Min(start, n), 0)
    back = g.Sub(g.Sub(n, front), dims(g, dY, axes))
    return g.Concat(front, back, axis=0)


def _unpad_constants(g: Tape, op: Operator, dY: Variable) -> Variable:
    """Without what was put around X, and zero where X was cut off: [*n]."""
    pads, axes = op.operand("pads"), op.maybe("axes")
    if isinstance(pads, Constant):
        before, after = np.maximum(pads.value, 0).reshape(2, -1)
        kept = g.Slice(dY, before, np.where(after > 0, -after, I64_MAX), axes)
        cut = np.maximum(-pads.value, 0)
        return g.Pad(kept, cut, None, axes) if cut.any() else kept
    before, after = g.Split(g.Max(pads, 0), None, num_outputs=2, outputs=2)
    size = g.shape_of(dY) if axes is None else g.Gather(g.shape_of(dY), axes)
    kept = g.Slice(dY, before, g.Sub(size, after), axes)
    return g.Pad(kept, g.Max(g.Neg(pads), 0), None, axes)


def _unpad_copies(g: Tape, op: Operator, dY: Variable) -> Variable:
    """Every copy of an element of X added up: [*n]."""
    X, pads, axes = op.operand("data"), op.operand("pads"), op.maybe("axes")
    shape, depth = X.tensor_type.shape, None
    known = known_axes(op, None if shape is None else (len(shape),))
    if known is not None and isinstance(pads, Constant):
        sides = pads.value.reshape(2, -1)
        padded = [k for k in range(len(known)) if sides[:, k].any()]
        if not padded:
            return dY
        depth = 1 + max(known[k] for k in padded)
        pads, axes = g.const(sides[:, padded].ravel()), g.const(i64(*(known[k] for k in padded)))
    mode = op.attrs["mode"]
    return put_back(g, X, dY, depth, lambda p: g.Pad(p, pads, None, axes, mode=mode), "add")
