"""Where the rows of a table lie: on the device, in host memory or in a memory-mapped file."""

from __future__ import annotations

import tempfile

import numpy as np

from graphopt.ir.types.types import TensorType
from graphopt.runtime.ort.place import Place
from graphopt.runtime.state.resident import Resident
from graphopt.runtime.state.rows import Rows
from graphopt.runtime.state.staged import Staged
from graphopt.runtime.state.store import Store

STORAGES = ("device", "host", "disk")


def rows_of(
    tensor_type: TensorType, storage: str, place: Place, table: np.ndarray | None = None
) -> Rows:
    """The rows of a table, where it is to lie.

    Args:
        tensor_type: the table's type.
        storage: one of ``STORAGES``.
        place: where steps run.
        table: the rows, which may become their memory; None for zeros.
    """
    if storage == "device" or (storage == "host" and place.memory.in_view):
        return Resident(tensor_type, place, table)
    store = Store(tensor_type, tempfile.gettempdir() if storage == "disk" else None)
    if table is not None:
        store.fill(table)
    return Staged(tensor_type, place, store)
