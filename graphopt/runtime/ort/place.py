"""Where a Program runs: ``CPUPlace()`` or ``CUDAPlace(i)``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from graphopt.errors import ArgumentError


@dataclass(frozen=True)
class CPUPlace:
    """The processor.

    >>> CPUPlace()
    CPUPlace()
    """

    @property
    def device(self) -> str:
        """onnxruntime's name of the device."""
        return "cpu"

    @property
    def index(self) -> int:
        """The device's number."""
        return 0


@dataclass(frozen=True)
class CUDAPlace:
    """An NVIDIA GPU by its number. An Executor there raises DeviceError where it cannot be used."""

    index: int = 0

    @property
    def device(self) -> str:
        """onnxruntime's name of the device."""
        return "cuda"


Place: TypeAlias = CPUPlace | CUDAPlace


def as_place(place: Place | str | None) -> Place:
    """A place from its name: 'cpu', 'gpu', 'gpu:1'.

    Raises:
        ArgumentError: there is no such place.
    """
    if place is None:
        return CPUPlace()
    if isinstance(place, (CPUPlace, CUDAPlace)):
        return place
    match = re.fullmatch(r"(cpu|gpu|cuda)(?::(\d+))?", str(place))
    if match is None:
        raise ArgumentError(f"there is no place {place!r}", fix="use CPUPlace() or CUDAPlace(0)")
    return CPUPlace() if match[1] == "cpu" else CUDAPlace(int(match[2] or 0))
