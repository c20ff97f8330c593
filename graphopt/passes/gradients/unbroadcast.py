"""The gradient of broadcasting, undone once, here: sums over the dims an operand was spread along.

Where symbols leave open whether a dim was 1, the axes are found at run time.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import Dim


def sum_to(g: Tape, grad: Variable, like: Variable) -> Variable:
    """``grad`` summed (or spread) to the shape of ``like``."""
    target, shape = like.tensor_type.shape, grad.tensor_type.shape
    if target is None or shape is None:
        return _sum_over_open_ranks(g, grad, like)
    if shape == target:
        return grad
    if len(shape) < len(target):
        return g.expand_like(grad, like)
    extra = len(shape) - len(target)
    relations = [_relation(d, e) for d, e in zip(target, shape[extra:], strict=True)]
    if "unknown" in relations:
        return _sum_at_run_time(g, grad, like, extra)
    summed = [extra + k for k, r in enumerate(relations) if r == "summed"]
    grad = _reduce(g, grad, extra, summed)
    return g.expand_like(grad, like) if "spread" in relations else typed(grad, like)


def _relation(dim: Dim, found: Dim) -> str:
    """How a dim of the operand became a dim of the gradient."""
    if dim == found:
        return "equal"
    if dim == 1:
        return "summed"
    if isinstance(dim, int):
        return "spread" if found == 1 else "equal"  # a dim other than 1 is never broadcast
    return "spread" if found == 1 else "unknown"


def _reduce(g: Tape, grad: Variable, extra: int, summed: list[int]) -> Variable:
    if not extra and not summed:
        return grad
    if not summed:
        return g.ReduceSum(grad, [*range(extra)], keepdims=0)
    grad = g.ReduceSum(grad, summed, keepdims=1)
    if extra:
        grad = g.ReduceSum(grad, [*range(extra)], keepdims=0)
    return grad


def _sum_at_run_time(g: Tape, grad: Variable, like: Variable, extra: int) -> Variable:
    target = g.Shape(like)  # [r]
    padded = g.Concat(np.ones(extra, np.int64), target, axis=0) if extra else target  # [extra + r]
    return _sum_where_shapes_differ(g, grad, padded, like)


def _sum_over_open_ranks(g: Tape, grad: Variable, like: Variable) -> Variable:
    """The sum where not even the ranks are known; dims that the gradient lacks come first."""
    target = g.Shape(like)  # [r]
    spread = g.Expand(grad, target)
    extra = g.Sub(g.Size(g.Shape(spread)), g.Size(target))  # []
    ones = g.Expand(g.const([1]), g.Unsqueeze(extra, [0]))
    return _sum_where_shapes_differ(g, spread, g.Concat(ones, target, axis=0), like)


def _sum_where_shapes_differ(g: Tape, grad: Variable, padded: Variable, like: Variable) -> Variable:
    target = g.Shape(like)
    differs = g.Not(g.Equal(padded, g.Shape(grad)))
    axes = g.Reshape(g.NonZero(differs), [-1])
    summed = g.ReduceSum(grad, axes, keepdims=1, noop_with_empty_axes=1)
    return typed(g.Reshape(summed, target, allowzero=1), like)
