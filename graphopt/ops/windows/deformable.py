"""DeformConv: a convolution whose taps are moved by offsets that the network computes."""

from __future__ import annotations

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.images.sampling import inside_only, length_of, linear, weighted
from graphopt.ops.registry.cases import case, fixed
from graphopt.ops.registry.registry import decomposition
from graphopt.ops.windows.windows import ints


@decomposition(
    "DeformConv",
    cases=[
        case(X=(1, 2, 4, 3), W=fixed((3, 2, 2, 2)), offset=(1, 8, 3, 2), B=(3,)),
        case(X=(2, 4, 5, 4), W=(2, 2, 2, 1), offset=(2, 8, 3, 6), mask=(2, 4, 3, 6),
             attrs={"group": 2, "offset_group": 2, "strides": [2, 1], "dilations": [2, 1],
                    "pads": [1, 1, 1, 1]}),
    ],
)  # fmt: skip
def deform_conv(g: Tape, op: Operator) -> Variable:
    """Y = W X at the moved taps, times mask, + B        X: [n, c, *i]   Y: [n, m, *o]."""
    X, W, B, Y = op.operand("X"), op.operand("W"), op.maybe("B"), op.outputs[0]
    n, group, mask = g.dim_of(X, 0), op.attrs["group"], op.maybe("mask")
    read = _read(g, op)  # [n og, k, o, c / og], with og groups of offsets
    if mask is not None:
        taps = [g.dim_of(read, 0), g.dim_of(read, 1)]
        read = g.Mul(read, g.reshape(mask, *taps, -1, 1))
    columns = g.Transpose(read, perm=[0, 3, 1, 2])  # [n og, c / og, k, o]
    columns = g.reshape(columns, n, group, -1, g.dim_of(columns, 3))
    filters = g.reshape(W, group, -1, g.dim_of(columns, 2))  # [group, m / group, c k / group]
    result = g.MatMul(filters, columns)  # [n, group, m / group, o]
    result = g.reshape(result, n, -1, *_dims(g, op.operand("offset")))
    assert Y is not None
    if B is not None:
        result = g.Add(result, g.reshape(B, -1, *[1] * (X.ndim - 2)))
    return typed(result, Y)


def _dims(g: Tape, x: Variable) -> list[Variable]:
    """The dims of x from the third on."""
    return [g.dim_of(x, axis) for axis in range(2, x.ndim)]


def _read(g: Tape, op: Operator) -> Variable:
    """X at every tap of every window: [n og, k, o, c / og]."""
    X, W, offset = op.operand("X"), op.operand("W"), op.operand("offset")
    rank = X.ndim - 2
    strides, dilations = ints(op, "strides", [1] * rank), ints(op, "dilations", [1] * rank)
    pads, size = ints(op, "pads", [0] * rank), g.ReduceProd(g.dims(*_dims(g, W)), keepdims=1)
    windows = g.ReduceProd(g.dims(*_dims(g, offset)), keepdims=1)
    moves = g.reshape(offset, -1, size, rank, windows)
    taps = []
    for d, move in enumerate(g.Split(moves, axis=2, num_outputs=rank, outputs=rank)):
        k, o = _numbers(g, W, d, dilations[d]), _numbers(g, offset, d, strides[d])
        start = g.Sub(g.Add(g.Unsqueeze(k, [1]), o), pads[d])  # [k, o]
        place = g.Add(g.Squeeze(move, [2]), g.cast(start, X.dtype))  # [n og, k, o]
        index, weight = linear(g, g.Unsqueeze(place, [3]))
        taps.append(inside_only(g, index, weight, length_of(g, X, d + 2, X)))
    parts = g.Div(g.dim_of(X, 1), op.attrs["offset_group"])
    images = g.reshape(X, -1, parts, *_dims(g, X))  # [n og, c / og, *i]
    numbers = g.Range(0, g.Squeeze(g.dim_of(images, 0), [0]), 1)
    return weighted(g, images, g.reshape(numbers, -1, 1, 1), taps)


def _numbers(g: Tape, x: Variable, d: int, step: int) -> Variable:
    """The index along spatial dim d of every spatial place of x, times step: i64 [i1 i2 ..]."""
    dims = _dims(g, x)
    along = g.Mul(g.Range(0, g.Squeeze(dims[d], [0]), 1), step)
    spread = g.Expand(g.reshape(along, -1, *[1] * (len(dims) - d - 1)), g.dims(*dims))
    return g.reshape(spread, -1)
