"""The only door to onnxruntime. It is loaded at the first run, not by ``import graphopt``."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import onnx

from graphopt.errors import DeviceError
from graphopt.ir.types import BFLOAT16, NARROW, to_onnx_dtype
from graphopt.runtime.place import Place

Value: TypeAlias = Any  # an onnxruntime.OrtValue, a tensor on a device; or a HostValue
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


def _short(dtype: np.dtype) -> str:
    """onnxruntime's name of a dtype: float8e4m3fn for float8_e4m3fn."""
    return dtype.name.replace("_", "")


@dataclass(frozen=True)
class HostValue:
    """A value that Python cannot bind as an OrtValue: strings, a sequence (a list) or an optional.

    It has the parts of an OrtValue's interface that are asked of every value.
    """

    value: Any

    def data_type(self) -> str:
        """onnxruntime's name of the type."""
        return "tensor(string)" if isinstance(self.value, np.ndarray) else "object"

    def shape(self) -> list[int]:
        """The dims; of a sequence its length."""
        return (
            list(np.shape(self.value)) if isinstance(self.value, np.ndarray) else [len(self.value)]
        )

    def device_name(self) -> str:
        """Always host memory."""
        return "cpu"

    def numpy(self) -> Any:  # noqa: ANN401 - an array, a list, None or a dict
        """The value itself."""
        return self.value


# What numpy lacks travels as integers of the same width.
CARRIERS = {BFLOAT16: np.uint16, **{d: np.uint8 for n, d in NARROW.items() if n[:6] == "float8"}}
CARRIED = {f"tensor({_short(dtype)})": dtype for dtype in CARRIERS}


def to_device(array: Any, place: Place) -> Value:  # noqa: ANN401 - an array, a list or None
    """The array on a device. On the CPU it shares the array's memory."""
    if not isinstance(array, np.ndarray) or array.dtype.kind in "OUS":
        return HostValue(array.astype(object) if isinstance(array, np.ndarray) else array)
    values = _onnxruntime().OrtValue
    array = np.ascontiguousarray(array) if array.ndim else array
    if array.dtype in CARRIERS:
        code = to_onnx_dtype(array.dtype)
        return values.ortvalue_from_numpy_with_onnx_type(array.view(CARRIERS[array.dtype]), code)
    if array.dtype.name in NARROW:
        raise DeviceError(
            f"{array.dtype.name} values cannot be fed to onnxruntime from Python",
            fix="feed int8 and cast inside the Program",
        )
    return values.ortvalue_from_numpy(array, place.device, place.index)


def to_numpy(value: Value) -> Any:  # noqa: ANN401 - an array; of a HostValue what it holds
    """A copy in host memory."""
    if isinstance(value, HostValue):
        return deepcopy(value.value)
    if value.data_type() in CARRIED:
        return _carried_to_numpy(value, CARRIED[value.data_type()])
    return np.array(value.numpy())


def _carried_to_numpy(value: Value, dtype: np.dtype) -> np.ndarray:
    # OrtValue.numpy() refuses what numpy itself does not have: read the bytes.
    host = _onnxruntime().OrtValue.ortvalue_from_numpy(np.empty(value.shape(), CARRIERS[dtype]))
    if value.device_name() != "cpu":
        raise DeviceError(f"{dtype.name} values on a GPU cannot be read yet", fix="cast to float32")
    ctypes.memmove(host.data_ptr(), value.data_ptr(), value.tensor_size_in_bytes())
    return np.array(host.numpy()).view(dtype)


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
        return np.asarray(to_numpy(self._value))

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
        self._unbound = any(map(_is_unbound, (*model.graph.input, *model.graph.output)))
        if place.device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError(
                "onnxruntime could not load its CUDA provider",
                fix="install the CUDA and cuDNN versions it was built for, or use CPUPlace()",
            )

    def run(self, inputs: Mapping[str, Value], outputs: Mapping[str, Value | None]) -> list[Value]:
        """Run once. An output is written into the value given for it; None lets it be allocated."""
        if self._unbound:
            return self._run_unbound(inputs, outputs)
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

    def _run_unbound(
        self, inputs: Mapping[str, Value], outputs: Mapping[str, Value | None]
    ) -> list[Value]:
        """The same where a value is no numeric tensor, through Python's own objects."""
        feeds = {name: value.numpy() for name, value in inputs.items()}
        found = self._session.run(list(outputs), feeds)
        return [to_device(np.asarray(v) if isinstance(v, np.generic) else v, self.place)
                for v in found]  # fmt: skip


def _is_unbound(info: onnx.ValueInfoProto) -> bool:
    """Whether Python cannot bind values of this type."""
    kind = info.type.WhichOneof("value")
    return kind != "tensor_type" or info.type.tensor_type.elem_type == onnx.TensorProto.STRING


def _providers(place: Place) -> list[Any]:
    if place.device == "cpu":
        return ["CPUExecutionProvider"]
    # TF32 would round float32 products to 10 bits, and results would differ from the CPU's.
    cuda = {"device_id": str(place.index), "use_tf32": "0"}
    return [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]
