"""Tensor types: a dtype and a shape whose dims are ints or symbols, spelled ``f32[N, 784]``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import onnx

from graphopt.errors import ArgumentTypeError, TextError, did_you_mean

Dim: TypeAlias = int | str
Shape: TypeAlias = tuple[Dim, ...]
DTypeLike: TypeAlias = str | type | np.dtype

SHORT_NAMES = {
    "float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
    "bool": "bool", "complex64": "c64", "complex128": "c128", "object": "str",
}  # fmt: skip
LONG_NAMES = {short: long for long, short in SHORT_NAMES.items()}
BFLOAT16 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
FLOATS = frozenset({np.dtype("f2"), BFLOAT16, np.dtype("f4"), np.dtype("f8")})


def as_dtype(dtype: DTypeLike) -> np.dtype:
    """The numpy dtype of a dtype, a numpy scalar type, or a name such as 'float32' or 'f32'.

    >>> as_dtype("float32"), as_dtype("bf16")
    (dtype('float32'), dtype(bfloat16))
    """
    if isinstance(dtype, str):
        name = LONG_NAMES.get(dtype, dtype)
        if name == "bfloat16":
            return BFLOAT16
        if name not in SHORT_NAMES:
            raise ArgumentTypeError(
                f"{dtype!r} is not the name of a dtype",
                fix=did_you_mean(name, SHORT_NAMES) or f"use one of {', '.join(SHORT_NAMES)}",
            )
        return np.dtype(name)
    try:
        return np.dtype(dtype)
    except TypeError:
        raise ArgumentTypeError(f"{dtype!r} is not a dtype", fix="use e.g. 'float32'") from None


def dtype_text(dtype: np.dtype) -> str:
    """The short name, such as f32, i64 or bool."""
    return SHORT_NAMES.get(dtype.name, dtype.name)


@lru_cache(maxsize=64)
def to_onnx_dtype(dtype: np.dtype) -> int:
    """The ``TensorProto.DataType`` of a numpy dtype."""
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


@lru_cache(maxsize=64)
def from_onnx_dtype(code: int) -> np.dtype:
    """The numpy dtype of a ``TensorProto.DataType``."""
    return onnx.helper.tensor_dtype_to_np_dtype(code)


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of a tensor. ``shape`` is None where not even the rank is known.

    >>> str(TensorType(np.dtype("float32"), ("N", 784)))
    'f32[N, 784]'
    """

    dtype: np.dtype
    shape: Shape | None

    def __str__(self) -> str:
        dims = "*" if self.shape is None else ", ".join(map(_dim_text, self.shape))
        return f"{dtype_text(self.dtype)}[{dims}]"

    @property
    def rank(self) -> int | None:
        """The number of dims, or None."""
        return None if self.shape is None else len(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether every dim is an int."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    @property
    def is_float(self) -> bool:
        """Whether a gradient can flow through tensors of this type."""
        return self.dtype in FLOATS


@lru_cache(maxsize=65536)
def to_proto(tensor_type: TensorType) -> onnx.TypeProto:
    """The ONNX type. The result is shared: do not change it."""
    elem = to_onnx_dtype(tensor_type.dtype)
    return onnx.helper.make_tensor_type_proto(elem, tensor_type.shape)


@lru_cache(maxsize=65536)
def to_proto_bytes(tensor_type: TensorType) -> bytes:
    """The ONNX type, serialized."""
    return bytes(to_proto(tensor_type).SerializeToString())


def from_proto(proto: onnx.TypeProto) -> tuple[np.dtype, list[int | str | None] | None]:
    """Dtype and dims of an ONNX tensor type; a dim without value or symbol is None."""
    tensor = proto.tensor_type
    dtype = from_onnx_dtype(tensor.elem_type)
    if not tensor.HasField("shape"):
        return dtype, None
    return dtype, [dim_of(dim) for dim in tensor.shape.dim]


def dim_of(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """An int, a symbol or None."""
    kind = dim.WhichOneof("value")
    return None if kind is None else (dim.dim_value if kind == "dim_value" else dim.dim_param)


PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@:/'+-]*")
RESERVED = frozenset(
    {"_", "block", "const", "false", "feed", "frozen", "inf", "nan", "param", "program", "state",
     "true", "var", *LONG_NAMES}
)  # fmt: skip


def quoted(name: str) -> str:
    """A name or symbol as text has it: plain if it cannot be mistaken, else a JSON string.

    >>> print(quoted("fc_0.w_0"), quoted("my label"), quoted("state"))
    fc_0.w_0 "my label" "state"
    """
    plain = PLAIN_NAME.fullmatch(name) and name not in RESERVED
    return name if plain else json.dumps(name)


def _dim_text(dim: Dim) -> str:
    return quoted(dim) if isinstance(dim, str) else str(dim)


STRING = r'"(?:[^"\\]|\\.)*"'
DIM = rf"(?:\d+|{PLAIN_NAME.pattern}|{STRING})"
TYPE_TEXT = re.compile(rf"(\w+)\[\s*(\*|(?:{DIM}(?:\s*,\s*{DIM})*)?)\s*\]", re.ASCII)


def parse_type(text: str) -> TensorType:
    """Read ``f32[N, 784]``; a symbol that is not a plain name is quoted.

    >>> parse_type("i64[]")
    TensorType(dtype=dtype('int64'), shape=())
    """
    match = TYPE_TEXT.fullmatch(text.strip())
    if match is None:
        raise TextError(f"{text!r} is not a type", fix="write it like f32[N, 784]")
    dims = None if match[2] == "*" else tuple(map(_parse_dim, re.findall(DIM, match[2])))
    return TensorType(as_dtype(match[1]), dims)


def _parse_dim(text: str) -> Dim:
    if text.isdigit():
        return int(text)
    return str(json.loads(text)) if text.startswith('"') else text


def fits(value: Sequence[int], shape: Shape | None) -> bool:
    """Whether a concrete shape matches a declared one, symbols matching anything."""
    if shape is None:
        return True
    return len(value) == len(shape) and all(
        isinstance(d, str) or d == v for v, d in zip(value, shape, strict=True)
    )
