"""Whether there is room for tables, before any is made."""

from __future__ import annotations

import shutil
import tempfile

from graphopt.errors import CapacityError
from graphopt.ir.types.types import TensorType
from graphopt.runtime.state.rows import bytes_of


def check_room(needed: dict[str, tuple[TensorType, str]]) -> None:
    """Refuse tables that do not fit, before any is made.

    Args:
        needed: the tables' types and storages, by name.

    Raises:
        CapacityError: they need more host memory or disk space than there is.
    """
    for storages, room, what in (
        (("host", "device"), _free_memory, "memory"),
        (("disk",), _free_disk, f"space in {tempfile.gettempdir()}"),
    ):
        chosen = {name: t for name, (t, storage) in needed.items() if storage in storages}
        total = sum(map(bytes_of, chosen.values()))
        free = room() if total else None
        if free is not None and total > free:
            raise _no_room(chosen, total, free, what)


def _no_room(tables: dict[str, TensorType], total: int, free: int, what: str) -> CapacityError:
    largest = sorted(tables.items(), key=lambda item: -bytes_of(item[1]))[:4]
    return CapacityError(
        f"the gradient tables need {total / 2**30:.1f} GiB of {what}, {free / 2**30:.1f} are free",
        operands=[(name, f"{t}, {bytes_of(t) / 2**30:.2f} GiB") for name, t in largest],
        fix='a smaller batch_num, or ASGD(history="disk") for rows in a file'
        if what == "memory"
        else "a smaller batch_num, or set TMPDIR to a directory on a larger disk",
    )


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
