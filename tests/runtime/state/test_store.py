"""Rows in host memory or in a file."""

import mmap

import numpy as np

from graphopt.ir.types.types import TensorType
from graphopt.runtime.state.store import Store


def test_pages_of_a_file_are_let_go_only_whole():
    """Rows that share a page keep each other's values."""
    row = mmap.PAGESIZE // 4 + 24
    store = Store(TensorType(np.dtype("f4"), (5, row)), ".")
    expected = np.arange(5 * row, dtype="f4").reshape(5, row)
    store.fill(expected)
    for k in (3, 0, 4):
        np.testing.assert_array_equal(store.read(k), expected[k])
    np.testing.assert_array_equal(store.table(), expected)
