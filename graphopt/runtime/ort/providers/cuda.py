"""An NVIDIA GPU: onnxruntime's CUDA provider."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

from graphopt.errors import ArgumentError, DeviceError
from graphopt.ops.registry.formulations import Machine
from graphopt.runtime.ort.library import onnxruntime
from graphopt.runtime.ort.memory import Memory
from graphopt.runtime.ort.place import Place

PROVIDER = "CUDAExecutionProvider"


class CUDAPlace(Place):
    """An NVIDIA GPU. An Executor there raises DeviceError where it cannot be used.

    Ops without a kernel for it run on the processor; values are brought there and back.

    Args:
        index: the number of the GPU.

    Raises:
        ArgumentError: the number is negative.

    >>> CUDAPlace(1)
    CUDAPlace(index=1)
    """

    machine = Machine(joined=True)  # nobody has measured the other forms
    keeps_bindings = True
    detours = frozenset({"BatchNormalization"})
    remedy = "install the CUDA and cuDNN versions it was built for, or use CPUPlace()"

    def __init__(self, index: int = 0) -> None:
        if index < 0:
            raise ArgumentError(f"there is no GPU {index}", fix="count from 0")
        # TF32 would round float32 products to 10 bits, and results would differ from the CPU's.
        options = {"device_id": str(index), "use_tf32": "0"}
        super().__init__(PROVIDER, options, index=index, fallback=True)
        self.memory = Memory("cuda", index)

    def check(self) -> None:
        """Refuse a GPU that cannot be used; the driver is asked first, as it stays silent.

        Raises:
            DeviceError: there is no such GPU, or the installed onnxruntime has no provider for it.
        """
        if self.index >= cuda_devices():
            raise DeviceError(
                f"there is no CUDA device {self.index}: the driver shows {cuda_devices()}",
                fix="use CPUPlace(), or a machine with an NVIDIA GPU and its driver",
            )
        if PROVIDER not in onnxruntime().get_available_providers():
            raise DeviceError(
                "the installed onnxruntime has no CUDA provider", fix="pip install onnxruntime-gpu"
            )
        _preload()

    def __repr__(self) -> str:
        return f"CUDAPlace(index={self.index})"


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


@cache
def _preload() -> None:
    onnxruntime().preload_dlls()
