"""The ops that may draw other numbers each time they are done."""

from __future__ import annotations

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.variable import Constant

RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike"}
)  # fmt: skip


def is_random(op: Operator) -> bool:
    """Whether the op may draw other numbers when it is done again."""
    if op.type != "Dropout":
        return op.type in RANDOM
    training = op.maybe("training_mode")
    return not (training is None or (isinstance(training, Constant) and not training.value))
