"""Ops that place updates by index: their gradients pick what became of each update.

Where updates share an index and the reduction is "none", onnx leaves open which of them stays. The
gradient goes to that one: a scatter of the updates' numbers tells which it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ops.maths.elementwise import result_of
from graphopt.ops.maths.products import product_of_others
from graphopt.ops.moves.movement import given
from graphopt.ops.registry.cases import case, ints
from graphopt.ops.registry.registry import Grads, gradient
from graphopt.ops.tools.positions import dims, pick_elements, up_to

Place = Callable[[Variable, Variable, str], Variable]
Pick = Callable[[Variable], Variable]
PAIRS = np.array([[0, 2], [1, 1], [-1, -1], [0, 2]])
ROWS = np.array([[2, 0, 1, 2], [0, -2, 2, 1]])  # no index twice in a column
TWICE = np.array([[2, 0, 1, 2], [-1, -2, 1, 1]])


@gradient(
    "ScatterElements",
    cases=[
        case(data=(3, 4), indices=ROWS, updates=(2, 4)),
        case(data=(2, 5), indices=np.array([[1, 4], [0, 2]]), updates=(2, 2), attrs={"axis": 1}),
        case(data=(3, 4), indices=TWICE, updates=(2, 4)),
        case(data=(3, 4), indices=ints((4, 2), 3, low=-3), updates=(4, 2)),
        *[
            case(data=(3, 4), indices=indices, updates=(2, 4), attrs={"reduction": reduction})
            for indices, reduction in [
                (ints((2, 4), 3), "add"), (TWICE, "mul"), (ints((2, 4), 3, low=-3), "mul"),
                (TWICE, "max"), (ints((2, 4), 3), "min"),
            ]
        ],
    ],
    nondiff=["indices"],
)  # fmt: skip
def scatter_elements(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X with each update put at its index, or reduced with what is there.

    X, Y: [*n]   indices, updates: [*q].
    """
    X, U, indices = op.operand("data"), op.operand("updates"), op.operand("indices")
    axis = op.attrs["axis"]

    def place(x: Variable, u: Variable, reduction: str) -> Variable:
        return typed(g.ScatterElements(x, indices, u, axis=axis, reduction=reduction), X)

    def pick(y: Variable) -> Variable:
        return typed(pick_elements(g, y, indices, axis), U)

    if op.attrs["reduction"] != "none":
        return _reduced(g, op, dY, place, pick)
    picked = pick(dY)
    if not _is_unique_along(indices, axis):
        numbers = g.reshape_like(up_to(g, g.Reshape(g.size_of(U), [1])), U)
        winner = pick(place(g.Expand(0, g.shape_of(X)), numbers, "none"))
        picked = g.Where(g.Equal(winner, numbers), picked, 0.0)
    return {"data": place(dY, g.zeros_like(U), "none"), "updates": picked}


