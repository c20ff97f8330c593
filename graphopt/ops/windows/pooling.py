"""Poolings: one number per window, or per channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ops.layers.batch_norm_gradient import count
from graphopt.ops.registry.cases import case
from graphopt.ops.registry.registry import Grads, decomposition, gradient
from graphopt.ops.windows.columns import columns
from graphopt.ops.windows.pool_gradient import max_pool_gradient  # noqa: F401 - registers its op
from graphopt.ops.windows.windows import Window, head, ints, scattered, windows

I64, I64_MAX = np.dtype(np.int64), np.iinfo(np.int64).max
UNPOOLED = 4096  # two digits up to it are exact in float32
GLOBALS = [case(X=(2, 3, 2, 4)), case(X=(2, 1, 3, 1))]


@gradient(
    "AveragePool",
    cases=[
        case(X=(2, 2, 7), attrs={"kernel_shape": [3], "strides": [2]}),
        case(X=(1, 2, 4, 6), attrs={"kernel_shape": [2, 3], "strides": [2, 3]}),
        case(X=(1, 2, 4, 5), attrs={"kernel_shape": [3, 2], "pads": [1, 0, 2, 1]}),
        case(X=(1, 1, 5, 4), attrs={"kernel_shape": [3, 2], "pads": [1, 1, 0, 1],
                                    "strides": [2, 1], "count_include_pad": 1}),
        case(X=(1, 1, 6, 4), attrs={"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}),
        case(X=(1, 2, 7), attrs={"kernel_shape": [3], "dilations": [2], "pads": [1, 0]}),
        case(X=(1, 1, 5, 4), attrs={"kernel_shape": [3, 2], "strides": [2, 2],
                                    "auto_pad": "SAME_UPPER"}),
        case(X=(1, 1, 4, 5), attrs={"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}),
        case(X=(1, 1, 3, 2, 3), attrs={"kernel_shape": [2, 2, 2]}),
    ],
)  # fmt: skip
def average_pool(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = mean of X over each window        X: [n, c, *i]   Y: [n, c, *o]."""
    X, kernel = op.operand("X"), op.attrs["kernel_shape"]
    found = windows(op, X, dY, kernel)
    share = g.Div(dY, element_count(g, op, found, X, dY))
    return {"X": add_over_windows(g, share, found, X)}


