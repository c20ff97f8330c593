"""A table that is kept as the factors of its rows."""

from __future__ import annotations

import numpy as np

from graphopt.ir.types.types import TensorType
from graphopt.runtime.ort.place import Place
from graphopt.runtime.state.resident import Resident


class Factored:
    """A table of products: row k is -leftᵀ right of two thin tables [n, b, i] and [n, b, o].

    A batch of b examples gives a gradient of rank b. It is multiplied out only for who looks at it.

    Args:
        left: the type of the table of left factors.
        right: the type of the table of right factors.
        place: where steps run.

    Attributes:
        parts: the rows of the two tables.
    """

    def __init__(self, left: TensorType, right: TensorType, place: Place) -> None:
        self.types, self.place = (left, right), place
        self.parts = tuple(Resident(part, place) for part in self.types)

    def shape(self) -> list[int]:
        """The dims of the table of products."""
        (n, _, i), (_, _, o) = (part.shape() for part in self.parts)
        return [n, i, o]

    def device_name(self) -> str:
        """Where steps find the rows."""
        return self.place.memory.device

    def numpy(self) -> np.ndarray:
        """The table of products: [n, i, o]."""
        left, right = (part.numpy() for part in self.parts)
        table: np.ndarray = np.matmul(-left.transpose(0, 2, 1), right)
        return table
