"""The only door to onnxruntime. It is loaded at the first run, not by ``import graphopt``."""

from __future__ import annotations

from functools import cache
from typing import Any

from graphopt.errors import DeviceError

LOG_FATAL = 4  # errors reach the caller as exceptions; the C++ log would only repeat them


@cache
def onnxruntime() -> Any:  # noqa: ANN401 - an untyped module
    """The module.

    Raises:
        DeviceError: it is not installed.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise DeviceError(
            "onnxruntime is not installed, so no Program can run",
            fix="pip install onnxruntime (or onnxruntime-gpu)",
        ) from error
    ort.set_default_logger_severity(LOG_FATAL)
    return ort


@cache
def failures() -> tuple[type[Exception], ...]:
    """The exceptions onnxruntime raises: each of its own class, without a common base."""
    state = onnxruntime().capi.onnxruntime_pybind11_state
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (RuntimeError, *own)


def devices(provider: str) -> list[Any]:
    """What a provider of a library can run on, in onnxruntime's order; most built-in ones say none.

    Args:
        provider: onnxruntime's name of it.
    """
    listed: list[Any] = getattr(onnxruntime(), "get_ep_devices", list)()
    return [device for device in listed if device.ep_name == provider]


def load_provider(provider: str, library: str) -> None:
    """Load a provider from a library, once in a process.

    Args:
        provider: the name that the library gives it.
        library: the path of the library.

    Raises:
        DeviceError: this onnxruntime loads no libraries, or not this one; or the library has no
            provider of this name.
    """
    if devices(provider):
        return
    register = getattr(onnxruntime(), "register_execution_provider_library", None)
    if register is None:
        raise DeviceError(
            "the installed onnxruntime cannot load providers from libraries",
            fix="pip install --upgrade onnxruntime",
        )
    try:
        register(provider, library)
    except failures() as error:
        raise DeviceError(
            f"the library of {provider} cannot be loaded",
            operands=[("library", library), ("onnxruntime", str(error).splitlines()[0])],
            fix="give the path of a provider library that was built for this onnxruntime",
        ) from error
    if not devices(provider):
        raise DeviceError(
            f"the library has no provider {provider!r} for this machine",
            operands=[("library", library), ("loaded", ", ".join(sorted(_listed())))],
            fix="give the provider the name that its library gives it",
        )


def _listed() -> set[str]:
    """The providers that can run on this machine, of those that say so."""
    return {device.ep_name for device in onnxruntime().get_ep_devices()}
