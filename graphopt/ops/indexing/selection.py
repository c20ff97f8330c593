"""Ops that select elements by their values, or by a condition."""

from __future__ import annotations

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import to_onnx_dtype
from graphopt.ops.moves.movement import given
from graphopt.ops.registry.cases import Draw, case, i64, ints, scalar
from graphopt.ops.registry.registry import Grads, decomposition, gradient
from graphopt.ops.tools.positions import I64

BOOL = to_onnx_dtype(np.dtype(bool))
SOME = Draw((3,), lambda *_: np.array([True, False, True]), symbolic=False)


@decomposition(
    "Compress",
    cases=[
        case(input=(2, 3), condition=np.array([False, True, True, False, True])),
        case(input=(2, 4), condition=SOME, attrs={"axis": 1}),
        case(input=(3, 2), condition=SOME, attrs={"axis": -2}),
    ],
    nondiff=["condition"],
)
def compress(g: Tape, op: Operator) -> Variable:
    """Y = the slices of X, or its elements, for which the condition holds.

    X: [*m, n, *s]   condition: [up to n]   Y: [*m, k, *s].
    """
    X, axis = op.operand("input"), op.attrs.get("axis")
    kept = g.Squeeze(g.NonZero(op.operand("condition")), [0])  # [k]
    if axis is None:
        return g.Gather(g.Reshape(X, [-1]), kept)
    return g.Gather(X, kept, axis=axis)


@gradient(
    "OneHot",
    cases=[
        case(indices=ints((2, 3), 4, low=-4), depth=scalar(4), values=(2,)),
        case(indices=ints((3,), 6), depth=scalar(4), values=(2,), attrs={"axis": 0}),
        case(indices=ints((2, 3), 4), depth=ints((), 5, low=3), values=(2,), attrs={"axis": 1}),
    ],
    nondiff=["indices", "depth"],
)
def one_hot(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = on at each index of a new axis, off elsewhere        values: [off, on]   Y: [*m, n, *s].

    An index outside [-n, n) is nowhere on.
    """
    indices, depth, values = (op.operand(name) for name in ("indices", "depth", "values"))
    whole = g.cast(indices, I64), g.cast(depth, I64)  # of any number type; few have kernels
    is_on = g.Cast(g.OneHot(*whole, i64(0, 1), axis=op.attrs["axis"]), to=BOOL)
    parts = [g.Where(is_on, 0.0, dY), g.Where(is_on, dY, 0.0)]
    sums = [g.Reshape(g.ReduceSum(part, keepdims=0), [1]) for part in parts]
    return {"values": typed(g.Concat(*sums, axis=0), values)}


@gradient(
    "TopK",
    cases=[
        case(X=(3, 5), K=i64(2), results=2),
        case(X=(4, 3), K=given(3), attrs={"axis": 0, "largest": 0}, results=2),
        case(X=(2, 6), K=given(4), attrs={"sorted": 0}, results=2),
    ],
    nondiff=["K"],
)
def top_k(g: Tape, op: Operator, dValues: Variable) -> Grads:
    """Values = the k largest or smallest of X along an axis        X: [*m, n]   Values: [*m, k]."""
    X, indices = op.operand("X"), g.result_of(op, "Indices")
    return {"X": g.ScatterElements(g.zeros_like(X), indices, dValues, axis=op.attrs["axis"])}


@gradient(
    "Unique",
    cases=[
        case(X=(2, 3)),
        case(X=(5,), attrs={"sorted": 0}),
        case(X=(2, 3, 2), attrs={"axis": 1}),
        case(X=(3, 2), attrs={"axis": -2}, results=4),
    ],
)
def unique(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the slices of X, or its elements, once each; the gradient is shared by equal ones.

    X: [*m, n, *s]   Y: [*m, k, *s].
    """
    X, axis = op.operand("X"), op.attrs.get("axis")
    at, counts = g.result_of(op, "inverse_indices"), g.result_of(op, "counts")  # [n], [k]
    counts = g.cast(counts, X.dtype)
    if axis is None:
        return {"X": g.reshape_like(g.Gather(g.Div(dY, counts), at), X)}
    behind = X.ndim - 1 - axis % X.ndim
    share = g.Div(dY, g.Reshape(counts, [-1, *[1] * behind]))
    return {"X": typed(g.Gather(share, at, axis=axis), X)}
