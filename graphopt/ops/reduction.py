"""Reductions. Axes are an operand (opset 18); without them every dim is reduced."""

from __future__ import annotations

from graphopt.ir.operator import Operator
from graphopt.ir.tape import Tape, typed
from graphopt.ir.variable import Variable
from graphopt.ops.cases import case, i64
from graphopt.ops.registry import Grads, gradient

REDUCTIONS = [
    case(data=(2, 3), attrs={"keepdims": 0}),
    case(data=(2, 3, 4), axes=i64(1)),
    case(data=(2, 3, 4), axes=i64(0, -1), attrs={"keepdims": 0}),
    case(data=(2, 3), attrs={"noop_with_empty_axes": 1}),
]


def kept_dims(g: Tape, op: Operator, x: Variable) -> Variable:
    """A result of ``op``, or its gradient, with the reduced dims back as 1."""
    axes = op.maybe("axes")
    if op.attrs["keepdims"] or x.ndim == op.operand("data").ndim:
        return x
    if axes is None:
        return g.Reshape(x, [1] * op.operand("data").ndim)  # type: ignore[no-any-return]
    return g.Unsqueeze(x, axes)  # type: ignore[no-any-return]


def spread(g: Tape, op: Operator, dY: Variable) -> Variable:
    """dY repeated along the reduced dims: the shape of the operand."""
    return g.expand_like(kept_dims(g, op, dY), op.operand("data"))


def reduced_size(g: Tape, op: Operator) -> Variable:
    """How many elements of the operand go into one element of the result, in its dtype: []."""
    x, y = op.operand("data"), op.outputs[0]
    assert y is not None
    size = g.Div(g.size_of(x), g.size_of(y))
    return g.cast(size, x.dtype)


@gradient("ReduceMax", cases=REDUCTIONS[:3], nondiff=["axes"])
def reduce_max(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = max over axes of X, the gradient shared by ties        X: [*n]   Y: [*n less axes]."""
    return {"data": _among_ties(g, op, dY)}


@gradient("ReduceMean", cases=REDUCTIONS, nondiff=["axes"])
def reduce_mean(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = mean over axes of X        X: [*n]   Y: [*n less axes]."""
    return {"data": spread(g, op, g.Div(dY, reduced_size(g, op)))}


@gradient("ReduceMin", cases=REDUCTIONS[:3], nondiff=["axes"])
def reduce_min(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = min over axes of X, the gradient shared by ties        X: [*n]   Y: [*n less axes]."""
    return {"data": _among_ties(g, op, dY)}


@gradient("ReduceSum", cases=REDUCTIONS, nondiff=["axes"])
def reduce_sum(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = sum over axes of X        X: [*n]   Y: [*n less axes]."""
    return {"data": spread(g, op, dY)}


def _among_ties(g: Tape, op: Operator, dY: Variable) -> Variable:
    X, Y = op.operand("data"), op.outputs[0]
    assert Y is not None
    ties = g.cast(g.Equal(X, kept_dims(g, op, Y)), X.dtype)  # [*n]
    count = g.ReduceSum(ties, op.maybe("axes"), keepdims=1)
    share = g.Div(kept_dims(g, op, dY), count)
    return typed(g.Mul(ties, share), X)
