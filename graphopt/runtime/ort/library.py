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
