"""The rows of a table [n, *s], of which each step reads one and writes another in its place."""

from __future__ import annotations

import numpy as np

from graphopt.ir.types.types import TensorType
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.values import Value, to_numpy


class Rows:
    """The rows of a table [n, *s], which steps use in turn; subclasses say where they lie.

    It answers what is asked of every value in a scope as an OrtValue does.

    Args:
        tensor_type: the table's type, of static shape.
        place: where steps run.

    Attributes:
        position: the row that the next step uses, if ``counted`` is still what counts steps.
        counted: the value of the state that counts steps, when ``position`` was last set.
    """

    def __init__(self, tensor_type: TensorType, place: Place) -> None:
        assert tensor_type.shape is not None
        self.tensor_type, self.place = tensor_type, place
        self.n, *shape = (int(d) for d in tensor_type.shape)
        self.row_shape = tuple(shape)
        self.position = 0
        self.counted: Value | None = None

    def fits(self, tensor_type: TensorType, place: Place) -> bool:
        """Whether these are rows of a table of ``tensor_type`` for steps on ``place``."""
        return self.place == place and self.tensor_type == tensor_type

    def locate(self, count: Value) -> None:
        """Set the position from ``count``, the value of the state that counts steps: i64[1]."""
        if count is not self.counted:
            self.turn(int(to_numpy(count)[0]) % self.n)
            self.counted = count

    def turn(self, position: int) -> None:
        """Let the next step use the row at ``position``."""
        self.position = position

    def take(self, count: int) -> np.ndarray:
        """A table of the next ``count`` rows, at most n: [count, *s]."""
        raise NotImplementedError

    def put(self, rows: np.ndarray, count: Value) -> None:
        """Put ``rows`` in the places of the next ones, as if as many steps had run.

        Args:
            rows: [count, *s]; the table may keep the array itself.
            count: the value that counts steps, those included.
        """
        self.fill(rows)
        self.position = (self.position + len(rows)) % self.n
        self.counted = count

    def fill(self, rows: np.ndarray) -> None:
        """Make ``rows`` those from the position on."""
        raise NotImplementedError

    def read(self) -> Value:
        """The row at the position."""
        raise NotImplementedError

    def target(self, over: bool) -> Value:
        """What a step is to write the row to that takes the place of the one it reads.

        Args:
            over: whether it may be written over the row that is read.
        """
        raise NotImplementedError

    def commit(self, count: Value) -> None:
        """Take note that a step has written the target: it is the row now, and the next is due.

        Args:
            count: the value that counts steps, this one included.
        """
        self.replace()
        self.position = (self.position + 1) % self.n
        self.counted = count

    def replace(self) -> None:
        """Make the target the row at the position."""
        raise NotImplementedError

    def numpy(self) -> np.ndarray:
        """A copy of the whole table: [n, *s]."""
        raise NotImplementedError

    def shape(self) -> list[int]:
        """The dims of the table."""
        return [self.n, *self.row_shape]

    def device_name(self) -> str:
        """Where steps find the rows."""
        return self.place.memory.device


def bytes_of(tensor_type: TensorType) -> int:
    """The bytes of a tensor of ``tensor_type``, of static shape."""
    return int(np.prod([int(d) for d in tensor_type.shape or ()])) * tensor_type.dtype.itemsize
