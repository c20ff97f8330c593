"""Normalizations, and dropout.

Statistics are worked out again from X: a few reads, and second derivatives need nothing more.
Their gradients are gathered in per-channel (or per-group) factors, which are small, so that few
ops pass over tensors of the size of X.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphopt.ir.model.dropout import drops
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ops.layers.batch_norm_gradient import (
    along_channels,
    axes_but_channels,
    count,
    ranked,
    statistics,
)
from graphopt.ops.registry.cases import Draw, case, fixed, positive, scalar
from graphopt.ops.registry.registry import Grad, Grads, gradient

CHANNELS: dict[str, Any] = {
    "scale": fixed((3,)),
    "B": fixed((3,)),
    "input_mean": fixed((3,)),
    "input_var": positive((3,)),
}
SOME = Draw((), lambda *_: np.array(0.4))
TRAINING = {"training_mode": 1, "momentum": 0.7}


def inverse_std(g: Tape, centred: Variable, axes: Sequence[int], epsilon: float) -> Variable:
    """1 / sqrt(var + epsilon) of values whose mean is 0, with the reduced dims kept as 1."""
    variance = g.ReduceMean(g.Mul(centred, centred), [*axes], keepdims=1)
    return g.Reciprocal(g.Sqrt(g.Add(variance, epsilon)))


def axes_from(axis: int, X: Variable) -> list[int]:
    """The axes of X from one on, counted from the end where the rank is not known."""
    if X.tensor_type.shape is None and axis < 0:
        return [*range(axis, 0)]
    return [*range(axis % X.ndim, X.ndim)]


def total(g: Tape, *parts: Variable | None) -> Variable | None:
    """The sum of the parts that are there."""
    there = [p for p in parts if p is not None]
    if len(there) < 2:
        return there[0] if there else None
    return g.Add(*there) if len(there) == 2 else g.Sum(*there)


@gradient(
    "BatchNormalization",
    cases=[
        case(X=(2, 3, 2, 2), **CHANNELS),
        case(X=(4, 3), **CHANNELS, attrs={"epsilon": 0.1}),
        case(X=(3, 3, 2), **CHANNELS, attrs=TRAINING, results=3),
        case(X=(2, 3, 2, 2), **CHANNELS, attrs={"training_mode": 1}, results=3),
        case(X=(5, 3), **CHANNELS, attrs=TRAINING, results=3),
    ],
)
def batch_normalization(
    g: Tape, op: Operator, dY: Grad, d_running_mean: Grad, d_running_var: Grad
) -> Grads:
    """Y = scale (X - mean) / sqrt(var + epsilon) + B        X, Y: [n, c, *i]   others: [c].

    Training: mean and var are those of X over all dims but c, and
    running = momentum input + (1 - momentum) batch.
    """
    if op.attrs["training_mode"]:
        return _batch_norm_training(g, op, dY, d_running_mean, d_running_var)
    assert dY is not None
    X, scale, dY = ranked(g, op.operand("X")), op.operand("scale"), ranked(g, dY)
    rstd = g.Reciprocal(g.Sqrt(g.Add(op.operand("input_var"), op.attrs["epsilon"])))  # [c]
    slope = g.Mul(scale, rstd)
    axes = [0, *range(2, X.ndim)]
    centred = g.Sub(X, along_channels(g, op.operand("input_mean"), X))
    dB = g.ReduceSum(dY, axes, keepdims=0)
    dscale = g.Mul(g.ReduceSum(g.Mul(dY, centred), axes, keepdims=0), rstd)
    return {
        "X": g.reshape_like(typed(g.Mul(dY, along_channels(g, slope, X)), X), op.operand("X")),
        "scale": dscale,
        "B": dB,
        "input_mean": g.Neg(g.Mul(dB, slope)),
        "input_var": typed(g.Mul(g.Mul(dscale, slope), g.Mul(rstd, -0.5)), op.operand("input_var")),
    }


def _batch_norm_training(
    g: Tape, op: Operator, dY: Grad, d_running_mean: Grad, d_running_var: Grad
) -> Grads:
    X, scale, keep = ranked(g, op.operand("X")), op.operand("scale"), op.attrs["momentum"]
    epsilon = op.attrs["epsilon"]
    dscale = dB = None
    parts: list[Grad] = []
    if dY is not None:
        dY = ranked(g, dY)
        moved = g.emit("BatchNormMoved", dY, X, epsilon=epsilon)
        slope = g.emit("BatchNormSlope", X, scale, epsilon=epsilon)
        parts.append(g.Mul(moved, along_channels(g, slope, X)))
        dscale = g.emit("BatchNormScaleGradient", dY, X, scale, epsilon=epsilon)
        dB = g.ReduceSum(dY, axes_but_channels(X), keepdims=0)
    if d_running_var is not None:
        found = statistics(g, X, epsilon)
        n = count(g, X, found.mean, axes_but_channels(X))
        factor = g.Div(g.Mul(d_running_var, 2 * (1 - keep)), n)
        parts.append(g.Mul(found.centred, along_channels(g, factor, X)))
    if d_running_mean is not None:
        n = count(g, X, d_running_mean, axes_but_channels(X))
        shift = g.Div(g.Mul(d_running_mean, 1 - keep), n)
        parts.append(g.expand_like(along_channels(g, shift, X), X))
    dX = total(g, *parts)
    return {
        "X": None if dX is None else g.reshape_like(typed(dX, X), op.operand("X")),
        "scale": dscale,
        "B": dB,
        "input_mean": None if d_running_mean is None else g.Mul(d_running_mean, keep),
        "input_var": None if d_running_var is None else g.Mul(d_running_var, keep),
    }


@gradient(
    "Dropout",
    cases=[
        case(data=(2, 3)),
        case(data=(2, 3), ratio=scalar(0.4), training_mode=scalar(False)),
        case(data=(4, 5), ratio=scalar(0.4), training_mode=scalar(True), attrs={"seed": 7}),
        case(data=(3,), ratio=scalar(0.0), training_mode=scalar(True), attrs={"seed": 7}),
        case(data=(4, 5), ratio=SOME, training_mode=scalar(True), attrs={"seed": 7}),
    ],
    nondiff=["training_mode"],
)
def dropout(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = mask X / (1 - ratio) while training, else X        X, Y: [*n]   ratio: []."""
    if drops(op) is False:
        return {"data": dY, "ratio": None}
    ratio = op.maybe("ratio")
    if ratio is None or isinstance(ratio, Constant):
        kept = 1.0 - (0.5 if ratio is None else float(ratio.value))
        return {"data": _dropped(g, op, dY, g.full(1 / kept if kept else 0.0, dY)), "ratio": None}
    scale = g.Reciprocal(g.Sub(1.0, g.cast(ratio, dY.dtype)))
    by_scale = g.ReduceSum(g.Mul(_dropped(g, op, dY, scale, 0.0), op.operand("data")), keepdims=0)
    dratio = g.cast(g.Mul(by_scale, scale), ratio.dtype)
    return {"data": _dropped(g, op, dY, scale), "ratio": dratio}


