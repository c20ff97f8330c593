"""Rows of a table in host memory, or in a memory-mapped file."""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np

from graphopt.ir.types.types import TensorType


class Store:
    """Rows in host memory, or in a file that is deleted with them.

    Args:
        tensor_type: the table's type. All rows are zero at first.
        directory: where the file is to be; None for host memory.
    """

    def __init__(self, tensor_type: TensorType, directory: str | None) -> None:
        shape = tuple(int(d) for d in tensor_type.shape or ())
        self._map: mmap.mmap | None = None
        if directory is None:
            self._rows = np.zeros(shape, tensor_type.dtype)
            return
        size = max(int(np.prod(shape)) * tensor_type.dtype.itemsize, 1)
        with tempfile.TemporaryFile(dir=directory) as file:
            os.truncate(file.fileno(), size)  # a file of holes: written rows take space, others not
            self._map = mmap.mmap(file.fileno(), size)
        count = int(np.prod(shape))
        self._rows = np.frombuffer(self._map, tensor_type.dtype, count).reshape(shape)

    def read(self, position: int) -> np.ndarray:
        """A copy of the row at ``position``."""
        row = self._rows[position, ...].copy()
        self._release(position)
        return row

    def write(self, position: int, row: np.ndarray) -> None:
        """Replace the row at ``position`` by ``row``."""
        self._rows[position, ...] = row
        self._release(position)

    def table(self) -> np.ndarray:
        """A copy of all rows."""
        return self._rows.copy()

    def fill(self, table: np.ndarray) -> None:
        """Set all rows to those of ``table``."""
        for k in range(len(table)):
            self.write(k, table[k])

    def _release(self, position: int) -> None:
        """Let a row's pages go: the file keeps them, this process needs them no more."""
        if self._map is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        bytes_of_row = self._rows[0].nbytes
        start = -(-position * bytes_of_row // mmap.PAGESIZE) * mmap.PAGESIZE
        stop = (position + 1) * bytes_of_row // mmap.PAGESIZE * mmap.PAGESIZE
        if stop > start:
            self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)
