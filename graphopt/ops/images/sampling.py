"""Sampling between elements: each sample is a weighted sum of the elements around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.moves.movement import given
from graphopt.ops.registry.cases import Case, Draw, Shape, case, i64
from graphopt.ops.registry.registry import decomposition

I64 = np.dtype(np.int64)
A = -0.75  # the slope of the cubic at a distance of one
CUBIC = np.array(  # by powers of the distance to a tap, for the taps at -1, 0, 1 and 2
    [[-4 * A, 1, 1, -4 * A], [8 * A, 0, 0, 8 * A],
     [-5 * A, -A - 3, -A - 3, -5 * A], [A, A + 2, A + 2, A]]
)  # fmt: skip


@dataclass(frozen=True)
class Taps:
    """What samples read along one axis: k elements each.

    index: i64 [*p, k]   weight: [*p, k], zero where there is nothing to read
    """

    index: Variable
    weight: Variable


def _grid(shape: Shape) -> Draw:
    """Positions that reach a little beyond the image."""
    return Draw(shape, lambda rng, s: rng.uniform(-1.3, 1.3, s))


def _sample_case(mode: str, padding: str, corners: int, volume: bool = False) -> Case:
    attrs = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    X, grid = ((2, 2, 3, 4), (2, 2, 3, 2)) if not volume else ((1, 2, 3, 2, 3), (1, 2, 1, 2, 3))
    return case(X=X, grid=_grid(grid), attrs=attrs)


@decomposition(
    "AffineGrid",
    cases=[
        case(theta=(2, 2, 3), size=i64(2, 1, 2, 3)),
        case(theta=(2, 2, 3), size=given(2, 1, 3, 2), attrs={"align_corners": 1}),
        case(theta=(1, 3, 4), size=i64(1, 2, 2, 3, 2)),
    ],
    nondiff=["size"],
)
def affine_grid(g: Tape, op: Operator) -> Variable:
    """Y = [positions, 1] theta'     theta: [n, r, r + 1]   positions: [*o, r]   Y: [n, *o, r]."""
    theta, size, Y = op.operand("theta"), op.operand("size"), op.outputs[0]
    assert Y is not None
    rank = Y.ndim - 2
    shape = g.Slice(size, [2], [2 + rank])
    axes = [
        g.reshape(_coordinates(g, op, shape, k), -1, *[1] * (rank - k - 1)) for k in range(rank)
    ]
    ones = g.Expand(g.full(1.0, theta), shape)
    columns = [g.Add(ones, g.Sub(x, 1.0)) for x in reversed(axes)]
    base = g.Concat(*[g.Unsqueeze(c, [-1]) for c in (*columns, ones)], axis=-1)  # [*o, r + 1]
    flat = g.reshape(base, -1, rank + 1)
    points = g.MatMul(flat, g.Transpose(theta, perm=[0, 2, 1]))  # [n, o1 o2 .., r]
    return typed(g.Reshape(points, g.Shape(Y)), Y)


def _coordinates(g: Tape, op: Operator, shape: Variable, axis: int) -> Variable:
    """The positions along one axis of [*o], from -1 to 1: [o]."""
    theta, length = op.operand("theta"), g.Gather(shape, axis)
    steps, count = g.cast(g.Range(0, length, 1), theta.dtype), g.cast(length, theta.dtype)
    if op.attrs["align_corners"]:
        return g.Sub(g.Div(g.Mul(steps, 2.0), g.Max(g.Sub(count, 1.0), 1.0)), 1.0)
    return g.Sub(g.Div(g.Add(g.Mul(steps, 2.0), 1.0), count), 1.0)


@decomposition(
    "GridSample",
    cases=[
        _sample_case("linear", "zeros", 0),
        _sample_case("linear", "border", 1),
        _sample_case("linear", "reflection", 0, volume=True),
        _sample_case("nearest", "zeros", 1, volume=True),
        _sample_case("nearest", "reflection", 0),
        _sample_case("cubic", "zeros", 1),
        _sample_case("cubic", "reflection", 0),
    ],
)
def grid_sample(g: Tape, op: Operator) -> Variable:
    """Y = X at the positions of grid    X: [n, c, *i]   grid: [n, *o, r]   Y: [n, c, *o]."""
    X, grid, Y = op.operand("X"), op.operand("grid"), op.outputs[0]
    assert Y is not None
    rank = X.ndim - 2
    points = g.Split(grid, axis=-1, num_outputs=rank, outputs=rank)  # each [n, *o, 1]
    taps = [_grid_taps(g, op, p, axis) for axis, p in enumerate(reversed(points), 2)]
    number = g.Range(0, g.Squeeze(g.dim_of(X, 0), [0]), 1)
    batch = g.reshape(number, -1, *[1] * rank)  # [n, *1]
    sampled = weighted(g, X, batch, taps)  # [n, *o, c]
    return typed(g.Transpose(sampled, perm=[0, rank + 1, *range(1, rank + 1)]), Y)


