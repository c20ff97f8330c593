"""ASGD over one row of its table, as the pass ``History`` leaves it: the runtime moves the rows."""

from __future__ import annotations

import numpy as np

from graphopt.ir.tape import Tape
from graphopt.ir.variable import Variable
from graphopt.ops.cases import case, ints
from graphopt.ops.registry import Updates, composite


@composite(
    "ASGDRow",
    updates=("w", "d", "m"),
    cases=[
        case(w=(3, 2), dw=(3, 2), d=(3, 2), row=(3, 2), m=ints((1,), 9), lr=(), attrs={"n": 4}),
        case(w=(), dw=(), d=(), row=(), m=ints((1,), 9), lr=(), attrs={"n": 1}),
    ],
)
def asgd_row(
    g: Tape, w: Variable, dw: Variable, d: Variable, row: Variable, m: Variable, lr: Variable,
    *, n: int,
) -> Updates:  # fmt: skip
    """d' = d - row + dw,  m' = m + 1,  w' = w - lr / min(m', n) d'.

    w, dw, d, row: [*s]   m: i64[1], updates so far   lr: []
    """
    d_next = g.Add(g.Sub(d, row), dw)
    m_next = g.Add(m, np.array([1]))
    seen = g.cast(g.Min(m_next, np.array([n])), w.dtype)  # [1]
    rate = g.Div(lr, seen if w.ndim else g.Squeeze(seen, [0]))
    return {"w": g.Sub(w, g.Mul(rate, d_next)), "d": d_next, "m": m_next}