@gradient("GlobalAveragePool", cases=GLOBALS)
def global_average_pool(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = mean of X over the spatial dims        X: [n, c, *i]   Y: [n, c, 1..]."""
    X = op.operand("X")
    share = g.Div(dY, count(g, X, dY, range(2, X.tensor_type.rank or 2)))
    return {"X": g.expand_like(share, X)}


@decomposition("GlobalLpPool", cases=[*GLOBALS, case(X=(2, 1, 5), attrs={"p": 3})])
def global_lp_pool(g: Tape, op: Operator) -> Variable:
    """Y = (sum of |X|^p over the spatial dims)^(1/p)        X: [n, c, *i]   Y: [n, c, 1..]."""
    X, Y, p = g.reshape(op.operand("X"), 0, 0, -1), op.outputs[0], op.attrs["p"]
    assert Y is not None
    if p <= 2:
        return g.reshape_like((g.ReduceL1 if p == 1 else g.ReduceL2)(X, [2], keepdims=0), Y)
    total = g.ReduceSum(g.Pow(g.Abs(X), g.full(p, X)), [2], keepdims=0)  # [n, c]
    is_zero = g.Equal(total, 0.0)
    root = g.Pow(g.Where(is_zero, 1.0, total), g.full(1 / p, X))
    return g.reshape_like(g.Where(is_zero, 0.0, root), Y)


@gradient("GlobalMaxPool", cases=GLOBALS)
def global_max_pool(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = max of X over the spatial dims, the first at ties   X: [n, c, *i]   Y: [n, c, 1..]."""
    X = op.operand("X")
    flat = g.reshape(X, 0, 0, -1)
    first = g.Equal(g.ArgMax(flat, axis=2, keepdims=1), _numbers(g, flat, 2))  # [n, c, i]
    return {"X": g.reshape_like(g.Where(first, g.reshape(dY, 0, 0, -1), 0.0), X)}


@gradient(
    "LpPool",
    cases=[
        case(X=(2, 2, 5), attrs={"kernel_shape": [2], "strides": [2]}),
        case(X=(1, 1, 4, 3), attrs={"kernel_shape": [3, 2], "p": 3, "pads": [1, 0, 1, 0]}),
        case(X=(1, 2, 4, 3), attrs={"kernel_shape": [2, 2], "p": 1}),
    ],
)
def lp_pool(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = (sum of |X|^p over each window)^(1/p)        X: [n, c, *i]   Y: [n, c, *o]."""
    X, p, kernel = op.operand("X"), op.attrs["p"], op.attrs["kernel_shape"]
    found = windows(op, X, dY, kernel)
    if p == 1:
        return {"X": g.Mul(g.Sign(X), add_over_windows(g, dY, found, X))}
    Y = op.outputs[0]
    assert Y is not None
    slope = X if p == 2 else g.Mul(g.Sign(X), g.Pow(g.Abs(X), g.full(p - 1, X)))  # d |X|^p / p
    share = g.Div(dY, g.Pow(g.Where(g.Equal(Y, 0.0), 1.0, Y), g.full(p - 1, Y)))
    return {"X": g.Mul(slope, add_over_windows(g, share, found, X))}


@gradient(
    "MaxPool",
    cases=[
        case(X=(2, 2, 6), attrs={"kernel_shape": [3], "strides": [2]}),
        case(X=(2, 1, 4, 6), attrs={"kernel_shape": [2, 2], "strides": [2, 2]}),
        case(X=(1, 2, 5, 4), attrs={"kernel_shape": [3, 2], "strides": [2, 1],
                                    "pads": [1, 0, 1, 1]}),
        case(X=(1, 1, 6, 5), attrs={"kernel_shape": [2, 2], "dilations": [2, 1],
                                    "strides": [3, 2], "ceil_mode": 1}),
        case(X=(1, 1, 5, 4), attrs={"kernel_shape": [3, 2], "strides": [2, 2],
                                    "auto_pad": "SAME_UPPER"}),
        case(X=(1, 2, 3, 3, 4), attrs={"kernel_shape": [2, 2, 2], "strides": [1, 1, 2]}),
        case(X=(2, 2, 5), attrs={"kernel_shape": [3]}),
        case(X=(1, 2, 4, 5), attrs={"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"}),
        case(X=(1, 2, 3, 3, 4), attrs={"kernel_shape": [2, 2, 3]}),
    ],
)  # fmt: skip
def max_pool(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = max of X over each window, the first at ties        X: [n, c, *i]   Y: [n, c, *o]."""
    X, Y = op.operand("X"), op.outputs[0]
    if Y is not None and _is_side_by_side(op):
        positions, kernel = _positions(g, op, dY), op.attrs["kernel_shape"]
        return {"X": g.emit("MaxPoolGradient", dY, X, Y, positions, kernel_shape=kernel)}
    zeros, where = g.zeros_like(g.reshape(X, -1)), g.reshape(_positions(g, op, dY), -1, 1)
    dX = g.ScatterND(zeros, where, g.reshape(dY, -1), reduction=_reduction(op))
    return {"X": g.reshape_like(dX, X)}


def _is_side_by_side(op: Operator) -> bool:
    """Whether each window begins where the one before it ends, without padding."""
    kernel, attrs = op.attrs["kernel_shape"], op.attrs
    return (
        ints(op, "strides", [1] * len(kernel)) == kernel
        and set(ints(op, "dilations", [1])) == {1}
        and not any(ints(op, "pads", [0]))
        and attrs["auto_pad"] in ("NOTSET", "VALID")
        and not attrs["ceil_mode"]
        and op.operand("X").tensor_type.shape is not None
    )


def _positions(g: Tape, op: Operator, dY: Variable) -> Variable:
    """The position of each maximum in X, read row by row: i64 [n, c, *o].

    Where all strides are 1 the reference evaluator's MaxPool has no Indices.
    """
    if {1} == set(ints(op, "strides", [1])) == set(ints(op, "dilations", [1])):
        flat = op.operand("X").ndim < 5
        return (_with_another_dim if flat else _in_columns)(g, op, dY)
    if op.attrs["storage_order"] == 0:
        return g.result_of(op, "Indices")
    row_major = {**op.attrs, "storage_order": 0}
    where: Variable = g.MaxPool(op.operand("X"), outputs=2, **row_major)[1]
    return where


def _with_another_dim(g: Tape, op: Operator, dY: Variable) -> Variable:
    """The positions along one more dim, of size 1 and with another stride."""
    X, kernel = op.operand("X"), op.attrs["kernel_shape"]
    found = windows(op, X, dY, kernel)
    pads = [*[w.head or 0 for w in found], 0, *[w.tail or 0 for w in found], 0]
    strides = [*[1] * len(found), 2]
    where: Variable = g.MaxPool(
        g.Unsqueeze(X, [-1]), kernel_shape=[*kernel, 1], strides=strides, pads=pads, outputs=2
    )[1]
    return where


def _in_columns(g: Tape, op: Operator, dY: Variable) -> Variable:
    """The positions found window by window: a MaxPool has no fourth spatial dim."""
    X, kernel = op.operand("X"), op.attrs["kernel_shape"]
    found = windows(op, X, dY, kernel)
    places = g.reshape_like(g.Range(0, g.size_of(X), 1), X)
    read, places = (_columns(g, v, found, kernel) for v in (X, places))  # [n, c, k, o]
    first = g.Equal(g.ArgMax(read, axis=2, keepdims=1), g.Unsqueeze(_numbers(g, read, 2), [1]))
    return g.ReduceSum(g.Where(first, places, 0), [2], keepdims=0)


def _columns(g: Tape, x: Variable, found: Sequence[Window], kernel: Sequence[int]) -> Variable:
    """What each window of stride 1 reads, the lowest number outside of x: [n, c, k, o]."""
    lowest = -np.inf if x.tensor_type.is_float else -1
    pads = [w.head or 0 for w in found] + [w.tail or 0 for w in found]
    around = g.Pad(x, pads, g.full(lowest, x), [w.axis for w in found])
    read = columns(g, around, [g.const(k) for k in kernel], *[[1] * len(kernel)] * 2)
    return g.reshape(read, 0, 0, int(np.prod(kernel)), -1)


def _numbers(g: Tape, x: Variable, axis: int) -> Variable:
    """The indices along a dim of x: i64 [n]."""
    return g.Range(0, g.Squeeze(g.dim_of(x, axis), [0]), 1)


def _reduction(op: Operator) -> str:
    """No two windows that lie apart share a maximum."""
    kernel = op.attrs["kernel_shape"]
    spans = [
        (k - 1) * d + 1
        for k, d in zip(kernel, ints(op, "dilations", [1] * len(kernel)), strict=True)
    ]
    strides = ints(op, "strides", [1] * len(kernel))
    apart = all(s >= span for s, span in zip(strides, spans, strict=True))
    return "none" if apart else "add"


@gradient(
    "MaxUnpool",
    cases=[
        case(X=(1, 2, 2, 2), I=np.array([[[[5, 7], [13, 15]], [[16, 19], [24, 30]]]]),
             attrs={"kernel_shape": [2, 2], "strides": [2, 2]}),
        case(X=(2, 1, 3), I=np.array([[[1, 3, 4]], [[6, 8, 11]]]),
             attrs={"kernel_shape": [2], "strides": [2]}),
    ],
    nondiff=["I", "output_shape"],
)  # fmt: skip
def max_unpool(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X at the positions I, zeros elsewhere        X, I: [n, c, *i]   Y: [n, c, *o]."""
    X = op.operand("X")
    size = g.Reshape(g.size_of(X), [1])
    number = g.Range(1, g.Squeeze(g.Add(size, 1), [0]), 1)  # of each element of X, from 1
    high, low = g.Div(number, UNPOOLED), g.Mod(number, UNPOOLED)
    high, low = (_unpooled(g, op, digit) for digit in (high, low))
    came = g.Add(g.Mul(high, UNPOOLED), low)  # [n c o, 1], 0 where nothing came
    sums = g.Expand(g.full(0.0, dY), g.Add(size, 1))
    sums = g.ScatterND(sums, came, g.reshape(dY, -1), reduction="add")
    return {"X": g.reshape_like(g.Slice(sums, [1], [I64_MAX]), X)}


def _unpooled(g: Tape, op: Operator, digits: Variable) -> Variable:
    """Where the op puts whole numbers, one for each element of X: i64 [n c o, 1].

    The evaluators read I differently where output_shape is given: so the op is asked.
    """
    X = op.operand("X")
    placed = g.reshape_like(g.cast(digits, X.dtype), X)
    found = g.MaxUnpool(placed, op.operand("I"), op.maybe("output_shape"), **op.attrs)
    return g.reshape(g.cast(found, I64), -1, 1)


def add_over_windows(g: Tape, share: Variable, found: Sequence[Window], X: Variable) -> Variable:
    """For each element of X the sum of ``share`` [n, c, *o] over the windows that hold it."""
    single = g.reshape(share, -1, 1, *[g.dim_of(share, w.axis) for w in found])  # [n c, 1, *o]
    ones = g.const(np.ones((1, 1, *sizes(found))), share.dtype)
    return g.reshape_like(scattered(g, single, ones, found, X, 1), X)


def sizes(found: Sequence[Window]) -> list[int]:
    """The kernel of a pooling along each dim."""
    return [w.kernel for w in found if isinstance(w.kernel, int)]


def element_count(
    g: Tape, op: Operator, found: Sequence[Window], X: Variable, Y: Variable
) -> Variable:
    """How many elements each window averages: [] if all windows are full, else [*o]."""
    padding = bool(op.attrs["count_include_pad"])
    full = float(np.prod(sizes([w for w in found if _is_full(w, padding)])))
    product: Variable = g.full(full, X)
    for w in found:
        if not _is_full(w, padding):
            product = _times(g, product, g.cast(_count_along(g, w, padding, X, Y), X.dtype))
    return product


def _times(g: Tape, a: Variable, b: Variable) -> Variable:
    if isinstance(a, Constant) and isinstance(b, Constant):
        return g.const(a.value * b.value)
    return g.Mul(a, b)


def _is_full(w: Window, padding: bool) -> bool:
    """Whether each window along this dim averages as many elements as the kernel has."""
    beyond = w.ceil if w.rest is None else w.rest < 0
    return not beyond and (padding or (w.head == 0 and w.tail == 0))


def _count_along(g: Tape, w: Window, padding: bool, X: Variable, Y: Variable) -> Variable:
    """The elements of each window along one dim, without what lies outside: [o, *1]."""
    shape = (-1, *[1] * (X.ndim - 1 - w.axis))
    steps = np.arange(*sizes([w])) * w.dilation
    first = -(w.head or 0) if padding else 0
    behind = (w.tail or 0) if padding else 0
    if isinstance(w.length, int) and isinstance(w.count, int):
        assert w.head is not None
        read = np.arange(w.count)[:, None] * w.stride - w.head + steps
        inside = (read >= first) & (read < w.length + behind)
        return g.const(inside.sum(axis=1).reshape(shape))
    number = g.Squeeze(g.dim_of(Y, w.axis), [0])
    starts = g.Sub(g.Mul(g.Range(0, number, 1), w.stride), head(g, w, X, Y))  # [o]
    read_ = g.Add(g.Unsqueeze(starts, [1]), steps)  # [o, k]
    end = g.Add(g.dim_of(X, w.axis), behind)
    inside_ = g.And(g.GreaterOrEqual(read_, first), g.Less(read_, end))
    return g.reshape(g.ReduceSum(g.cast(inside_, np.dtype("i8")), [1], keepdims=0), *shape)
