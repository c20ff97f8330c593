"""Symbolic dims that an op makes equal.

``data("x", [None, 4])`` and ``data("y", [None, 1])`` have the batch dims N and M. Where ``x - y``
is recorded they must be equal (a dim that is to be broadcast is declared 1), so from there on both
are N: gradients need no run-time broadcasting, and a run checks the feeds. Only fed dims are
unified, because only they can be checked before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from graphopt.ir.types.types import Dim, TensorType

if TYPE_CHECKING:
    from graphopt.ir.model.program import Program
    from graphopt.ir.model.variable import Variable

BROADCASTING = frozenset(
    {
        "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
        "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow",
        "PRelu", "Sub", "Sum", "Where", "Xor",
    }
)  # fmt: skip
SAME_BATCH = frozenset({"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"})


def equal_fed_dims(
    program: Program, type: str, inputs: Sequence[Variable | None]
) -> dict[str, str]:
    """Fed dims that the op needs equal: from each symbol to the one that shall stand for it."""
    if type not in BROADCASTING and type not in SAME_BATCH:
        return {}
    shapes = [v.tensor_type.shape or () for v in inputs if v is not None]
    if not any(isinstance(d, str) for shape in shapes for d in shape):
        return {}
    equal: dict[str, str] = {}
    for dims in _aligned(type, shapes):
        symbols = dict.fromkeys(equal.get(d, d) for d in dims if isinstance(d, str))
        if len(symbols) > 1 and set(symbols) <= _fed_symbols(program):
            first, *others = symbols
            equal = {old: first if new in others else new for old, new in equal.items()}
            equal.update(dict.fromkeys(others, first))
    return equal


def renamed(tensor_type: TensorType, equal: Mapping[str, str]) -> TensorType:
    """The type with one symbol for dims that are equal."""
    if not equal or tensor_type.shape is None:
        return tensor_type
    shape = tuple(equal.get(d, d) if isinstance(d, str) else d for d in tensor_type.shape)
    return TensorType(tensor_type.dtype, shape)


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
