"""The only door to onnxruntime. It is loaded at the first run, not by ``import graphopt``."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import onnx

from graphopt.errors import DeviceError
from graphopt.ir.types import BFLOAT16, to_onnx_dtype
from graphopt.runtime.place import Place

Value: TypeAlias = Any  # an onnxruntime.OrtValue: a tensor on a device
LOG_FATAL = 4  # errors reach the caller as exceptions; the C++ log would only repeat them


@cache
def _onnxruntime() -> Any:  # noqa: ANN401 - an untyped module
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
    state = _onnxruntime().capi.onnxruntime_pybind11_state
    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (RuntimeError, *own)


@cache
def cuda_devices() -> int:
    """The number of CUDA devices, asked of the driver itself; 0 without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def check_place(place: Place) -> None:
    """Raise DeviceError unless a Program can run there; asks the driver, not the C++ log."""
    if place.device == "cpu":
        return
    if place.index >= cuda_devices():
        raise DeviceError(
            f"there is no CUDA device {place.index}: the driver shows {cuda_devices()}",
            fix="use CPUPlace(), or a machine with an NVIDIA GPU and its driver",
        )
    if "CUDAExecutionProvider" not in _onnxruntime().get_available_providers():
        raise DeviceError(
            "the installed onnxruntime has no CUDA provider", fix="pip install onnxruntime-gpu"
        )
    _preload_cuda()


@cache
def _preload_cuda() -> None:
    _onnxruntime().preload_dlls()


def to_device(array: np.ndarray, place: Place) -> Value:
    """The array on a device. On the CPU it shares the array's memory."""
    values = _onnxruntime().OrtValue
    array = np.ascontiguousarray(array) if array.ndim else array
    if array.dtype == BFLOAT16:
        code = to_onnx_dtype(array.dtype)
        return values.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), code)
    return values.ortvalue_from_numpy(array, place.device, place.index)


def to_numpy(value: Value) -> np.ndarray:
    """A copy in host memory."""
    if value.data_type() == "tensor(bfloat16)":
        return _bfloat16_to_numpy(value)
    return np.array(value.numpy())


def _bfloat16_to_numpy(value: Value) -> np.ndarray:
    # OrtValue.numpy() refuses bfloat16, which numpy itself does not have: read the bytes.
    host = _onnxruntime().OrtValue.ortvalue_from_numpy(np.empty(value.shape(), np.uint16))
    if value.device_name() != "cpu":
        raise DeviceError("bfloat16 values on a GPU cannot be read yet", fix="cast to float32")
    ctypes.memmove(host.data_ptr(), value.data_ptr(), value.tensor_size_in_bytes())
    return np.array(host.numpy()).view(BFLOAT16)


def empty(shape: Sequence[int], dtype: np.dtype, place: Place) -> Value:
    """An uninitialized tensor on a device."""
    element = to_onnx_dtype(dtype) if dtype == BFLOAT16 else dtype.type
    return _onnxruntime().OrtValue.ortvalue_from_shape_and_type(
        list(shape), element, place.device, place.index
    )


class FetchedTensor:
    """A fetched value that stays on its device: what ``run(return_numpy=False)`` returns."""

    def __init__(self, value: Value) -> None:
        self._value = value

    def shape(self) -> list[int]:
        """The dims."""
        return list(self._value.shape())

    def numpy(self) -> np.ndarray:
        """A copy in host memory."""
        return to_numpy(self._value)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)


class Session:
    """A model loaded by onnxruntime on one device."""

    def __init__(self, model: onnx.ModelProto, place: Place) -> None:
        check_place(place)
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = LOG_FATAL
        # The pattern would be a second block beside what the first run took: twice the memory.
        options.enable_mem_pattern = False
        # The Program's own order: each weight's gradient as soon as it can be had. The default puts
        # them last, which keeps every activation alive until then.
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        self.place = place
        # EliminateDropout removes a Dropout whose mask nobody reads, even one that is training;
        # ConstantFolding would run a model without inputs while loading it, many times slower.
        folding = [] if model.graph.input else ["ConstantFolding"]
        self._session = ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=_providers(place),
            disabled_optimizers=["EliminateDropout", *folding],
        )
        if place.device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError(
                "onnxruntime could not load its CUDA provider",
                fix="install the CUDA and cuDNN versions it was built for, or use CPUPlace()",
            )

    def run(self, inputs: Mapping[str, Value], outputs: Mapping[str, Value | None]) -> list[Value]:
        """Run once. An output is written into the value given for it; None lets it be allocated."""
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            if value is None:
                binding.bind_output(name, self.place.device, self.place.index)
            else:
                binding.bind_ortvalue_output(name, value)
        self._session.run_with_iobinding(binding)
        return list(binding.get_outputs())


def _providers(place: Place) -> list[Any]:
    if place.device == "cpu":
        return ["CPUExecutionProvider"]
    # TF32 would round float32 products to 10 bits, and results would differ from the CPU's.
    cuda = {"device_id": str(place.index), "use_tf32": "0"}
    return [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]
