"""What a batch normalization's gradient is made of: three ops of graphopt's own.

Their bodies are plain ONNX. On onnxruntime's CPU ``passes.formulate`` puts quicker ones in place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.registry.cases import case, fixed
from graphopt.ops.registry.registry import formula


@dataclass(frozen=True)
class Batch:
    """The statistics of X over all dims but c: ``centred`` is X - mean, the others are [c]."""

    mean: Variable
    centred: Variable
    rstd: Variable


SIZES = ((3, 3, 2), (2, 3, 2, 2), (5, 3))


@formula(
    "BatchNormMoved",
    like="X",
    cases=[case(dY=s, X=s, attrs={"epsilon": 0.1}) for s in SIZES],
)
def batch_norm_moved(g: Tape, dY: Variable, X: Variable, *, epsilon: float) -> Variable:
    """dX / slope = dY + centred factor + shift        dY, X: [n, c, *i].

    factor and shift [c] take out of dY what moves the mean and the variance of X.
    """
    whole, X, dY = X, ranked(g, X), ranked(g, dY)
    found = statistics(g, X, epsilon)
    n = count(g, X, found.mean, axes_but_channels(X))
    factor = g.Neg(g.Div(g.Mul(_scale_gradient(g, dY, X, found), found.rstd), n))
    shift = g.Neg(g.Div(g.ReduceSum(dY, axes_but_channels(X), keepdims=0), n))
    along = g.Mul(found.centred, along_channels(g, factor, X))
    return g.reshape_like(typed(g.Sum(dY, along, along_channels(g, shift, X)), X), whole)


@formula(
    "BatchNormSlope",
    like="scale",
    cases=[case(X=s, scale=fixed((3,)), attrs={"epsilon": 0.1}) for s in SIZES],
)
def batch_norm_slope(g: Tape, X: Variable, scale: Variable, *, epsilon: float) -> Variable:
    """Slope = scale / std        X: [n, c, *i]   scale: [c]."""
    return typed(g.Mul(scale, statistics(g, ranked(g, X), epsilon).rstd), scale)


@formula(
    "BatchNormScaleGradient",
    like="scale",
    cases=[case(dY=s, X=s, scale=fixed((3,)), attrs={"epsilon": 0.1}) for s in SIZES],
)
def batch_norm_scale_gradient(
    g: Tape, dY: Variable, X: Variable, scale: Variable, *, epsilon: float
) -> Variable:
    """dscale = sum of dY (X - mean) / std, over all dims but c        dY, X: [n, c, *i]."""
    X, dY = ranked(g, X), ranked(g, dY)
    return _scale_gradient(g, dY, X, statistics(g, X, epsilon))


def _scale_gradient(g: Tape, dY: Variable, X: Variable, found: Batch) -> Variable:
    moved: Variable = g.ReduceSum(g.Mul(dY, found.centred), axes_but_channels(X), keepdims=0)
    product: Variable = g.Mul(moved, found.rstd)
    return product


def ranked(g: Tape, X: Variable) -> Variable:
    """X, as [n, c, i] where its rank is not known."""
    return g.reshape(X, 0, 0, -1) if X.tensor_type.shape is None else X


def statistics(g: Tape, X: Variable, epsilon: float) -> Batch:
    """Worked out again from X: second derivatives need nothing more."""
    mean = g.ReduceMean(X, axes_but_channels(X), keepdims=0)  # [c]
    centred = g.Sub(X, along_channels(g, mean, X))
    variance = g.ReduceMean(g.Mul(centred, centred), axes_but_channels(X), keepdims=0)  # [c]
    return Batch(mean, centred, g.Reciprocal(g.Sqrt(g.Add(variance, epsilon))))


def axes_but_channels(X: Variable) -> list[int]:
    """All but the second."""
    return [0, *range(2, X.ndim)]


def along_channels(g: Tape, v: Variable, X: Variable) -> Variable:
    """v [c] shaped to broadcast against X [n, c, *i]: [c, *1]."""
    return g.Unsqueeze(v, [*range(1, X.ndim - 1)]) if X.ndim > 2 else v


def count(g: Tape, X: Variable, reduced: Variable, axes: Sequence[int]) -> Variable:
    """How many elements of X go into one of ``reduced``, in X's dtype: []."""
    shape = X.tensor_type.shape
    dims = None if shape is None else [shape[axis] for axis in axes]
    if dims is not None and all(isinstance(d, int) for d in dims):
        return g.full(math.prod(int(d) for d in dims), X)
    return g.cast(g.Div(g.size_of(X), g.size_of(reduced)), X.dtype)
