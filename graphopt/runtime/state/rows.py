"""A table whose rows steps use in turn: one is read, another is written in its place."""

from __future__ import annotations

import numpy as np

from graphopt.ir.types.types import TensorType
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.values import Value, to_numpy


class Rows:
    """The rows of a table [n, *s]. It has the parts of an OrtValue that are asked of every value.

    ``position`` is the row that the next step uses, as long as ``counted`` is the value of the
    state that counts steps.
    """

    def __init__(self, tensor_type: TensorType, place: Place) -> None:
        assert tensor_type.shape is not None
        self.tensor_type, self.place = tensor_type, place
        self.n, *shape = (int(d) for d in tensor_type.shape)
        self.row_shape = tuple(shape)
        self.position = 0
        self.counted: Value | None = None

    def fits(self, tensor_type: TensorType, place: Place) -> bool:
        """Whether steps of such a table on a place can use these rows."""
        return self.place == place and self.tensor_type == tensor_type

    def locate(self, count: Value) -> None:
        """Take the position from the count of steps, unless it is known."""
        if count is not self.counted:
            self.turn(int(to_numpy(count)[0]) % self.n)
            self.counted = count

    def turn(self, position: int) -> None:
        """Go on at another row."""
        self.position = position

    def take(self, count: int) -> np.ndarray:
        """The next ``count`` rows, at most n: [count, *s]."""
        raise NotImplementedError

    def put(self, rows: np.ndarray, count: Value) -> None:
        """These take the places of the next rows, and the table keeps them; so many turns go by."""
        self.fill(rows)
        self.position = (self.position + len(rows)) % self.n
        self.counted = count

    def fill(self, rows: np.ndarray) -> None:
        """Make these the rows from the position on."""
        raise NotImplementedError

    def read(self) -> Value:
        """The row at the position."""
        raise NotImplementedError

    def target(self, over: bool) -> Value:
        """What the row that takes its place is to be written to; the same if it may go ``over``."""
        raise NotImplementedError

    def commit(self, count: Value) -> None:
        """The target has been written: it is the row now, and the next one's turn has come."""
        self.replace()
        self.position = (self.position + 1) % self.n
        self.counted = count

    def replace(self) -> None:
        """Make the target the row at the position."""
        raise NotImplementedError

    def numpy(self) -> np.ndarray:
        """A copy of the table."""
        raise NotImplementedError

    def shape(self) -> list[int]:
        """The dims of the table."""
        return [self.n, *self.row_shape]

    def device_name(self) -> str:
        """Where steps find the rows."""
        return self.place.memory.device


def bytes_of(tensor_type: TensorType) -> int:
    """The bytes of a tensor of static shape."""
    return int(np.prod([int(d) for d in tensor_type.shape or ()])) * tensor_type.dtype.itemsize
