"""graphopt: a static-graph training compiler on stock ONNX Runtime.

``import graphopt as paddle`` runs programs written for ``paddle.static``. onnxruntime is loaded at
the first run: Programs can be built, differentiated and exported without it.

>>> import graphopt as go
>>> main, startup = go.static.Program(), go.static.Program()
>>> with go.static.program_guard(main, startup):
...     x = go.static.data("x", [None, 2])
...     y = go.static.data("y", [None, 1])
...     loss = go.mean(go.square(go.static.nn.fc(x, 1) - y))
...     optimize_ops, params_grads = go.optimizer.SGD(0.1).minimize(loss)
>>> print(loss)
<Variable reducemean_0 : f32[]>
"""

from typing import Final

import numpy as np

from graphopt import errors, nn, onnx, optimizer, regularizer, static, tensor
from graphopt.ir.model.arithmetic import register_methods
from graphopt.ir.model.seeds import seed
from graphopt.ir.types.types import BFLOAT16
from graphopt.onnx.gradient import grad
from graphopt.parameters import ParamAttr, create_parameter
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.providers.cpu import CPUPlace
from graphopt.runtime.ort.providers.cuda import CUDAPlace
from graphopt.tensor import *  # noqa: F403 - Paddle's tensor functions, listed in tensor.__all__
from graphopt.tensor.methods import METHODS as _METHODS

__version__ = "0.1.0"

register_methods(_METHODS)

float16: Final = np.dtype("float16")
bfloat16: Final = BFLOAT16
float32: Final = np.dtype("float32")
float64: Final = np.dtype("float64")
int8: Final = np.dtype("int8")
int16: Final = np.dtype("int16")
int32: Final = np.dtype("int32")
int64: Final = np.dtype("int64")
uint8: Final = np.dtype("uint8")


def enable_static() -> None:
    """Accepted as in Paddle: graphopt always records static programs."""


def in_dynamic_mode() -> bool:
    """False: graphopt always records static programs."""
    return False


__all__ = [
    "CPUPlace",
    "CUDAPlace",
    "ParamAttr",
    "Place",
    "bfloat16",
    "create_parameter",
    "enable_static",
    "errors",
    "float16",
    "float32",
    "float64",
    "grad",
    "in_dynamic_mode",
    "int8",
    "int16",
    "int32",
    "int64",
    "nn",
    "onnx",
    "optimizer",
    "regularizer",
    "seed",
    "static",
    "uint8",
    *tensor.__all__,
]
