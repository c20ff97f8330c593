"""Ops that move whole blocks of elements without changing them: their gradients move them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ops.registry.cases import Draw, case, i64, ints, scalar
from graphopt.ops.registry.registry import Grad, Grads, gradient

IMAGE = (2, 8, 3, 2)  # [n, c, h, w]


def given(*values: int) -> Draw:
    """A fed i64 vector of these values, of known length."""
    return Draw((len(values),), lambda *_: i64(*values), symbolic=False)


@gradient(
    "Concat",
    cases=[
        case(inputs=[(2, 3), (2, 1), (2, 2)], attrs={"axis": 1}),
        case(inputs=[(2, 3), (1, 3)], attrs={"axis": -2}),
        case(inputs=[(2, 3)], attrs={"axis": 0}),
    ],
)
def concat(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the operands one after the other along an axis        Y: [*m, n1 + n2 + .., *s]."""
    axis, operands = op.attrs["axis"], list(op.reads())
    if len(operands) == 1:
        return {"inputs": [dY]}
    sizes = vector(g, [_length(g, x, axis) for x in operands])
    parts = g.Split(dY, sizes, axis=axis, outputs=len(operands))
    return {"inputs": [typed(part, x) for part, x in zip(parts, operands, strict=True)]}


@gradient(
    "CumSum",
    cases=[
        case(x=(2, 3), axis=scalar(1)),
        case(x=(3, 2), axis=scalar(-2), attrs={"exclusive": 1}),
        case(x=(2, 3), axis=scalar(1), attrs={"reverse": 1}),
        case(x=(2, 3), axis=ints((), 2, low=-2)),
    ],
    nondiff=["axis"],
)
def cum_sum(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the sum of X up to each position of an axis, or from there on        X, Y: [*n]."""
    exclusive, reverse = op.attrs["exclusive"], 1 - op.attrs["reverse"]
    return {"x": g.CumSum(dY, op.operand("axis"), exclusive=exclusive, reverse=reverse)}


@gradient(
    "DepthToSpace",
    cases=[
        case(input=IMAGE, attrs={"blocksize": 2}),
        case(input=IMAGE, attrs={"blocksize": 2, "mode": "CRD"}),
    ],
)
def depth_to_space(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X, channels moved into blocks        X: [n, c b^2, h, w]   Y: [n, c, h b, w b]."""
    X, b = op.operand("input"), op.attrs["blocksize"]
    if op.attrs["mode"] == "DCR":
        return {"input": typed(g.SpaceToDepth(dY, blocksize=b), X)}
    blocks = split_dims(g, dY, [0, 0, g.dim_of(X, 2), b, g.dim_of(X, 3), b])  # [n, c, h, b, w, b]
    return {"input": g.reshape_like(g.Transpose(blocks, perm=[0, 1, 3, 5, 2, 4]), X)}


@gradient(
    "Expand",
    cases=[
        case(input=(2, 1), shape=i64(4, 2, 3)),
        case(input=(3,), shape=i64(1)),
        case(input=(2, 1), shape=given(4, 2, 3)),
        case(input=(2, 1), shape=replace(given(4, 2, 3), symbolic=True)),
    ],
    nondiff=["shape"],
)
def expand(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X broadcast to a shape        X: broadcast to Y."""
    return {"input": dY}


@gradient("Flatten", cases=[case(input=(2, 3, 4)), case(input=(2, 3, 4), attrs={"axis": -1})])
def flatten(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X as a matrix        X: [*m, *n]   Y: [m1 m2 .., n1 n2 ..]."""
    return {"input": g.reshape_like(dY, op.operand("input"))}


@gradient(
    "Reshape",
    cases=[
        case(data=(2, 3, 4), shape=i64(6, 4)),
        case(data=(2, 3), shape=i64(0, -1, 1)),
        case(data=(2, 3), shape=given(0, -1, 1)),
        case(data=(2, 3), shape=i64(3, 2), attrs={"allowzero": 1}),
        case(data=(2, 3), shape=replace(given(3, 2), symbolic=True)),
    ],
    nondiff=["shape"],
)
def reshape(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X in another shape        X: [*n]   Y: [*m], as many elements."""
    X = op.operand("data")
    if op.attrs["allowzero"]:  # X may have dims of 0, which stand for a copy elsewhere
        return {"data": typed(g.Reshape(dY, g.shape_of(X), allowzero=1), X)}
    return {"data": g.reshape_like(dY, X)}


@gradient(
    "ReverseSequence",
    cases=[
        case(input=(4, 3, 2), sequence_lens=i64(2, 4, 1)),
        case(
            input=(2, 4),
            sequence_lens=ints((2,), 5, low=1),
            attrs={"batch_axis": 0, "time_axis": 1},
        ),
    ],
    nondiff=["sequence_lens"],
)
def reverse_sequence(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X with the first elements of each sequence reversed        X, Y: [t, n, *s]."""
    axes = {name: op.attrs[name] for name in ("batch_axis", "time_axis")}
    return {"input": g.ReverseSequence(dY, op.operand("sequence_lens"), **axes)}


@gradient("SpaceToDepth", cases=[case(input=(2, 3, 4, 2), attrs={"blocksize": 2})])
def space_to_depth(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X, blocks moved into channels        X: [n, c, h b, w b]   Y: [n, c b^2, h, w]."""
    mode = op.attrs.get("mode", "DCR")  # an attribute since opset 28
    dX = g.DepthToSpace(dY, blocksize=op.attrs["blocksize"], mode=mode)
    return {"input": typed(dX, op.operand("input"))}


@gradient(
    "Split",
    cases=[
        case(input=(4, 3), attrs={"num_outputs": 2}, results=2),
        case(input=(2, 5), attrs={"num_outputs": 3, "axis": -1}, results=3),
        case(input=(2, 5), split=i64(1, 4), attrs={"axis": 1}, results=2),
        case(input=(2, 5), split=given(3, 0, 2), attrs={"axis": -1}, results=3),
    ],
    nondiff=["split"],
)
def split(g: Tape, op: Operator, *dY: Grad) -> Grads:
    """Y1, Y2, .. = X cut along an axis        X: [*m, n1 + n2 + .., *s]   Yi: [*m, ni, *s]."""
    parts = [
        g.zeros_like(y) if part is None else part
        for part, y in zip(dY, op.writes(), strict=True)  # a result that is not used has no dY
    ]
    return {"input": typed(g.Concat(*parts, axis=op.attrs["axis"]), op.operand("input"))}


@gradient(
    "Squeeze",
    cases=[
        case(data=(2, 1, 3), axes=i64(1)),
        case(data=(1, 2, 1)),
        case(data=(2, 1, 3, 1), axes=given(-1, 1)),
    ],
    nondiff=["axes"],
)
def squeeze(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X without some dims of size 1        X: [*n]."""
    return {"data": g.reshape_like(dY, op.operand("data"))}


@gradient(
    "Tile",
    cases=[
        case(input=(2, 3), repeats=i64(1, 2)),
        case(input=(2, 3, 2), repeats=i64(3, 1, 2)),
        case(input=(2, 3), repeats=given(2, 1)),
        case(input=(2, 3), repeats=i64(1, 1)),
    ],
    nondiff=["repeats"],
)
def tile(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X repeated r times along its dims        X: [*n]   Y: [*(r n)]."""
    X, repeats = op.operand("input"), op.operand("repeats")
    if X.tensor_type.shape is None or not isinstance(repeats, Constant):
        return {"input": _untile(g, X, repeats, dY)}
    dims: list[int | Variable] = []
    axes: list[int] = []
    for k, times in enumerate(repeats.value.tolist()):
        if times != 1:
            axes.append(len(dims))
            dims.append(times)
        dims.append(g.dim_of(X, k))
    if not axes:
        return {"input": dY}
    return {"input": typed(g.ReduceSum(split_dims(g, dY, dims), axes, keepdims=0), X)}


def _untile(g: Tape, X: Variable, repeats: Variable, dY: Variable) -> Variable:
    """The copies of X in dY added up, with repeats or the rank found at run time."""
    both = [g.Unsqueeze(v, [1]) for v in (repeats, g.shape_of(X))]  # [rank, 1]
    pairs = g.Reshape(g.Concat(*both, axis=1), [-1])  # r1, n1, r2, n2, ..
    known = X.tensor_type.shape is not None
    axes = [*range(0, 2 * X.ndim, 2)] if known else g.Range(0, g.Size(pairs), 2)
    return typed(g.ReduceSum(g.Reshape(dY, pairs), axes, keepdims=0), X)


@gradient("Transpose", cases=[case(data=(2, 3, 4), attrs={"perm": [2, 0, 1]}), case(data=(2, 3))])
def transpose(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y[..] = X with its dims permuted        X: [*n]   Y: [n[perm]]."""
    perm = op.attrs.get("perm")
    if perm is None:
        return {"data": g.Transpose(dY)}
    inverse = sorted(range(len(perm)), key=perm.__getitem__)
    return {"data": g.Transpose(dY, perm=inverse)}


@gradient(
    "Trilu",
    cases=[
        case(input=(3, 4)),
        case(input=(2, 3, 3), k=scalar(-1), attrs={"upper": 0}),
        case(input=(3, 3), k=ints((), 2, low=-1)),
    ],
    nondiff=["k"],
)
def trilu(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X above, or below, its k-th diagonal, zero elsewhere        X, Y: [*n, i, j]."""
    return {"input": g.Trilu(dY, op.maybe("k"), upper=op.attrs["upper"])}


@gradient(
    "Unsqueeze",
    cases=[case(data=(2, 3), axes=i64(0, -1)), case(data=(2, 3), axes=given(-2, 0))],
    nondiff=["axes"],
)
def unsqueeze(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X with new dims of size 1        X: [*n]."""
    return {"data": g.reshape_like(dY, op.operand("data"))}


def vector(g: Tape, parts: Sequence[int | Variable]) -> Variable:
    """Ints and i64 vectors joined to one i64 vector: a constant where all are known."""
    known = [p.value if isinstance(p, Constant) else p for p in parts]
    if any(isinstance(p, Variable) for p in known):
        return g.Concat(*[p if isinstance(p, Variable) else i64(p) for p in parts], axis=0)
    return g.const(np.hstack([np.zeros(0, np.int64), *known]))


def _length(g: Tape, x: Variable, axis: int) -> Variable:
    """A dim of x, whose rank need not be known: i64[1]."""
    if x.tensor_type.shape is not None:
        return g.dim_of(x, axis)
    found: Variable = g.Gather(g.Shape(x), [axis])
    return found


def split_dims(g: Tape, x: Variable, dims: Sequence[int | Variable]) -> Variable:
    """x reshaped to dims that are ints or i64[1]; needs no Shape op while one is unknown."""
    unknown = [d for d in dims if isinstance(d, Variable) and not isinstance(d, Constant)]
    target = (
        [-1 if any(d is u for u in unknown) else d for d in dims] if len(unknown) == 1 else dims
    )
    return g.Reshape(x, vector(g, target))
