"""Values that onnxruntime runs on, and how arrays become values and values arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from graphopt.errors import DeviceError
from graphopt.ir.types.types import BFLOAT16, NARROW, to_onnx_dtype
from graphopt.runtime.ort.library import onnxruntime
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.providers.cpu import CPUPlace
from graphopt.runtime.ort.providers.host import HOST

Value: TypeAlias = Any  # an onnxruntime.OrtValue, a tensor on a device; or a HostValue


@cache
def _ort_value() -> Any:  # noqa: ANN401 - an untyped class
    return onnxruntime().OrtValue


def _short(dtype: np.dtype) -> str:
    """onnxruntime's name of a dtype: float8e4m3fn for float8_e4m3fn."""
    return dtype.name.replace("_", "")


@dataclass(frozen=True)
class HostValue:
    """A value that no OrtValue of Python holds: strings, a sequence (a list) or an optional.

    It answers what is asked of every value as an OrtValue does.

    Attributes:
        value: an array of strings, a list of arrays, a dict, or None.
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
        """Where it lies: in host memory."""
        return HOST.device

    def numpy(self) -> Any:  # noqa: ANN401 - an array, a list, None or a dict
        """The value itself."""
        return self.value


# What numpy lacks travels as integers of the same width.
CARRIERS = {BFLOAT16: np.uint16, **{d: np.uint8 for n, d in NARROW.items() if n[:6] == "float8"}}
CARRIED = {f"tensor({_short(dtype)})": dtype for dtype in CARRIERS}


def to_device(array: Any, place: Place) -> Value:  # noqa: ANN401 - an array, a list or None
    """The value of an array on a place. In host memory it shares the array's memory.

    Args:
        array: numbers or strings; for a sequence or an optional a list, a dict or None.
        place: where the value is to lie.

    Raises:
        DeviceError: the dtype is one that Python cannot hand to onnxruntime (int4, float4).
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind in "OUS":
        return HostValue(array.astype(object) if isinstance(array, np.ndarray) else array)
    values = onnxruntime().OrtValue
    array = np.ascontiguousarray(array) if array.ndim else array
    if array.dtype in CARRIERS:
        code = to_onnx_dtype(array.dtype)
        return values.ortvalue_from_numpy_with_onnx_type(array.view(CARRIERS[array.dtype]), code)
    if array.dtype.name in NARROW:
        raise DeviceError(
            f"{array.dtype.name} values cannot be fed to onnxruntime from Python",
            fix="feed int8 and cast inside the Program",
        )
    return values.ortvalue_from_numpy(array, place.memory.device, place.memory.index)


def to_numpy(value: Value) -> Any:  # noqa: ANN401 - an array; of a HostValue what it holds
    """The array of a value, a copy in host memory.

    Args:
        value: on any device.

    Raises:
        DeviceError: a bfloat16 or float8 value on a GPU.
    """
    if isinstance(value, HostValue):
        return deepcopy(value.value)
    if isinstance(value, _ort_value()) and value.data_type() in CARRIED:
        return _carried_to_numpy(value, CARRIED[value.data_type()])
    array = value.numpy()
    return array if array.flags.owndata else np.array(array)


def _carried_to_numpy(value: Value, dtype: np.dtype) -> np.ndarray:
    # OrtValue.numpy() refuses what numpy itself does not have: read the bytes.
    host = onnxruntime().OrtValue.ortvalue_from_numpy(np.empty(value.shape(), CARRIERS[dtype]))
    if value.device_name() != HOST.device:
        raise DeviceError(f"{dtype.name} values on a GPU cannot be read yet", fix="cast to float32")
    ctypes.memmove(host.data_ptr(), value.data_ptr(), value.tensor_size_in_bytes())
    return np.array(host.numpy()).view(dtype)


def overwrite(target: Value, value: Value) -> None:
    """Write the elements of a value over those of another tensor.

    Args:
        target: a tensor of numbers, of as many bytes.
        value: what to write, in host memory.
    """
    if target.device_name() == HOST.device:
        ctypes.memmove(target.data_ptr(), value.data_ptr(), value.tensor_size_in_bytes())
    else:
        target.update_inplace(value.numpy())


def empty(shape: Sequence[int], dtype: np.dtype, place: Place) -> Value:
    """A tensor whose elements are not set.

    Args:
        shape: its dims.
        dtype: of numbers.
        place: where it is to lie.
    """
    element = to_onnx_dtype(dtype) if dtype == BFLOAT16 else dtype.type
    return onnxruntime().OrtValue.ortvalue_from_shape_and_type(
        list(shape), element, place.memory.device, place.memory.index
    )


def host_view(value: Value) -> np.ndarray | None:
    """The array over the memory of a value, to read and write it; None where there is none.

    Args:
        value: a tensor. On a device, or of a dtype that numpy lacks, it has no such array.
    """
    if value.device_name() != HOST.device or value.data_type() in CARRIED:
        return None
    view = value.numpy()
    shares = view.ctypes.data == value.data_ptr()
    return view if shares else None


def reshaped(value: Value, shape: Sequence[int]) -> Value:
    """A value of another shape over the memory of a value in host memory, which must outlive it.

    Args:
        value: a tensor of numbers.
        shape: dims of as many elements.
    """
    if value.shape() == list(shape):
        return value
    return to_device(value.numpy().reshape(shape), CPUPlace())


class FetchedTensor:
    """A fetched value that stays on its device: what ``run(return_numpy=False)`` returns.

    Args:
        value: the runtime's value.
    """

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
