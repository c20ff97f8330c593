"""The only door to onnxruntime. It is loaded at the first run, not by ``import graphopt``."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol, TypeAlias

import numpy as np
import onnx

from graphopt.errors import DeviceError
from graphopt.ir.types.types import BFLOAT16, NARROW, to_onnx_dtype
from graphopt.onnxio.ort_order import written_early
from graphopt.runtime.ort.place import CPUPlace, Place

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
def _ort_value() -> Any:  # noqa: ANN401 - an untyped class
    return _onnxruntime().OrtValue


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
    if isinstance(value, _ort_value()) and value.data_type() in CARRIED:
        return _carried_to_numpy(value, CARRIED[value.data_type()])
    array = value.numpy()
    return array if array.flags.owndata else np.array(array)


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


def host_view(value: Value) -> np.ndarray | None:
    """The value's own memory as an array; None where numpy cannot see it."""
    if value.device_name() != "cpu" or value.data_type() in CARRIED:
        return None
    view = value.numpy()
    shares = view.ctypes.data == value.data_ptr()
    return view if shares else None


def reshaped(value: Value, shape: Sequence[int]) -> Value:
    """A value over the memory of another in host memory, which must outlive it."""
    if value.shape() == list(shape):
        return value
    return to_device(value.numpy().reshape(shape), CPUPlace())


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
    """A model loaded by onnxruntime on one device. The nodes of a long one are reordered.

    ``in_order`` runs its nodes in the order they are written, those that onnxruntime's optimizers
    make last of what can run. Its own order puts all weight gradients behind the rest. ``arrays``
    are values of constants that the model only names; they are read where they are.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        place: Place,
        in_order: bool = False,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        check_place(place)
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = LOG_FATAL
        # The pattern would be a second block beside what the first run took: twice the memory.
        options.enable_mem_pattern = False
        if in_order:
            options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        else:
            written_early(model)
        self.place = place
        self._arrays = dict(arrays or {})
        if self._arrays:
            values = map(ort.OrtValue.ortvalue_from_numpy, self._arrays.values())
            options.add_external_initializers(list(self._arrays), list(values))
        if not model.graph.input:  # it runs once; folding would do so while loading it, but slower
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=_providers(place),
            # The one removes a Dropout whose mask nobody reads, even one that is training; the
            # other takes back the transposes that are written because they are quicker.
            disabled_optimizers=["EliminateDropout", "GemmTransposeFusion"],
        )
        self._unbound = any(map(_is_unbound, (*model.graph.input, *model.graph.output)))
        self.takes_buffers = not self._unbound
        if place.device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise DeviceError(
                "onnxruntime could not load its CUDA provider",
                fix="install the CUDA and cuDNN versions it was built for, or use CPUPlace()",
            )

    def bind(self) -> Binding:
        """Where a run is to read its inputs and write its outputs, to be filled in."""
        if self._unbound:
            return _Unbound(self._session, self.place)
        return _Bound(self._session, self.place)


class Binding(Protocol):
    """The inputs and outputs of a session, set once and run many times."""

    def input(self, name: str, value: Value) -> None:
        """Read an input from a value, from the next run on."""

    def feed(self, name: str, array: Any) -> bool:  # noqa: ANN401 - an array, a list or None
        """Read an input from a fed array; whether it is the array's own memory that is read."""

    def output(self, name: str, value: Value | None) -> None:
        """Write an output into a value; None lets the next run allocate it."""

    def run(self) -> None:
        """Run once."""

    def outputs(self) -> list[Value]:
        """The results of the last run, in the order in which the outputs were first set."""


class _Bound:
    """A binding in onnxruntime's own terms: no value is touched by Python.

    It goes past the Python around onnxruntime's C functions, a quarter of the time of a small step.
    ``run`` is the C function itself. Python looks for an interrupt only behind it, so a
    KeyboardInterrupt that it raises means that the run is complete.
    """

    def __init__(self, session: Any, place: Place) -> None:  # noqa: ANN401 - untyped
        self._binding, self._place = session.io_binding(), place
        self._c = self._binding._iobinding
        self.run = partial(session._sess.run_with_iobinding, self._c, None)
        self._is_host = place.device == "cpu"
        self._read: dict[str, Any] = {}  # what is bound stays in memory
        self._written: dict[str, Value] = {}

    def input(self, name: str, value: Value) -> None:
        self._c.bind_ortvalue_input(name, value._ortvalue)
        self._read[name] = value

    def feed(self, name: str, array: Any) -> bool:  # noqa: ANN401 - always an array here
        is_own = array.flags.c_contiguous and array.dtype.isbuiltin == 1 and self._is_host
        if is_own:
            self._c.bind_input(name, array)  # the shorter way to the same
            self._read[name] = array
        else:
            self.input(name, to_device(array, self._place))
        return bool(is_own)

    def output(self, name: str, value: Value | None) -> None:
        if value is None:
            self._binding.bind_output(name, self._place.device, self._place.index)
            self._written.pop(name, None)
        else:
            self._c.bind_ortvalue_output(name, value._ortvalue)
            self._written[name] = value

    def outputs(self) -> list[Value]:
        return list(self._binding.get_outputs())


class _Unbound:
    """The same where a value is no numeric tensor, through Python's own objects."""

    def __init__(self, session: Any, place: Place) -> None:  # noqa: ANN401 - untyped
        self._session, self._place = session, place
        self._inputs: dict[str, Value] = {}
        self._outputs: dict[str, None] = {}
        self._found: list[Value] = []

    def input(self, name: str, value: Value) -> None:
        self._inputs[name] = value

    def feed(self, name: str, array: Any) -> bool:  # noqa: ANN401 - an array, a list or None
        self._inputs[name] = to_device(array, self._place)
        return False

    def output(self, name: str, value: Value | None) -> None:
        self._outputs[name] = None

    def run(self) -> None:
        feeds = {name: value.numpy() for name, value in self._inputs.items()}
        found = self._session.run(list(self._outputs), feeds)
        self._found = [
            to_device(np.asarray(v) if isinstance(v, np.generic) else v, self._place) for v in found
        ]

    def outputs(self) -> list[Value]:
        return self._found


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
