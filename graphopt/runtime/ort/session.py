"""Models loaded by onnxruntime, and the places where it can run them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx

from graphopt.errors import DeviceError
from graphopt.onnxio.ort_order import written_early
from graphopt.runtime.ort.bindings import Binding, Bound, Unbound
from graphopt.runtime.ort.library import LOG_FATAL, onnxruntime
from graphopt.runtime.ort.place import Place


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
    if "CUDAExecutionProvider" not in onnxruntime().get_available_providers():
        raise DeviceError(
            "the installed onnxruntime has no CUDA provider", fix="pip install onnxruntime-gpu"
        )
    _preload_cuda()


@cache
def _preload_cuda() -> None:
    onnxruntime().preload_dlls()


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
        ort = onnxruntime()
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
            return Unbound(self._session, self.place)
        return Bound(self._session, self.place)


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