@gradient(
    "ScatterND",
    cases=[
        case(data=(4, 3), indices=np.array([[2], [-4]]), updates=(2, 3)),
        case(data=(2, 3), indices=PAIRS[:2], updates=(2,)),
        case(data=(2, 3), indices=PAIRS, updates=(4,)),
        case(data=(4, 3), indices=ints((5, 1), 4, low=-4), updates=(5, 3)),
        *[
            case(data=(4, 3), indices=indices, updates=(5, 3), attrs={"reduction": reduction})
            for reduction in ("add", "mul", "max", "min")
            for indices in (ints((5, 1), 4), np.array([[2], [-4], [0], [2], [-2]]))
        ],
    ],
    nondiff=["indices"],
)
def scatter_nd(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X with updates put at index tuples, or reduced with what is there.

    X, Y: [*n, *s]   indices: [*q, k] for k dims n   updates: [*q, *s].
    """
    X, U, indices = op.operand("data"), op.operand("updates"), op.operand("indices")

    def place(x: Variable, u: Variable, reduction: str) -> Variable:
        return typed(g.ScatterND(x, indices, u, reduction=reduction), X)

    def pick(y: Variable) -> Variable:
        return typed(g.GatherND(y, indices), U)

    if op.attrs["reduction"] != "none":
        return _reduced(g, op, dY, place, pick)
    picked = pick(dY)
    if not _is_unique(indices):
        picked = g.Where(_stays(g, op), picked, 0.0)
    return {"data": place(dY, g.zeros_like(U), "none"), "updates": picked}


@gradient(
    "TensorScatter",
    cases=[
        case(past_cache=(2, 4, 3), update=(2, 2, 3), write_indices=given(2, 0)),
        case(past_cache=(2, 2, 4, 3), update=(2, 2, 2, 3), write_indices=given(3, 1),
             attrs={"mode": "circular"}),
        case(past_cache=(2, 3, 4), update=(2, 3, 2), attrs={"axis": 2}),
    ],
    nondiff=["write_indices"],
)  # fmt: skip
def tensor_scatter(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = a cache with the update written from an index on, for each sequence of the batch.

    past_cache, Y: [b, *m, n, *s]   update: [b, *m, q, *s]   write_indices: i64[b].
    """
    X, U, first = op.operand("past_cache"), op.operand("update"), op.maybe("write_indices")
    axis = op.attrs["axis"] % X.ndim
    where = up_to(g, g.dim_of(U, axis))  # [q]
    if first is None:
        first = g.Expand(0, g.dim_of(U, 0))
    where = g.Add(g.Unsqueeze(first, [1]), where)  # [b, q]
    where = g.Unsqueeze(g.Mod(where, g.dim_of(X, axis)), [2])
    order = [0, axis, *(k for k in range(1, X.ndim) if k != axis)]
    written = g.GatherND(g.Transpose(dY, perm=order), where, batch_dims=1)  # [b, q, *m, *s]
    attrs = {"axis": op.attrs["axis"], "mode": op.attrs["mode"]}
    return {
        "past_cache": g.TensorScatter(dY, g.zeros_like(U), op.maybe("write_indices"), **attrs),
        "update": typed(g.Transpose(written, perm=np.argsort(order).tolist()), U),
    }


def _reduced(g: Tape, op: Operator, dY: Variable, place: Place, pick: Pick) -> Grads:
    """The gradients where updates are added, multiplied or compared with what is there."""
    X, U, Y = op.operand("data"), op.operand("updates"), result_of(op)
    reduction = op.attrs["reduction"]
    if reduction == "add":
        return {"data": dY, "updates": pick(dY)}
    if reduction == "mul":
        zeros = g.zeros_like(X)
        ones = g.expand_like(g.full(1.0, X), X)
        others = product_of_others(
            g, U, lambda u: pick(place(ones, u, "mul")), lambda u: pick(place(zeros, u, "add"))
        )
        return {"data": place(dY, U, "mul"), "updates": g.Mul(pick(g.Mul(X, dY)), others)}
    kept = g.cast(g.Equal(X, Y), X.dtype)
    won = g.cast(g.Equal(U, pick(Y)), X.dtype)
    share = g.Div(dY, place(kept, won, "add"))  # ties share
    return {"data": g.Mul(kept, share), "updates": g.Mul(won, pick(share))}


def _stays(g: Tape, op: Operator) -> Variable:
    """Whether what a ScatterND puts at each index tuple is still there at the end: [*q, *1]."""
    X, U, indices = op.operand("data"), op.operand("updates"), op.operand("indices")
    if U.tensor_type.shape is None or indices.tensor_type.shape is None:
        return _stays_by_element(g, X, U, indices)
    q = indices.ndim - 1
    shape = dims(g, indices, range(q))
    numbers = g.Reshape(up_to(g, g.Reshape(g.ReduceProd(shape), [1])), shape, allowzero=1)
    grid = g.Slice(g.Shape(X), [0], g.Shape(indices, start=q))  # the dims n
    winner = g.GatherND(g.ScatterND(g.Expand(0, grid), indices, numbers), indices)
    return g.Unsqueeze(g.Equal(typed(winner, numbers), numbers), [*range(q, U.ndim)])


def _stays_by_element(g: Tape, X: Variable, U: Variable, indices: Variable) -> Variable:
    """Whether each element of U is still there at the end, whatever the ranks: the shape of U."""
    count = g.Reshape(g.Size(U), [1])
    numbers = g.Reshape(up_to(g, count), g.Shape(U), allowzero=1)
    winner = g.GatherND(g.ScatterND(g.Expand(0, g.Shape(X)), indices, numbers), indices)
    stays: Variable = g.Equal(winner, numbers)
    return stays


def _is_unique(indices: Variable) -> bool:
    """Whether index tuples are known to differ from each other: i64[*q, k]."""
    if not isinstance(indices, Constant):
        return False
    tuples = indices.value.reshape(-1, indices.value.shape[-1])
    return _one_sign(tuples) and len(np.unique(tuples, axis=0)) == len(tuples)


def _is_unique_along(indices: Variable, axis: int) -> bool:
    """Whether indices are known to differ from each other along an axis."""
    if not isinstance(indices, Constant):
        return False
    ordered = np.sort(indices.value, axis=axis)
    return _one_sign(ordered) and bool(np.diff(ordered, axis=axis).all())


def _one_sign(indices: np.ndarray) -> bool:
    """Whether no index can be another one counted from the other end."""
    return bool((indices >= 0).all() or (indices < 0).all())
