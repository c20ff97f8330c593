"""Reductions. Axes are an operand (opset 18); without them every dim is reduced."""

from __future__ import annotations

import math

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import Dim
from graphopt.ops.maths.elementwise import result_of
from graphopt.ops.moves.movement import given
from graphopt.ops.registry.cases import case, i64, positive
from graphopt.ops.registry.registry import Grads, gradient

REDUCTIONS = [
    case(data=(2, 3), attrs={"keepdims": 0}),
    case(data=(2, 3, 4), axes=i64(1)),
    case(data=(2, 3, 4), axes=i64(0, -1), attrs={"keepdims": 0}),
    case(data=(2, 3), attrs={"noop_with_empty_axes": 1}),
    case(data=(2, 3, 4), axes=given(0, -1)),
    case(data=(2, 3, 4), axes=given(2, 0), attrs={"keepdims": 0}),
    case(data=(2, 3), axes=given(), attrs={"keepdims": 0}),
    case(data=(2, 3), axes=given(), attrs={"keepdims": 0, "noop_with_empty_axes": 1}),
    case(data=(2, 3), axes=i64(), attrs={"noop_with_empty_axes": 1}),
    case(data=(2, 3), axes=i64(), attrs={"keepdims": 0}),
]


def kept_dims(g: Tape, op: Operator, x: Variable) -> Variable:
    """A result of ``op``, or its gradient, as it broadcasts against the operand."""
    axes = op.maybe("axes")
    if op.attrs["keepdims"] or axes is None:
        return x  # without axes everything is reduced, or nothing
    return g.Unsqueeze(x, axes)  # no axes leave a scalar, or the operand's own shape


def reduced(g: Tape, op: Operator, type: str, x: Variable) -> Variable:
    """x reduced over the axes of ``op``, which stay as 1."""
    noop = op.attrs["noop_with_empty_axes"]
    y: Variable = g.emit(type, x, op.maybe("axes"), keepdims=1, noop_with_empty_axes=noop)
    return y


def spread(g: Tape, op: Operator, dY: Variable) -> Variable:
    """dY repeated along the reduced dims: the shape of the operand."""
    return g.expand_like(kept_dims(g, op, dY), op.operand("data"))


def reduced_size(g: Tape, op: Operator) -> Variable:
    """How many elements of the operand go into one element of the result, in its dtype: []."""
    x, y = op.operand("data"), op.outputs[0]
    assert y is not None
    dims = _reduced_dims(op, x)
    if dims is not None and all(isinstance(d, int) for d in dims):
        return g.full(math.prod(int(d) for d in dims), x)
    size = g.cast(g.size_of(x), x.dtype)
    if y.tensor_type.shape is None or any(d != 1 for d in y.tensor_type.shape):
        size = g.Div(size, g.cast(g.size_of(y), x.dtype))  # floats: both may be 0
    return size


def _reduced_dims(op: Operator, x: Variable) -> list[Dim] | None:
    """The dims that are reduced, where the rank and the axes are known."""
    axes, shape = op.maybe("axes"), x.tensor_type.shape
    if shape is None or not (axes is None or isinstance(axes, Constant)):
        return None
    if axes is None or not axes.value.size:
        return [] if op.attrs["noop_with_empty_axes"] else list(shape)
    return [shape[int(a)] for a in axes.value]


@gradient("ReduceL1", cases=REDUCTIONS, nondiff=["axes"])
def reduce_l1(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = sum over axes of |X|        X: [*n]   Y: [*n less axes]."""
    X = op.operand("data")
    return {"data": typed(g.Mul(g.Sign(X), kept_dims(g, op, dY)), X)}


@gradient("ReduceL2", cases=REDUCTIONS, nondiff=["axes"])
def reduce_l2(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = sqrt of the sum over axes of X^2, of slope 0 at 0        X: [*n]   Y: [*n less axes]."""
    X, Y = op.operand("data"), result_of(op)
    share = g.Div(dY, g.Where(g.Equal(Y, 0.0), 1.0, Y))
    return {"data": typed(g.Mul(X, kept_dims(g, op, share)), X)}


@gradient(
    "ReduceLogSum",
    cases=[
        case(data=positive((2, 3)), attrs={"keepdims": 0}),
        case(data=positive((2, 3, 4)), axes=i64(1)),
    ],
    nondiff=["axes"],
)
def reduce_log_sum(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = log of the sum over axes of X        X: [*n]   Y: [*n less axes]."""
    return {"data": spread(g, op, g.Mul(dY, g.Exp(g.Neg(result_of(op)))))}


@gradient("ReduceLogSumExp", cases=REDUCTIONS, nondiff=["axes"])
def reduce_log_sum_exp(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = log of the sum over axes of exp X        X: [*n]   Y: [*n less axes]."""
    X = op.operand("data")
    softmax = g.Exp(g.Sub(X, kept_dims(g, op, result_of(op))))
    return {"data": typed(g.Mul(softmax, kept_dims(g, op, dY)), X)}


@gradient("ReduceMax", cases=REDUCTIONS, nondiff=["axes"])
def reduce_max(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = max over axes of X, the gradient shared by ties        X: [*n]   Y: [*n less axes]."""
    return {"data": _among_ties(g, op, dY)}


@gradient("ReduceMean", cases=REDUCTIONS, nondiff=["axes"])
def reduce_mean(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = mean over axes of X        X: [*n]   Y: [*n less axes]."""
    return {"data": spread(g, op, g.Div(dY, reduced_size(g, op)))}


@gradient("ReduceMin", cases=REDUCTIONS, nondiff=["axes"])
def reduce_min(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = min over axes of X, the gradient shared by ties        X: [*n]   Y: [*n less axes]."""
    return {"data": _among_ties(g, op, dY)}


@gradient("ReduceSum", cases=REDUCTIONS, nondiff=["axes"])
def reduce_sum(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = sum over axes of X        X: [*n]   Y: [*n less axes]."""
    return {"data": spread(g, op, dY)}


@gradient("ReduceSumSquare", cases=REDUCTIONS, nondiff=["axes"])
def reduce_sum_square(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = sum over axes of X^2        X: [*n]   Y: [*n less axes]."""
    X = op.operand("data")
    return {"data": typed(g.Mul(X, kept_dims(g, op, g.Mul(dY, 2.0))), X)}


def _among_ties(g: Tape, op: Operator, dY: Variable) -> Variable:
    X, Y = op.operand("data"), result_of(op)
    ties = g.cast(g.Equal(X, kept_dims(g, op, Y)), X.dtype)  # [*n]
    share = g.Div(kept_dims(g, op, dY), reduced(g, op, "ReduceSum", ties))
    return typed(g.Mul(ties, share), X)