def _grid_taps(g: Tape, op: Operator, position: Variable, axis: int) -> Taps:
    """position: [n, *o, 1], from -1 to 1, along an axis of X."""
    mode, padding = op.attrs["mode"], op.attrs["padding_mode"]
    length = length_of(g, op.operand("X"), axis, position)
    if op.attrs["align_corners"]:
        x = g.Mul(g.Div(g.Add(position, 1.0), 2.0), g.Sub(length, 1.0))
        low, high = g.full(0.0, x), g.Sub(length, 1.0)
    else:
        x = g.Div(g.Sub(g.Mul(g.Add(position, 1.0), length), 1.0), 2.0)
        low, high = g.full(-0.5, x), g.Sub(length, 0.5)
    x = g.Round(x) if mode == "nearest" else x
    inside = g.And(g.GreaterOrEqual(x, low), g.LessOrEqual(x, high))
    if padding == "border":
        x = g.Where(inside, x, g.Min(g.Max(x, 0.0), g.Sub(length, 1.0)))
    if padding == "reflection":
        x = g.Where(inside, x, _reflected(g, x, low, high))
    index, weight = TAPS[mode](g, x)
    if padding == "reflection":
        index = _reflected(g, index, low, high)
    finish = inside_only if padding == "zeros" else clipped
    return finish(g, index, weight, length)


def _reflected(g: Tape, x: Variable, low: Variable, high: Variable) -> Variable:
    """x mirrored at both ends until it lies between them."""
    span = g.Max(g.Sub(high, low), 0.5)  # not zero where there is one element
    period, beyond = g.Mul(span, 2.0), g.Sub(x, low)
    beyond = g.Sub(beyond, g.Mul(g.Floor(g.Div(beyond, period)), period))  # in [0, 2 span)
    return g.Add(g.Sub(span, g.Abs(g.Sub(beyond, span))), low)


def nearest(g: Tape, x: Variable) -> tuple[Variable, Variable]:
    """The element at x [*p, 1], a whole number: its index and its weight, [*p, 1]."""
    return x, g.Expand(g.full(1.0, x), g.Shape(x))


def linear(g: Tape, x: Variable) -> tuple[Variable, Variable]:
    """The two elements around x [*p, 1]: indices, not rounded to integers, and weights, [*p, 2]."""
    low = g.Floor(x)
    return g.Add(low, [0.0, 1.0]), g.Add(g.Mul(g.Sub(x, low), [-1.0, 1.0]), [1.0, 0.0])


def cubic(g: Tape, x: Variable) -> tuple[Variable, Variable]:
    """The four elements around x [*p, 1]: indices and weights, [*p, 4]."""
    low = g.Floor(x)
    distance = g.Add(g.Mul(g.Sub(x, low), [1.0, 1.0, -1.0, -1.0]), [1.0, 0.0, 1.0, 2.0])
    weight: Variable = g.const(CUBIC[3], x.dtype)
    for factors in CUBIC[2::-1]:
        weight = g.Add(g.Mul(weight, distance), factors.tolist())
    return g.Add(low, [-1.0, 0.0, 1.0, 2.0]), weight


TAPS = {"nearest": nearest, "linear": linear, "cubic": cubic}


def length_of(g: Tape, X: Variable, axis: int, like: Variable) -> Variable:
    """A dim of X as a number of another dtype: [1]."""
    return g.cast(g.dim_of(X, axis), like.dtype)


def clipped(g: Tape, index: Variable, weight: Variable, length: Variable) -> Taps:
    """Taps outside of the image read the element at its border."""
    inner = g.Min(g.Max(index, 0.0), g.Sub(length, 1.0))
    return Taps(g.cast(inner, I64), weight)


def inside_only(g: Tape, index: Variable, weight: Variable, length: Variable) -> Taps:
    """Taps outside of the image read nothing."""
    inside = g.And(g.GreaterOrEqual(index, 0.0), g.Less(index, length))
    return clipped(g, index, g.Where(inside, weight, 0.0), length)


def rows_at(
    g: Tape, X: Variable, batch: Variable, taps: Sequence[Taps]
) -> tuple[Variable, Variable]:
    """What each sample reads, and the weight of each: [*p, k1 k2 .., c] and [*p, k1 k2 ..].

    X: [n, c, *i]   batch: i64, broadcast to [*p]   taps: [*p, k], one for each of *i
    """
    p, rank = taps[0].index.ndim - 1, len(taps)
    row, weight = g.Unsqueeze(batch, [*range(batch.ndim, batch.ndim + rank)]), None
    for d, tap in enumerate(taps):
        others = [p + k for k in range(rank) if k != d]
        index, factor = (g.Unsqueeze(v, others) for v in (tap.index, tap.weight))
        row = g.Add(g.Mul(row, g.dim_of(X, d + 2)), index)
        weight = factor if weight is None else g.Mul(weight, factor)
    rows = g.reshape(g.Transpose(X, perm=[0, *range(2, X.ndim), 1]), -1, g.dim_of(X, 1))
    assert weight is not None
    read = g.Gather(rows, g.reshape(row, *[0] * p, -1))
    return read, g.cast(g.reshape(weight, *[0] * p, -1), X.dtype)


def weighted(g: Tape, X: Variable, batch: Variable, taps: Sequence[Taps]) -> Variable:
    """Samples of X: [*p, c], as ``rows_at`` takes them."""
    read, weight = rows_at(g, X, batch, taps)
    p = weight.ndim - 1
    return g.Squeeze(g.MatMul(g.Unsqueeze(weight, [p]), read), [p])
