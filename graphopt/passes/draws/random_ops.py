"""The ops that may draw other numbers each time they are done."""

from __future__ import annotations

from graphopt.ir.model.dropout import drops
from graphopt.ir.model.operator import Operator

RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike"}
)  # fmt: skip


def is_random(op: Operator) -> bool:
    """Whether the op may draw other numbers when it is done again."""
    return op.type in RANDOM and (op.type != "Dropout" or drops(op) is not False)
