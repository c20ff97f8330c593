"""Positions of elements as i64 tensors: what gradients of indexing share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ops.moves.movement import vector
from graphopt.ops.registry.cases import i64

I64 = np.dtype(np.int64)
CHOICES = 32  # numpy.choose, with which onnx's reference evaluator gathers, takes no more


def dims(g: Tape, x: Variable, axes: Sequence[int]) -> Variable:
    """Some dims of x as an i64 vector: a constant where they are known."""
    shape = x.tensor_type.shape
    known = () if shape is None else (shape[k] for k in axes)
    found = [d for d in known if isinstance(d, int)]
    if len(found) == len(axes):
        return g.const(i64(*found))
    return g.Gather(g.Shape(x), i64(*axes))


def put_back(
    g: Tape,
    X: Variable,
    dY: Variable,
    depth: int | None,
    move: Callable[[Variable], Variable],
    reduction: str = "none",
) -> Variable:
    """The gradient of any op that moves rows of X: move their positions, and put dY there.

    X: [*m, *s] with ``depth`` dims m, or no s   ``move`` takes positions i64[*m] to i64[*q]
    dY: [*q, *s].
    """
    m, s = g.shape_of(X), dims(g, X, ())
    if depth is not None and X.tensor_type.shape is not None:
        m, s = dims(g, X, range(depth)), dims(g, X, range(depth, X.ndim))
    count = _product(g, m)
    positions = g.Reshape(up_to(g, count), m, allowzero=1)  # [*m]
    rows = g.Unsqueeze(move(positions), [-1])  # [*q, 1]
    base = zeros(g, vector(g, [count, s]), X)  # [m1 m2 .., *s]
    return g.reshape_like(g.ScatterND(base, rows, dY, reduction=reduction), X)


def _product(g: Tape, sizes: Variable) -> Variable:
    """The product of sizes: i64[1]."""
    if isinstance(sizes, Constant):
        return g.const(sizes.value.prod(keepdims=True))
    return g.ReduceProd(sizes, keepdims=1)


def up_to(g: Tape, count: Variable) -> Variable:
    """0, 1, .. below count: i64[count]        count: [1]."""
    end = g.const(count.value[0]) if isinstance(count, Constant) else g.Squeeze(count, [0])
    return g.Range(0, end, 1)


def zeros(g: Tape, shape: Variable, like: Variable) -> Variable:
    """Zeros of a shape, of the dtype of ``like``."""
    filled: Variable = g.Expand(g.full(0.0, like), shape)
    return filled


def pick_elements(g: Tape, X: Variable, indices: Variable, axis: int) -> Variable:
    """X at one index along an axis per element        X: [*n]   indices, result: [*q].

    GatherElements where onnx's reference evaluator takes it: it wants q = n off the axis, and a
    short axis that is not negative. Else by positions in X read row by row.
    """
    axis = axis if X.tensor_type.shape is None else axis % X.ndim
    if _is_choice(X, indices, axis):
        picked: Variable = g.GatherElements(X, indices, axis=axis)
        return picked
    others = [k for k in range(X.ndim) if k != axis]
    parts = [g.Mul(_ramp(g, indices, k), _stride(g, X, k)) for k in others]
    along = g.Mod(g.cast(indices, I64), g.dim_of(X, axis))  # none is negative now
    where = reduce(g.Add, [*parts, g.Mul(along, _stride(g, X, axis))])
    return typed(g.Gather(g.Reshape(X, [-1]), where), indices)


def _is_choice(X: Variable, indices: Variable, axis: int) -> bool:
    """Whether the reference evaluator can gather this, or there is no other way."""
    shape, found = X.tensor_type.shape, indices.tensor_type.shape
    if shape is None or found is None:
        return True
    n, q = list(shape), list(found)
    length = n.pop(axis)
    q.pop(axis)
    return n == q and isinstance(length, int) and length <= CHOICES


def _ramp(g: Tape, x: Variable, axis: int) -> Variable:
    """0, 1, .. along one dim of x, to broadcast against it: [n, *1]."""
    return g.Reshape(up_to(g, g.dim_of(x, axis)), [-1, *[1] * (x.ndim - 1 - axis)])


def _stride(g: Tape, X: Variable, axis: int) -> Variable:
    """How many elements lie between neighbours along a dim: i64[1]."""
    return _product(g, dims(g, X, range(axis + 1, X.ndim)))
