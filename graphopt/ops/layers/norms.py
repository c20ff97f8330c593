"""Norms, and what is divided by one."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.layers.normalization import axes_from, inverse_std
from graphopt.ops.registry.cases import case, fixed, positive
from graphopt.ops.registry.registry import Grads, decomposition, gradient

I64_MAX = np.iinfo(np.int64).max


@gradient(
    "LpNormalization",
    cases=[
        case(input=(2, 3)),
        case(input=(2, 3, 2), attrs={"axis": 1}),
        case(input=positive((2, 3)), attrs={"axis": 0, "p": 1}),
    ],
)
def lp_normalization(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X / (sum of |X|^p over axis)^(1/p), 0 where that is 0        X, Y: [*n]."""
    X, axis, p = op.operand("input"), op.attrs["axis"], op.attrs["p"]
    norm = (g.ReduceL1 if p == 1 else g.ReduceL2)(X, [axis], keepdims=1)
    length = g.Where(g.Equal(norm, 0.0), math.inf, norm)
    Y = g.Div(X, length)  # the reference evaluator's own is wrong where p is 1
    along = g.ReduceSum(g.Mul(dY, Y), [axis], keepdims=1)
    slope = g.Sign(X) if p == 1 else Y
    return {"input": typed(g.Div(g.Sub(dY, g.Mul(slope, along)), length), X)}


@decomposition(
    "LRN",
    # As many images as channels, and alpha / size exact in float32: the reference evaluator
    # mistakes one for the other, and rounds.
    cases=[
        case(X=(4, 4, 2, 1), attrs={"size": 3, "alpha": 0.75, "beta": 0.625, "bias": 1.5}),
        case(X=(3, 3, 1, 2), attrs={"size": 7, "alpha": 0.875}),
    ],
)
def lrn(g: Tape, op: Operator) -> Variable:
    """Y = X / (bias + alpha / size sum of X^2 over channels nearby)^beta        X: [n, c, *i]."""
    X, size, alpha = op.operand("X"), op.attrs["size"], op.attrs["alpha"]
    squares = g.Pad(g.Mul(X, X), [(size - 1) // 2, size // 2], None, [1])  # [n, c + size - 1, *i]
    ends = [[k - size + 1] if k < size - 1 else [I64_MAX] for k in range(size)]
    around = g.Sum(*[g.Slice(squares, [k], end, [1]) for k, end in enumerate(ends)])
    scale = g.Add(g.Mul(typed(around, X), alpha / size), op.attrs["bias"])
    return g.Div(X, g.Pow(scale, g.full(op.attrs["beta"], X)))


@gradient(
    "RMSNormalization",
    cases=[
        case(X=(2, 3, 4), scale=fixed((4,))),
        case(X=(2, 3, 4), scale=fixed((3, 4)), attrs={"axis": 1, "epsilon": 0.1}),
        case(X=(3, 4), scale=fixed((1,)), attrs={"axis": 0}),
    ],
)
def rms_normalization(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = scale X / sqrt(mean X^2 + epsilon), the mean over the dims from axis on.

    X, Y: [*n, *m]   scale: [*m]. In 16 bits X^2 may overflow: statistics have 32 at least.
    """
    X, scale = op.operand("X"), op.operand("scale")
    wide = X.dtype if X.dtype.itemsize >= 4 else np.dtype("f4")
    x, weight, dy = (g.cast(v, wide) for v in (X, scale, dY))
    axes = axes_from(op.attrs["axis"], X)
    rstd = inverse_std(g, x, axes, op.attrs["epsilon"])  # [*n, *1]
    norm, dnorm = g.Mul(x, rstd), g.Mul(dy, weight)
    along = g.Mul(norm, g.ReduceMean(g.Mul(norm, dnorm), axes, keepdims=1))
    dX = g.Mul(g.Sub(dnorm, along), rstd)
    return {"X": typed(g.cast(dX, X.dtype), X), "scale": g.cast(g.Mul(dy, norm), scale.dtype)}
