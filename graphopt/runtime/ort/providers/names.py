"""Places by the short names that Paddle gives them."""

from __future__ import annotations

import re

from graphopt.errors import ArgumentError
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.providers.cpu import CPUPlace
from graphopt.runtime.ort.providers.cuda import CUDAPlace


def as_place(place: Place | str | None) -> Place:
    """A place from its name: 'cpu', 'gpu', 'gpu:1'; a place as it is.

    Args:
        place: the name, or a place; None is the processor.

    Raises:
        ArgumentError: there is no such place.

    >>> as_place("gpu:1")
    CUDAPlace(index=1)
    """
    if place is None:
        return CPUPlace()
    if isinstance(place, Place):
        return place
    match = re.fullmatch(r"(cpu|gpu|cuda)(?::(\d+))?", str(place))
    if match is None:
        raise ArgumentError(
            f"there is no place {place!r}",
            fix="use CPUPlace(), CUDAPlace(0), or Place with the name of an onnxruntime provider",
        )
    return CPUPlace() if match[1] == "cpu" else CUDAPlace(int(match[2] or 0))
