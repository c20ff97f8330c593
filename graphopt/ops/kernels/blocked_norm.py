"""Batch normalization and its gradient on blocks of channels. Measured: docs/performance.md.

Each sum and each factor per channel is one op that passes over its operands once: a convolution
with filters of one number scales channels and moves them, one whose filter is as large as its
input is a product of two tensors, channel by channel.
"""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ops.kernels.blocked import Blocks
from graphopt.ops.layers.batch_norm_gradient import Batch
from graphopt.ops.registry.formulations import AS_IS, Machine, formulation
from graphopt.ops.registry.prices import MOVED, NORMED, OP, PASS, SUMMED

OVER_CHANNELS = [0, 2, 3]


def _fills_blocks(x: Variable, machine: Machine) -> bool:
    """Whether x is [n, c, h, w] in float32, c in full blocks."""
    if not machine.block or x.ndim != 4 or x.dtype != np.float32:
        return False
    return 0 not in x.shape and x.shape[1] % machine.block == 0


def _size(op: Operator) -> int:
    return math.prod(next(op.operands()).shape)


# --- forward: Y = scale (X - mean) / std + B


def _trains(op: Operator, machine: Machine) -> bool:
    return bool(op.attrs["training_mode"]) and _fills_blocks(op.operand("X"), machine)


AS_IS["BatchNormalization"] = lambda op, machine: OP + _size(op) * NORMED


@formulation(
    "BatchNormalization",
    when=_trains,  # who trains needs the statistics for the gradient as well: they are not counted
    cost=lambda op, machine: 8 * OP + _size(op) * (PASS + 2 * MOVED),
)
def blocked_norm(g: Tape, op: Operator, machine: Machine) -> list[Variable]:
    """Y = scale (X - mean) / std + B, running = momentum old + (1 - momentum) batch."""
    b, X, keep = Blocks(g, machine.block), op.operand("X"), op.attrs["momentum"]
    found, variance = statistics(b, X, op.attrs["epsilon"])
    slope = g.Mul(op.operand("scale"), found.rstd)
    Y = b.restore(b.scaled(found.centred, slope, op.operand("B")), X.shape[1])
    batch = {"input_mean": found.mean, "input_var": variance}
    running = [g.Add(g.Mul(op.operand(k), keep), g.Mul(v, 1 - keep)) for k, v in batch.items()]
    return [Y, *running]


def statistics(b: Blocks, X: Variable, epsilon: float) -> tuple[Batch, Variable]:
    """The statistics of X over all dims but c, centred in blocks; and the variance."""
    g, n = b.g, X.shape[0]
    x = b.reorder(X)
    means = b.means(x)
    ones, back = g.const(np.ones(X.shape[1], np.float32)), _over_batch(b, means, -1 / n)
    centred = b.scaled(x, ones, back)
    variance = _over_batch(b, b.products(centred, centred), 1 / (n * math.prod(X.shape[2:])))
    rstd = g.Reciprocal(g.Sqrt(g.Add(variance, epsilon)))
    return Batch(_over_batch(b, means, 1 / n), centred, rstd), variance


def _over_batch(b: Blocks, x: Variable, factor: float) -> Variable:
    """The sum over n of x [n, c], times a factor: [c]."""
    total: Variable = b.g.MatMul(np.full(x.shape[0], factor, np.float32), x)
    return total


# --- the gradient: dX = (dY + centred factor + shift) slope


def _takes_gradient(op: Operator, machine: Machine) -> bool:
    return _fills_blocks(op.operand("X"), machine)


# Statistics are shared with the forward op where that is formulated too.
AS_IS["BatchNormMoved"] = lambda op, machine: 20 * OP + _size(op) * 10 * 2 * PASS
AS_IS["BatchNormSlope"] = lambda op, machine: 8 * OP + _size(op) * 5 * 2 * PASS
AS_IS["BatchNormScaleGradient"] = lambda op, machine: 10 * OP + _size(op) * 6 * 2 * PASS


@formulation(
    "BatchNormMoved",
    when=_takes_gradient,
    cost=lambda op, machine: 20 * OP + _size(op) * (7 * PASS + 3 * MOVED),
)
def blocked_moved(g: Tape, op: Operator, machine: Machine) -> Variable:
    """dX / slope = dY + centred factor + shift."""
    b, X = Blocks(g, machine.block), op.operand("X")
    dy, share = b.reorder(op.operand("dY")), -X.shape[1] / _size(op)  # of each element
    found, _ = statistics(b, X, op.attrs["epsilon"])
    factor = g.Mul(g.Mul(_scale_gradient(b, dy, found), found.rstd), share)
    shift = _over_batch(b, b.means(dy), -1 / X.shape[0])
    return b.restore(g.Add(dy, b.scaled(found.centred, factor, shift)), X.shape[1])


@formulation(
    "BatchNormSlope",
    when=_takes_gradient,
    cost=lambda op, machine: 4 * OP + _size(op) * (3 * PASS + MOVED),
)
def blocked_slope(g: Tape, op: Operator, machine: Machine) -> Variable:
    """Slope = scale / std."""
    found, _ = statistics(Blocks(g, machine.block), op.operand("X"), op.attrs["epsilon"])
    slope: Variable = g.Mul(op.operand("scale"), found.rstd)
    return slope


@formulation(
    "BatchNormScaleGradient",
    when=_takes_gradient,
    cost=lambda op, machine: 10 * OP + _size(op) * (4 * PASS + 2 * MOVED),
)
def blocked_scale_gradient(g: Tape, op: Operator, machine: Machine) -> Variable:
    """dscale = sum of dY (X - mean) / std."""
    b = Blocks(g, machine.block)
    found, _ = statistics(b, op.operand("X"), op.attrs["epsilon"])
    return _scale_gradient(b, b.reorder(op.operand("dY")), found)


def _scale_gradient(b: Blocks, dy: Variable, found: Batch) -> Variable:
    product: Variable = b.g.Mul(_over_batch(b, b.products(dy, found.centred), 1.0), found.rstd)
    return product


def _sum(b: Blocks, x: Variable) -> Variable:
    """The sums of channels in blocks: [c]."""
    return _over_batch(b, b.means(x), float(math.prod(x.shape[2:])))


# --- sums of channels, as the gradient of what is added to each


def _sums_channels(op: Operator, machine: Machine) -> bool:
    axes = getattr(op.maybe("axes"), "value", None)
    return (
        axes is not None
        and list(axes) == OVER_CHANNELS
        and not op.attrs["keepdims"]
        and _fills_blocks(op.operand("data"), machine)
    )


AS_IS["ReduceSum"] = lambda op, machine: OP + _size(op) * SUMMED


@formulation(
    "ReduceSum",
    when=_sums_channels,
    cost=lambda op, machine: 3 * OP + _size(op) * (PASS + MOVED),
)
def blocked_sum(g: Tape, op: Operator, machine: Machine) -> Variable:
    """Y = sum of data over all dims but c."""
    b = Blocks(g, machine.block)
    return _sum(b, b.reorder(op.operand("data")))
