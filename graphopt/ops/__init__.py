"""KNOW: one card per op. Importing the room registers every card."""

from graphopt.ops import (
    activation,
    conv,
    elementwise,
    indexing,
    linalg,
    loss,
    movement,
    normalization,
    pooling,
    reduction,
    update,
    zero,
)

__all__ = [
    "activation",
    "conv",
    "elementwise",
    "indexing",
    "linalg",
    "loss",
    "movement",
    "normalization",
    "pooling",
    "reduction",
    "update",
    "zero",
]
