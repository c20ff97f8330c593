"""Update rules: composites that replace a parameter and its state.

Each takes the gradient after clipping and regularization, and ``lr``, the rate in force.
"""

from __future__ import annotations

import numpy as np

from graphopt.ir.tape import Tape
from graphopt.ir.types import to_onnx_dtype
from graphopt.ir.variable import Variable
from graphopt.ops.cases import case, ints
from graphopt.ops.registry import Updates, composite


@composite(
    "ASGD",
    updates=("w", "d", "y", "m"),
    cases=[
        case(w=(3, 2), dw=(3, 2), d=(3, 2), y=(4, 3, 2), m=ints((1,), 9), lr=()),
        case(w=(), dw=(), d=(), y=(1,), m=ints((1,), 9), lr=()),
    ],
)
def asgd(
    g: Tape, w: Variable, dw: Variable, d: Variable, y: Variable, m: Variable, lr: Variable
) -> Updates:
    """Stochastic average gradient: step along the mean of the last n gradients.

    i = m mod n,  d' = d - y[i] + dw,  y'[i] = dw,  m' = m + 1,  w' = w - lr d' / min(m', n)

    w, dw, d: [*s]   y: [n, *s]   m: i64[1], updates so far   lr: []

    Schmidt, Le Roux, Bach: Minimizing Finite Sums with the Stochastic Average Gradient, 2017.
    """
    n = y.shape[0]
    slot = g.Mod(m, np.array([n]))  # [1]
    oldest = g.Squeeze(g.Gather(y, slot), [0])  # [*s]
    d_next = g.Add(g.Sub(d, oldest), dw)  # [*s]
    y_next = g.ScatterND(y, g.Unsqueeze(slot, [1]), g.Unsqueeze(dw, [0]))  # [n, *s]
    m_next = g.Add(m, np.array([1]))
    seen = g.Squeeze(g.Min(m_next, np.array([n])), [0])  # []
    mean = g.Div(d_next, g.Cast(seen, to=to_onnx_dtype(w.dtype)))
    return {"w": g.Sub(w, g.Mul(lr, mean)), "d": d_next, "y": y_next, "m": m_next}


@composite("SGD", updates=("w",), cases=[case(w=(3, 2), dw=(3, 2), lr=())])
def sgd(g: Tape, w: Variable, dw: Variable, lr: Variable) -> Updates:
    """Gradient descent: w' = w - lr dw        w, dw: [*s]   lr: []."""
    return {"w": g.Sub(w, g.Mul(lr, dw))}
