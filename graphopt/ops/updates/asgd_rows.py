"""ASGD over one row of its table, as the pass ``History`` leaves it: the runtime moves the rows."""

from __future__ import annotations

from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ops.registry.cases import case
from graphopt.ops.registry.registry import Updates, composite


@composite(
    "ASGDRow",
    updates=("w", "d"),
    cases=[
        case(w=(3, 2), dw=(3, 2), d=(3, 2), row=(3, 2), rate=()),
        case(w=(), dw=(), d=(), row=(), rate=()),
    ],
)
def asgd_row(
    g: Tape, w: Variable, dw: Variable, d: Variable, row: Variable, rate: Variable
) -> Updates:
    """d' = d - row + dw,  w' = w - rate d'        w, dw, d, row: [*s]   rate: []."""
    d_next = g.Add(g.Sub(d, row), dw)
    return {"w": g.Sub(w, g.Mul(rate, d_next)), "d": d_next}


@composite(
    "ASGDFactors",
    updates=("w", "d"),
    cases=[case(w=(3, 2), d=(3, 2), left=(8, 3), right=(8, 2), rate=())],
)
def asgd_factors(
    g: Tape, w: Variable, d: Variable, left: Variable, right: Variable, rate: Variable
) -> Updates:
    """d' = d + leftᵀ right,  w' = w - rate d'        w, d: [i, o]   left: [b, i]   right: [b, o].

    The new gradient and the old one with its sign changed are both products of two factors: side
    by side they are one product, so that neither is ever laid out.
    """
    d_next = g.Add(d, g.Gemm(left, right, transA=1))  # as Gemm's third operand d would be copied
    return {"w": g.Sub(w, g.Mul(rate, d_next)), "d": d_next}


@composite(
    "ASGDSum",
    updates=("w", "d"),
    cases=[
        case(w=(3, 2), dw=(3, 2), d=(3, 2), rate=()),
        case(w=(), dw=(), d=(), rate=()),
    ],
)
def asgd_sum(g: Tape, w: Variable, dw: Variable, d: Variable, rate: Variable) -> Updates:
    """d' = d + dw,  w' = w - rate d'        w, dw, d: [*s]   rate: [].

    The second part of ``ASGDRow``: the row has been taken from d.
    """
    d_next = g.Add(d, dw)
    return {"w": g.Sub(w, g.Mul(rate, d_next)), "d": d_next}
