"""Rows of a table that lie where the device reads them."""

from __future__ import annotations

import numpy as np

from graphopt.ir.types.types import TensorType
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.values import Value, empty, to_device
from graphopt.runtime.state.rows import Rows, bytes_of

SMALL = 2**20  # bytes of a table that may as well be moved as a whole


class Resident(Rows):
    """Rows where the device reads them: a step's cost is that of one row, without any copy.

    Runs of many steps want them side by side: then ``_ahead`` has all rows, from the position on,
    in place of the list.

    Args:
        tensor_type: the table's type.
        place: where steps run, and the rows lie.
        table: the rows, which become their memory; None for zeros.

    Attributes:
        untouched: whether all rows are zero because none was ever written.
    """

    def __init__(
        self, tensor_type: TensorType, place: Place, table: np.ndarray | None = None
    ) -> None:
        super().__init__(tensor_type, place)
        # Pages of zeros cost nothing until a row is written.
        whole = np.zeros(self.shape(), tensor_type.dtype) if table is None else table
        self._ahead: np.ndarray | None = whole if place.memory.in_view else None
        self._rows: list[Value] = []
        if self._ahead is None:
            self._rows = [to_device(whole[k, ...], place) for k in range(self.n)]
        self._spare: Value | None = None  # None where rows are written over
        self.untouched = table is None  # all zero

    def _list(self) -> list[Value]:
        """The rows one by one, in the order of the table."""
        if self._ahead is not None:
            rows = [to_device(self._ahead[k, ...], self.place) for k in range(self.n)]
            start = self.n - self.position
            self._rows, self._ahead = rows[start:] + rows[:start], None
        return self._rows

    def turn(self, position: int) -> None:
        """Let the next step use the row at ``position``."""
        if position != self.position:
            self._list()
            self.position = position

    def take(self, count: int) -> np.ndarray:
        """A table of the next ``count`` rows: [count, *s]."""
        if self._ahead is None and (count == self.n or self._is_small()):
            self._ahead, self._rows = self._stacked(self.n), []
        return self._stacked(count) if self._ahead is None else self._ahead[:count]

    def _stacked(self, count: int) -> np.ndarray:
        order = [(self.position + k) % self.n for k in range(count)]
        return np.stack([self._rows[k].numpy() for k in order])

    def _is_small(self) -> bool:
        """Whether moving the whole table costs little beside a call."""
        return bytes_of(self.tensor_type) <= SMALL

    def fill(self, rows: np.ndarray) -> None:
        """Make ``rows`` those from the position on; the array itself is kept."""
        self.untouched = False
        if self._ahead is not None and (len(rows) == self.n or self._is_small()):
            rest = self._ahead[len(rows) :]
            self._ahead = np.concatenate((rest, rows)) if len(rest) else rows
            return
        mine = self._list()
        for k, row in enumerate(rows):
            mine[(self.position + k) % self.n] = to_device(np.asarray(row), self.place)

    def read(self) -> Value:
        """The row itself."""
        return (self._rows or self._list())[self.position]

    def target(self, over: bool) -> Value:
        """The row itself if it may be written ``over``, else a spare one."""
        if over:
            self._spare = None
            return self.read()
        if self._spare is None:
            self._spare = empty(self.row_shape, self.tensor_type.dtype, self.place)
        return self._spare

    def replace(self) -> None:
        """Exchange the row and the spare one, if that was written."""
        self.untouched = False
        k = self.position
        if self._spare is not None:
            self._rows[k], self._spare = self._spare, self._rows[k]

    def numpy(self) -> np.ndarray:
        """A copy of the table."""
        if self._ahead is not None:
            return np.roll(self._ahead, self.position, axis=0)
        table = np.empty(self.shape(), self.tensor_type.dtype)
        for k, row in enumerate(self._rows):
            table[k] = row.numpy()
        return table
