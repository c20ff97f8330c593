"""Where a Program runs: a provider of onnxruntime, its memory, and what is known of its kernels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, ClassVar

from graphopt.errors import ArgumentTypeError, DeviceError
from graphopt.onnxio.ort_gaps import DETOURS
from graphopt.ops.registry.formulations import PORTABLE, Machine
from graphopt.runtime.ort.library import devices, load_provider, onnxruntime
from graphopt.runtime.ort.memory import Memory
from graphopt.runtime.ort.providers.host import HOST, HOST_PROVIDER


class Place:
    """An onnxruntime provider, by its name. Nothing is taken for granted about its kernels.

    Programs are written for it in ops of the ONNX standard only, no memory is written over while
    it is read, and values lie in host memory between runs. ``CPUPlace`` and ``CUDAPlace`` are
    places of which more is known; a class of your own can say as much of another.

    Args:
        provider: onnxruntime's name of the provider.
        options: the provider's options, as onnxruntime documents them.
        index: which of the devices of a provider from a library.
        library: the path of the library of a provider that the installed onnxruntime lacks.
        fallback: whether ops that the provider lacks may run on the processor. Where they may
            not, a Program with such an op is refused, and the op named.

    Attributes:
        memory: where values lie between runs.
        machine: what was measured of the kernels, for the passes that choose between them.
        has_blocks: whether its convolutions can keep channels in blocks.
        detours: the ops that are written as others (see ``ort_gaps.DETOURS``).
        keeps_bindings: whether several IOBindings of a session, run in turn, read and write the
            values that they bind. Where they do not, values are passed at each run, and copied.
        shares_constants: whether sessions can read large constants from memory of Python's.
        remedy: what to do where onnxruntime has the provider and cannot load it.

    Raises:
        ArgumentTypeError: an argument of another type.

    >>> Place("XnnpackExecutionProvider", {"intra_op_num_threads": 2})
    Place('XnnpackExecutionProvider', options={'intra_op_num_threads': '2'})
    >>> Place("OpenVINOExecutionProvider") == Place("OpenVINOExecutionProvider", fallback=True)
    False
    """

    machine: ClassVar[Machine] = PORTABLE
    has_blocks: ClassVar[bool] = False
    detours: ClassVar[frozenset[str]] = frozenset(DETOURS)
    keeps_bindings: ClassVar[bool] = False
    shares_constants: ClassVar[bool] = False
    remedy: ClassVar[str] = "install what the provider needs, or use another place"

    def __init__(
        self,
        provider: str,
        options: Mapping[str, object] | None = None,
        *,
        index: int = 0,
        library: str | os.PathLike[str] | None = None,
        fallback: bool = False,
    ) -> None:
        if not isinstance(provider, str):
            raise ArgumentTypeError(
                f"a provider is given by its name, not by a {type(provider).__name__}",
                fix='e.g. Place("OpenVINOExecutionProvider")',
            )
        if options is not None and not isinstance(options, Mapping):
            raise ArgumentTypeError(
                f"options must be a dict, not a {type(options).__name__}",
                fix=f'e.g. Place("{provider}", {{"device_id": 0}})',
            )
        self.provider = provider
        self.options = {str(name): str(value) for name, value in (options or {}).items()}
        self.index = index
        self.library = None if library is None else os.fspath(library)
        self.fallback = fallback
        self.memory: Memory = HOST

    def check(self) -> None:
        """Refuse a place where no Program can run.

        Raises:
            DeviceError: onnxruntime has no such provider, cannot load its library, or has fewer
                devices for it.
        """
        if self.library is not None:
            load_provider(self.provider, self.library)
        found = onnxruntime().get_available_providers()
        own = devices(self.provider)
        if self.provider not in found and not own:
            raise DeviceError(
                f"the installed onnxruntime has no provider {self.provider!r}",
                operands=[("available", ", ".join(found))],
                fix="install a build of onnxruntime that has it, or give library=…, the path of "
                "its library in another wheel",
            )
        if own and self.index >= len(own):
            raise DeviceError(
                f"{self.provider} has no device {self.index}: it has {len(own)}", fix="count from 0"
            )

    @property
    def may_fall_back(self) -> bool:
        """Whether ops may run on the processor: because they are allowed to, or all do."""
        return self.fallback or self.provider == HOST_PROVIDER

    def choose(self, options: Any) -> list[Any] | None:  # noqa: ANN401 - SessionOptions
        """Tell a session's options where it is to run.

        Args:
            options: onnxruntime's SessionOptions, to be changed.

        Returns:
            The providers to name beside the options; None if the options hold all.
        """
        if self.provider == HOST_PROVIDER:
            return [self.provider]
        if not self.may_fall_back:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        own = devices(self.provider)
        if own:  # named by a string, a library's provider would be passed over in silence
            options.add_provider_for_devices([own[self.index]], self.options)
            return None
        named = (self.provider, self.options)
        return [named, HOST_PROVIDER] if self.fallback else [named]

    def __eq__(self, other: object) -> bool:
        return self is other or (type(other) is type(self) and vars(other) == vars(self))

    def __hash__(self) -> int:
        return hash((type(self), self.provider, self.index))

    def __repr__(self) -> str:
        given = {"options": self.options, "index": self.index, "library": self.library,
                 "fallback": self.fallback}  # fmt: skip
        shown = [f"{name}={value!r}" for name, value in given.items() if value]
        return f"{type(self).__name__}({', '.join([repr(self.provider), *shown])})"
