"""The processor: onnxruntime's CPU provider, which everything was measured on."""

from __future__ import annotations

from graphopt.ops.registry.formulations import MEASURED
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.providers.host import HOST_PROVIDER


class CPUPlace(Place):
    """The processor.

    >>> CPUPlace()
    CPUPlace()
    """

    machine = MEASURED
    has_blocks = True
    detours = frozenset()
    keeps_bindings = True
    shares_constants = True

    def __init__(self) -> None:
        super().__init__(HOST_PROVIDER)

    def __repr__(self) -> str:
        return "CPUPlace()"
