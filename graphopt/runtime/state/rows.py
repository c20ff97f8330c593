"""A table whose rows steps use in turn: one is read, another is written in its place.

Rows lie where their Program says: on the device, in host memory or in a memory-mapped file. Where
the device cannot read them in place, one row is brought there ahead of the step that needs it.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import numpy as np

from graphopt.errors import CapacityError
from graphopt.ir.types.types import TensorType
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.session import Value, empty, to_device, to_numpy

SMALL = 2**20  # bytes of a table that may as well be moved as a whole
STORAGES = ("device", "host", "disk")


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
        return self.place.device


class Resident(Rows):
    """Rows where the device reads them: a step's cost is that of one row, without any copy.

    Runs of many steps want them side by side: then ``_ahead`` has all rows, from the position on,
    in place of the list.
    """

    def __init__(
        self, tensor_type: TensorType, place: Place, table: np.ndarray | None = None
    ) -> None:
        super().__init__(tensor_type, place)
        # Pages of zeros cost nothing until a row is written.
        whole = np.zeros(self.shape(), tensor_type.dtype) if table is None else table
        self._ahead: np.ndarray | None = whole if place.device == "cpu" else None
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
        """Go on at another row."""
        if position != self.position:
            self._list()
            self.position = position

    def take(self, count: int) -> np.ndarray:
        """The rows, side by side."""
        if self._ahead is None and (count == self.n or self._is_small()):
            self._ahead, self._rows = self._stacked(self.n), []
        return self._stacked(count) if self._ahead is None else self._ahead[:count]

    def _stacked(self, count: int) -> np.ndarray:
        order = [(self.position + k) % self.n for k in range(count)]
        return np.stack([self._rows[k].numpy() for k in order])

    def _is_small(self) -> bool:
        """Whether moving the whole table costs little beside a call."""
        return _bytes(self.tensor_type) <= SMALL

    def fill(self, rows: np.ndarray) -> None:
        """Keep the array itself."""
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
        """The row itself, or a spare one."""
        if over:
            self._spare = None
            return self.read()
        if self._spare is None:
            self._spare = empty(self.row_shape, self.tensor_type.dtype, self.place)
        return self._spare

    def replace(self) -> None:
        """The two change places, if they are two."""
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


@cache
def _worker() -> ThreadPoolExecutor:
    """The one thread that moves rows: what it is given first it does first."""
    return ThreadPoolExecutor(1, "graphopt-rows")


class Factored:
    """A table of products: row k is -leftᵀ right of two thin tables [n, b, i] and [n, b, o].

    A batch of b examples gives a gradient of rank b. It is laid out only for who looks at it.
    """

    def __init__(self, left: TensorType, right: TensorType, place: Place) -> None:
        self.types, self.place = (left, right), place
        self.parts = tuple(Resident(part, place) for part in self.types)

    def shape(self) -> list[int]:
        """The dims of the table."""
        (n, _, i), (_, _, o) = (part.shape() for part in self.parts)
        return [n, i, o]

    def device_name(self) -> str:
        """Where steps find the rows."""
        return self.place.device

    def numpy(self) -> np.ndarray:
        """The table, laid out."""
        left, right = (part.numpy() for part in self.parts)
        table: np.ndarray = np.matmul(-left.transpose(0, 2, 1), right)
        return table


class Staged(Rows):
    """Rows elsewhere: a thread brings the next one while a step runs, and puts back the last."""

    def __init__(self, tensor_type: TensorType, place: Place, store: Store) -> None:
        super().__init__(tensor_type, place)
        self._store = store
        self._worker = _worker()
        self._targets = [empty(self.row_shape, tensor_type.dtype, place) for _ in range(2)]
        self._fetched: tuple[int, Future[Value]] | None = None
        self._stored: Future[None] | None = None

    def take(self, count: int) -> np.ndarray:
        """The rows, read one by one."""
        order = [(self.position + k) % self.n for k in range(count)]
        return self._worker.submit(lambda: np.stack([self._store.read(k) for k in order])).result()

    def fill(self, rows: np.ndarray) -> None:
        """Write them one by one."""
        for k, row in enumerate(rows):
            self._worker.submit(self._store.write, (self.position + k) % self.n, row).result()
        self._fetched = None

    def read(self) -> Value:
        """The row as it was brought."""
        if self._fetched is None or self._fetched[0] != self.position:
            self._prefetch(self.position)
        assert self._fetched is not None
        return self._fetched[1].result()

    def _prefetch(self, position: int) -> None:
        def fetch() -> Value:
            return to_device(self._store.read(position), self.place)

        self._fetched = position, self._worker.submit(fetch)

    def target(self, over: bool) -> Value:
        """One of two buffers."""
        return self._targets[0]

    def replace(self) -> None:
        """Put the target back, and bring the next row, both while the next step begins."""
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


class Store:
    """Rows in host memory, or in a file of their own that is gone with them."""

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
        """A copy of a row."""
        row = self._rows[position, ...].copy()
        self._release(position)
        return row

    def write(self, position: int, row: np.ndarray) -> None:
        """Replace a row."""
        self._rows[position, ...] = row
        self._release(position)

    def table(self) -> np.ndarray:
        """A copy of all rows."""
        return self._rows.copy()

    def fill(self, table: np.ndarray) -> None:
        """Set all rows."""
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


def rows_of(
    tensor_type: TensorType, storage: str, place: Place, table: np.ndarray | None = None
) -> Rows:
    """A table of zeros, or with the values of ``table``, which becomes the rows' memory."""
    if storage == "device" or (storage == "host" and place.device == "cpu"):
        return Resident(tensor_type, place, table)
    store = Store(tensor_type, tempfile.gettempdir() if storage == "disk" else None)
    if table is not None:
        store.fill(table)
    return Staged(tensor_type, place, store)


def check_room(needed: dict[str, tuple[TensorType, str]]) -> None:
    """Refuse tables that do not fit, before any is made.

    Raises:
        CapacityError: they need more host memory or disk space than there is.
    """
    for storages, room, what in (
        (("host", "device"), _free_memory, "memory"),
        (("disk",), _free_disk, f"space in {tempfile.gettempdir()}"),
    ):
        chosen = {name: t for name, (t, storage) in needed.items() if storage in storages}
        total = sum(map(_bytes, chosen.values()))
        free = room() if total else None
        if free is not None and total > free:
            raise _no_room(chosen, total, free, what)


def _no_room(tables: dict[str, TensorType], total: int, free: int, what: str) -> CapacityError:
    largest = sorted(tables.items(), key=lambda item: -_bytes(item[1]))[:4]
    return CapacityError(
        f"the gradient tables need {total / 2**30:.1f} GiB of {what}, {free / 2**30:.1f} are free",
        operands=[(name, f"{t}, {_bytes(t) / 2**30:.2f} GiB") for name, t in largest],
        fix='a smaller batch_num, or ASGD(history="disk") for rows in a file'
        if what == "memory"
        else "a smaller batch_num, or set TMPDIR to a directory on a larger disk",
    )


def _bytes(tensor_type: TensorType) -> int:
    return int(np.prod([int(d) for d in tensor_type.shape or ()])) * tensor_type.dtype.itemsize


def _free_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _free_disk() -> int:
    return shutil.disk_usage(tempfile.gettempdir()).free