def _dropped(g: Tape, op: Operator, x: Variable, scale: Variable, asleep: float = 1) -> Variable:
    """mask scale x while training, else x times ``asleep``: [*n]."""
    training, mask = op.operand("training_mode"), g.result_of(op, "mask")
    if isinstance(scale, Constant):  # else it may be inf, where nothing is kept
        weight = g.Mul(g.cast(mask, x.dtype), scale)  # [*n], quicker than Where
    else:
        weight = g.Where(mask, scale, g.full(0, x))
    if not isinstance(training, Constant):
        weight = g.Where(training, weight, g.full(asleep, x))
    return g.Mul(x, weight)


@gradient(
    "GroupNormalization",
    cases=[
        case(X=(2, 4, 3), scale=fixed((4,)), bias=fixed((4,)),
             attrs={"num_groups": 2, "stash_type": 11}),
        case(X=(1, 6, 2, 2), scale=fixed((6,)), bias=fixed((6,)),
             attrs={"num_groups": 3, "stash_type": 11, "epsilon": 0.1}),
    ],
)  # fmt: skip
def group_normalization(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = scale norm(X) + bias, over each group of channels        X: [n, c, *i]   scale: [c]."""
    X, scale, groups = op.operand("X"), op.operand("scale"), op.attrs["num_groups"]
    channels = scale.shape[0]
    size = g.dims(channels // groups) if channels > 0 else g.Div(g.dim_of(scale, 0), groups)
    grouped = g.reshape(X, 0, groups, size, -1)  # [n, groups, c / groups, i]
    dX, dscale, dbias = _per_group(g, grouped, dY, g.reshape(scale, groups, -1, 1), op)
    return {
        "X": g.reshape_like(dX, X),
        "scale": g.reshape_like(dscale, scale),
        "bias": g.reshape_like(dbias, scale),
    }


@gradient(
    "InstanceNormalization",
    cases=[
        case(input=(2, 3, 4), scale=fixed((3,)), B=fixed((3,))),
        case(input=(2, 3, 2, 2), scale=fixed((3,)), B=fixed((3,)), attrs={"epsilon": 0.1}),
    ],
)
def instance_normalization(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = scale norm(X) + B, over the spatial dims        X: [n, c, *i]   scale, B: [c]."""
    X, scale = op.operand("input"), op.operand("scale")
    grouped = g.reshape(X, 0, 0, 1, -1)  # [n, c, 1, i]
    dX, dscale, dB = _per_group(g, grouped, dY, g.reshape(scale, -1, 1, 1), op)
    return {
        "input": g.reshape_like(dX, X),
        "scale": g.reshape_like(dscale, scale),
        "B": g.reshape_like(dB, scale),
    }


def _per_group(
    g: Tape, X: Variable, dY: Variable, scale: Variable, op: Operator
) -> tuple[Variable, Variable, Variable]:
    """The gradients to X [n, groups, c, i], scale [groups, c, 1] and bias; dY is shaped like X."""
    dY = g.reshape_like(dY, X)
    centred = g.Sub(X, g.ReduceMean(X, [2, 3], keepdims=1))
    rstd = inverse_std(g, centred, [2, 3], op.attrs["epsilon"])  # [n, groups, 1, 1]
    n = count(g, X, rstd, [2, 3])
    sums = g.ReduceSum(dY, [3], keepdims=1)  # [n, groups, c, 1]
    products = g.Mul(g.ReduceSum(g.Mul(dY, centred), [3], keepdims=1), rstd)
    per_element = g.Neg(g.Div(rstd, n))
    shift = g.Mul(g.ReduceSum(g.Mul(sums, scale), [2], keepdims=1), per_element)
    factor = g.Mul(g.ReduceSum(g.Mul(products, scale), [2], keepdims=1), g.Mul(per_element, rstd))
    dX = g.Sum(g.Mul(dY, g.Mul(scale, rstd)), g.Mul(centred, factor), shift)
    return typed(dX, X), g.ReduceSum(products, [0], keepdims=0), g.ReduceSum(sums, [0], keepdims=0)


@gradient(
    "LayerNormalization",
    cases=[
        case(X=(2, 3, 4), Scale=fixed((4,)), B=fixed((4,))),
        case(X=(2, 3, 4), Scale=fixed((3, 4)), attrs={"axis": 1}),
        case(X=(3, 4), Scale=fixed((4,)), B=fixed((4,)), attrs={"axis": 1, "epsilon": 0.1}),
        case(X=(2, 3), Scale=fixed((2, 3)), B=fixed((3,)), attrs={"axis": 0}),
    ],
)
def layer_normalization(g: Tape, op: Operator, dY: Grad, dMean: Grad, dInvStdDev: Grad) -> Grads:
    """Y = Scale norm(X) + B, over the dims from axis on        X, Y: [*n, *m]   Scale, B: [*m]."""
    X, Scale = op.operand("X"), op.operand("Scale")
    axes = axes_from(op.attrs["axis"], X)
    mean, rstd = _layer_statistics(g, op, X, axes)  # [*n, *1]
    centred = g.Sub(X, mean)
    parts: list[Grad] = []
    dScale = None
    if dY is not None:
        product, dnorm = g.Mul(dY, centred), g.Mul(dY, Scale)
        dScale = g.Mul(product, rstd)
        # Factors and shifts of a row are small: few ops pass over tensors of the size of X.
        along = g.ReduceMean(g.Mul(product, Scale), axes, keepdims=1)
        factor = g.Mul(g.Mul(along, rstd), g.Mul(rstd, rstd))
        shift = g.Mul(g.ReduceMean(dnorm, axes, keepdims=1), rstd)
        moved = g.Sub(g.Mul(dnorm, rstd), g.Mul(centred, factor))
        parts.append(typed(g.Sub(moved, shift), X))
    if dMean is not None:
        parts.append(g.Div(g.cast(dMean, X.dtype), count(g, X, rstd, axes)))
    if dInvStdDev is not None:
        # d rstd / d X = -rstd^3 (X - mean) / n
        cube = g.Mul(rstd, g.Mul(rstd, rstd))
        slope = g.Neg(g.Div(cube, count(g, X, rstd, axes)))
        parts.append(typed(g.Mul(centred, g.Mul(slope, g.cast(dInvStdDev, X.dtype))), X))
    dX = total(g, *parts)
    return {"X": None if dX is None else g.expand_like(dX, X), "Scale": dScale, "B": dY}


def _layer_statistics(
    g: Tape, op: Operator, X: Variable, axes: Sequence[int]
) -> tuple[Variable, Variable]:
    """Mean and 1 / std: the op's own results, unless they hold fewer digits than X."""
    if X.dtype.itemsize <= np.dtype("f4").itemsize:
        mean, rstd = g.result_of(op, "Mean"), g.result_of(op, "InvStdDev")
        return g.cast(mean, X.dtype), g.cast(rstd, X.dtype)
    mean = g.ReduceMean(X, [*axes], keepdims=1)
    return mean, inverse_std(g, g.Sub(X, mean), axes, op.attrs["epsilon"])
