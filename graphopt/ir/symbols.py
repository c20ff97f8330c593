"""Symbolic dims that an op makes equal.

``data("x", [None, 4])`` and ``data("y", [None, 1])`` have the batch dims N and M. Where ``x - y``
is recorded they must be equal (a dim that is to be broadcast is declared 1), so from there on both
are N: gradients need no run-time broadcasting, and a run checks the feeds. Only fed dims are
unified, because only they can be checked before anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from graphopt.ir.types import Dim

if TYPE_CHECKING:
    from graphopt.ir.program import Program
    from graphopt.ir.variable import Variable
    from graphopt.ir.where import Where

BROADCASTING = frozenset(
    {
        "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
        "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow",
        "PRelu", "Sub", "Sum", "Where", "Xor",
    }
)  # fmt: skip
SAME_BATCH = frozenset({"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"})


def unify_fed_dims(
    program: Program, type: str, inputs: Sequence[Variable | None], where: Where
) -> None:
    """Give fed dims that the op needs equal one symbol."""
    if type not in BROADCASTING and type not in SAME_BATCH:
        return
    shapes = [v.tensor_type.shape or () for v in inputs if v is not None]
    if not any(isinstance(d, str) for shape in shapes for d in shape):
        return
    for dims in _aligned(type, shapes):
        symbols = dict.fromkeys(d for d in dims if isinstance(d, str))
        if len(symbols) > 1 and set(symbols) <= _fed_symbols(program):
            first, *others = symbols
            for other in others:
                program.rename_symbol(other, first, where)


def _aligned(type: str, shapes: Sequence[tuple[Dim, ...]]) -> list[tuple[Dim | None, ...]]:
    if type in SAME_BATCH:
        return [tuple(shape[0] for shape in shapes[:2] if shape)]
    return list(zip_longest(*(reversed(shape) for shape in shapes)))


def _fed_symbols(program: Program) -> set[str]:
    return {
        d
        for v in program.global_block().vars.values()
        if v.is_data
        for d in v.tensor_type.shape or ()
        if isinstance(d, str)
    }
