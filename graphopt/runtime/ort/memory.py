"""Where values lie while a Program runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """A memory that onnxruntime's values can lie in.

    Attributes:
        device: onnxruntime's name of the device it belongs to, as OrtValue and IOBinding take it.
        index: the number of that device.
        in_view: whether Python can read and write the values where they lie.
    """

    device: str
    index: int = 0
    in_view: bool = False
