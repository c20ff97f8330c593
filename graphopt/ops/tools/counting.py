"""Positions along a dim."""

from __future__ import annotations

from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable


def up_to(g: Tape, count: Variable) -> Variable:
    """0, 1, .. below count: i64[count]        count: [1]."""
    found: Variable = g.Range(0, g.Squeeze(count, [0]), 1)
    return found
