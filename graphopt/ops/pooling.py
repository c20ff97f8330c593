"""Poolings: one number per window, or per channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.ir.operator import Operator
from graphopt.ir.tape import Tape
from graphopt.ir.variable import Constant, Variable
from graphopt.ops.cases import case
from graphopt.ops.normalization import count
from graphopt.ops.registry import Grads, gradient
from graphopt.ops.windows import Window, head, ints, kernel_shape, scattered, windows

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
    X, kernel = op.operand("X"), kernel_shape(op)
    found = windows(op, X, dY, kernel)
    share = g.Div(dY, element_count(g, op, found, X, dY))
    return {"X": add_over_windows(g, share, found, X)}


@gradient("GlobalAveragePool", cases=GLOBALS)
def global_average_pool(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = mean of X over the spatial dims        X: [n, c, *i]   Y: [n, c, 1..]."""
    X = op.operand("X")
    share = g.Div(dY, count(g, X, dY, range(2, X.ndim)))
    return {"X": g.expand_like(share, X)}


@gradient("GlobalMaxPool", cases=GLOBALS)
def global_max_pool(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = max of X over the spatial dims, the first at ties   X: [n, c, *i]   Y: [n, c, 1..]."""
    X = op.operand("X")
    flat = g.reshape(X, 0, 0, -1)
    first = g.ArgMax(flat, axis=2, keepdims=1)  # [n, c, 1]
    dX = g.ScatterElements(g.zeros_like(flat), first, g.reshape(dY, 0, 0, -1), axis=2)
    return {"X": g.reshape_like(dX, X)}


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
    X, p, kernel = op.operand("X"), op.attrs["p"], kernel_shape(op)
    found = windows(op, X, dY, kernel)
    if p == 1:
        return {"X": g.Mul(g.Sign(X), add_over_windows(g, dY, found, X))}
    Y = op.outputs[0]
    assert Y is not None
    slope = X if p == 2 else g.Mul(g.Sign(X), g.Pow(g.Abs(X), g.full(p - 1, X)))  # d |X|^p / p
    share = g.Where(g.Equal(Y, g.full(0, Y)), g.full(0, Y), g.Div(dY, g.Pow(Y, g.full(p - 1, Y))))
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
    ],
)  # fmt: skip
def max_pool(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = max of X over each window, the first at ties        X: [n, c, *i]   Y: [n, c, *o]."""
    X = op.operand("X")
    zeros = g.zeros_like(g.reshape(X, -1))
    where = g.reshape(_positions(g, op), -1)
    dX = g.ScatterElements(zeros, where, g.reshape(dY, -1), reduction=_reduction(op))
    return {"X": g.reshape_like(dX, X)}


def _positions(g: Tape, op: Operator) -> Variable:
    """The position of each maximum in X, read row by row: i64 [n, c, *o]."""
    if op.attrs["storage_order"] == 0:
        return g.result_of(op, "Indices")
    row_major = {**op.attrs, "storage_order": 0}
    where: Variable = g.MaxPool(op.operand("X"), outputs=2, **row_major)[1]
    return where


def _reduction(op: Operator) -> str:
    """No two windows that lie apart share a maximum."""
    kernel = kernel_shape(op)
    spans = [
        (k - 1) * d + 1
        for k, d in zip(kernel, ints(op, "dilations", [1] * len(kernel)), strict=True)
    ]
    strides = ints(op, "strides", [1] * len(kernel))
    apart = all(s >= span for s, span in zip(strides, spans, strict=True))
    return "none" if apart else "add"


def add_over_windows(g: Tape, share: Variable, found: Sequence[Window], X: Variable) -> Variable:
    """For each element of X the sum of ``share`` [n, c, *o] over the windows that hold it."""
    single = g.reshape(share, -1, 1, *[g.dim_of(share, w.axis) for w in found])  # [n c, 1, *o]
    ones = g.const(np.ones((1, 1, *[w.kernel for w in found])), share.dtype)
    return g.reshape_like(scattered(g, single, ones, found, X, 1), X)


def element_count(
    g: Tape, op: Operator, found: Sequence[Window], X: Variable, Y: Variable
) -> Variable:
    """How many elements each window averages: [] if all windows are full, else [*o]."""
    padding = bool(op.attrs["count_include_pad"])
    full = float(np.prod([w.kernel for w in found if _is_full(w, padding)]))
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
    steps = np.arange(w.kernel) * w.dilation
    first = -(w.head or 0) if padding else 0
    behind = (w.tail or 0) if padding else 0
    if isinstance(w.length, int) and isinstance(w.count, int):
        assert w.head is not None
        taps = np.arange(w.count)[:, None] * w.stride - w.head + steps
        inside = (taps >= first) & (taps < w.length + behind)
        return g.const(inside.sum(axis=1).reshape(shape))
    number = g.Squeeze(g.dim_of(Y, w.axis), [0])
    starts = g.Sub(g.Mul(g.Range(0, number, 1), w.stride), head(g, w, X, Y))  # [o]
    taps_ = g.Add(g.Unsqueeze(starts, [1]), steps)  # [o, k]
    end = g.Add(g.dim_of(X, w.axis), behind)
    inside_ = g.And(g.GreaterOrEqual(taps_, first), g.Less(taps_, end))
    return g.reshape(g.ReduceSum(g.cast(inside_, np.dtype("i8")), [1], keepdims=0), *shape)
