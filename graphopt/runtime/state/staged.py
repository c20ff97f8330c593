"""Rows of a table that lie elsewhere, and are brought to the device one by one."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import numpy as np

from graphopt.ir.types.types import TensorType
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.values import Value, empty, to_device, to_numpy
from graphopt.runtime.state.rows import Rows
from graphopt.runtime.state.store import Store


@cache
def _worker() -> ThreadPoolExecutor:
    """The one thread that moves rows, in the order in which it is told to."""
    return ThreadPoolExecutor(1, "graphopt-rows")


class Staged(Rows):
    """Rows in a store: a thread brings the next one while a step runs, and puts back the last.

    Args:
        tensor_type: the table's type.
        place: where steps run.
        store: where the rows lie.
    """

    def __init__(self, tensor_type: TensorType, place: Place, store: Store) -> None:
        super().__init__(tensor_type, place)
        self._store = store
        self._worker = _worker()
        self._targets = [empty(self.row_shape, tensor_type.dtype, place) for _ in range(2)]
        self._fetched: tuple[int, Future[Value]] | None = None
        self._stored: Future[None] | None = None

    def take(self, count: int) -> np.ndarray:
        """A table of the next ``count`` rows, read one by one: [count, *s]."""
        order = [(self.position + k) % self.n for k in range(count)]
        return self._worker.submit(lambda: np.stack([self._store.read(k) for k in order])).result()

    def fill(self, rows: np.ndarray) -> None:
        """Make ``rows`` those from the position on, written one by one."""
        for k, row in enumerate(rows):
            self._worker.submit(self._store.write, (self.position + k) % self.n, row).result()
        self._fetched = None

    def read(self) -> Value:
        """The row at the position, as the thread has brought it."""
        if self._fetched is None or self._fetched[0] != self.position:
            self._prefetch(self.position)
        assert self._fetched is not None
        return self._fetched[1].result()

    def _prefetch(self, position: int) -> None:
        def fetch() -> Value:
            return to_device(self._store.read(position), self.place)

        self._fetched = position, self._worker.submit(fetch)

    def target(self, over: bool) -> Value:
        """One of two buffers; a row is never written ``over``, as the store has it."""
        return self._targets[0]

    def replace(self) -> None:
        """Let the thread put the target back and bring the next row, while the next step begins."""
        if self._stored is not None:
            self._stored.result()  # of two targets one is free, and a failure to store is seen
        written, position = self._targets[0], self.position
        self._targets.reverse()

        def store() -> None:
            self._store.write(position, to_numpy(written))

        self._stored = self._worker.submit(store)
        self._prefetch((position + 1) % self.n)

    def numpy(self) -> np.ndarray:
        """A copy of the table."""
        return self._worker.submit(self._store.table).result()
