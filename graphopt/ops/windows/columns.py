"""Windows laid out side by side, and put back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.moves.movement import given
from graphopt.ops.registry.cases import case, i64
from graphopt.ops.registry.registry import Grads, decomposition, gradient
from graphopt.ops.windows.windows import ints

I64_MAX = np.iinfo(np.int64).max


@decomposition(
    "CausalConvWithState",
    cases=[
        case(input=(2, 3, 4), weight=(3, 1, 3), bias=(3,), results=2),
        case(input=(1, 2, 3), weight=(2, 1, 4), past_state=(1, 2, 3),
             attrs={"activation": "silu"}, results=2),
        case(input=(2, 2, 3), weight=(2, 1, 1), results=2),
    ],
)  # fmt: skip
def causal_conv_with_state(g: Tape, op: Operator) -> list[Variable]:
    """Y = act(W X + B), each channel by itself        X, Y: [n, c, l]   W: [c, 1, k]   B: [c].

    Before X comes the state, k - 1 elements; the last k - 1 of both are the next state.
    """
    X, W = op.operand("input"), op.operand("weight")
    B, past = op.maybe("bias"), op.maybe("past_state")
    length, k = g.dim_of(X, 2), g.dim_of(W, 2)
    if past is None:
        whole = g.Pad(X, g.dims(g.Sub(k, 1), 0), None, [2])
    else:
        whole = g.Concat(past, X, axis=2)
    read = columns(g, whole, [g.Squeeze(k, [0])], [1], [1])  # [n, c, k, l]
    result = g.Squeeze(g.MatMul(W, read), [2])
    if B is not None:
        result = g.Add(result, g.Unsqueeze(B, [1]))
    if op.attrs["activation"] != "none":
        result = g.Mul(result, g.Sigmoid(result))
    return [typed(result, X), g.Slice(whole, length, [I64_MAX], [2])]


@gradient(
    "Col2Im",
    cases=[
        case(input=(2, 12, 8), image_shape=i64(4, 6), block_shape=i64(3, 2),
             attrs={"strides": [1, 1], "dilations": [1, 2]}),
        case(input=(1, 8, 9), image_shape=given(5, 4), block_shape=given(2, 2),
             attrs={"strides": [2, 2], "pads": [0, 1, 1, 1]}),
        case(input=(1, 8, 12), image_shape=i64(3, 4, 3), block_shape=i64(2, 2, 2)),
        case(input=(1, 4, 4), image_shape=i64(2, 2, 2, 2, 1), block_shape=given(1, 2, 1, 2, 1)),
    ],
    nondiff=["image_shape", "block_shape"],
)  # fmt: skip
def col2im(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the sum of the blocks, each at its place        X: [n, c k, l]   Y: [n, c, *i]."""
    rank = dY.ndim - 2
    strides, dilations = ints(op, "strides", [1] * rank), ints(op, "dilations", [1] * rank)
    pads = ints(op, "pads", [0] * 2 * rank)
    around = g.Pad(dY, pads, None, [*range(2, 2 + rank)]) if any(pads) else dY
    kernel = [g.Gather(op.operand("block_shape"), d) for d in range(rank)]
    dX = columns(g, around, kernel, strides, dilations)  # [n, c, *k, *l]
    return {"input": g.reshape_like(dX, op.operand("input"))}


def columns(
    g: Tape, x: Variable, kernel: Sequence[Variable], strides: Sequence[int],
    dilations: Sequence[int],
) -> Variable:  # fmt: skip
    """What each window reads: [n, c, *kernel, *count]        x: [n, c, *i]   kernel: i64[] each."""
    rank = len(kernel)
    for d, (k, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        length = g.Squeeze(g.dim_of(x, 2 + 2 * d), [0])
        room = g.Sub(g.Sub(length, 1), g.Mul(g.Sub(k, 1), dilation))
        count = g.Add(g.Div(room, stride), 1)
        taps = g.Unsqueeze(g.Mul(g.Range(0, k, 1), dilation), [1])  # [k, 1]
        starts = g.Mul(g.Range(0, count, 1), stride)  # [o]
        x = g.Gather(x, g.Add(taps, starts), axis=2 + 2 * d)
    axes = np.arange(2, 2 + 2 * rank).reshape(rank, 2).T.ravel().tolist()
    return g.Transpose(x, perm=[0, 1, *axes])
