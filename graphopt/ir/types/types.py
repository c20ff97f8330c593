"""Tensor types: a dtype and a shape whose dims are ints or symbols, spelled ``f32[N, 784]``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import onnx

from graphopt.errors import ArgumentTypeError, DTypeError, TextError, did_you_mean

Dim: TypeAlias = int | str
Shape: TypeAlias = tuple[Dim, ...]
DTypeLike: TypeAlias = str | type | np.dtype

SHORT_NAMES = {
    "float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64",
    "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
    "uint8": "u8", "uint16": "u16", "uint32": "u32", "uint64": "u64",
    "bool": "bool", "complex64": "c64", "complex128": "c128", "object": "str",
}  # fmt: skip
NARROW = {
    onnx.helper.tensor_dtype_to_np_dtype(code).name: onnx.helper.tensor_dtype_to_np_dtype(code)
    for name, code in onnx.TensorProto.DataType.items()
    if re.fullmatch(r"(FLOAT[468]|U?INT[24]).+|U?INT[24]", name)
}  # numpy has none of these: float8_e4m3fn, int4 and so on print under their own names
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
        if name in NARROW:
            return NARROW[name]
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


@dataclass(frozen=True, slots=True)
class ContainerType(TensorType):
    """A value that holds tensors: ``kind`` is 'seq', 'optional', or 'map' (with dtype ``key``).

    ``dtype`` is that of the tensors inside. A gradient of a sequence is a sequence.

    >>> f32 = TensorType(np.dtype("float32"), ("N", 4))
    >>> print(container("seq", f32), container("optional", container("seq", f32)))
    seq(f32[N, 4]) optional(seq(f32[N, 4]))
    """

    kind: str
    element: TensorType
    key: np.dtype | None = None

    def __str__(self) -> str:
        key = "" if self.key is None else f"{dtype_text(self.key)}, "
        return f"{self.kind}({key}{self.element})"

    @property
    def is_float(self) -> bool:
        """Whether a gradient can flow through values of this type."""
        return self.kind != "map" and self.element.is_float


def container(kind: str, element: TensorType, key: np.dtype | None = None) -> ContainerType:
    """The type of a sequence, an optional or a map of ``element``."""
    return ContainerType(element.dtype, None, kind, element, key)


@lru_cache(maxsize=65536)
def to_proto(tensor_type: TensorType) -> onnx.TypeProto:
    """The ONNX type. The result is shared: do not change it."""
    if isinstance(tensor_type, ContainerType):
        return _container_proto(tensor_type)
    elem = to_onnx_dtype(tensor_type.dtype)
    return onnx.helper.make_tensor_type_proto(elem, tensor_type.shape)


def _container_proto(tensor_type: ContainerType) -> onnx.TypeProto:
    element = to_proto(tensor_type.element)
    if tensor_type.kind == "seq":
        return onnx.helper.make_sequence_type_proto(element)
    if tensor_type.kind == "optional":
        return onnx.helper.make_optional_type_proto(element)
    assert tensor_type.key is not None
    return onnx.helper.make_map_type_proto(to_onnx_dtype(tensor_type.key), element)


@lru_cache(maxsize=65536)
def to_proto_bytes(tensor_type: TensorType) -> bytes:
    """The ONNX type, serialized."""
    return bytes(to_proto(tensor_type).SerializeToString())


def from_proto(proto: onnx.TypeProto) -> Inferred:
    """The type, with None for a dim that has neither value nor symbol."""
    kind = proto.WhichOneof("value")
    if kind == "sequence_type":
        return Inferred(kind="seq", element=from_proto(proto.sequence_type.elem_type))
    if kind == "optional_type":
        return Inferred(kind="optional", element=from_proto(proto.optional_type.elem_type))
    if kind == "map_type":
        key = from_onnx_dtype(proto.map_type.key_type)
        return Inferred(key, kind="map", element=from_proto(proto.map_type.value_type))
    if kind != "tensor_type":
        raise DTypeError(f"values of type {kind} cannot be used", fix="use dense tensors")
    tensor = proto.tensor_type
    dtype = from_onnx_dtype(tensor.elem_type)
    if not tensor.HasField("shape"):
        return Inferred(dtype)
    return Inferred(dtype, tuple(dim_of(dim) for dim in tensor.shape.dim))


def dim_of(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """An int, a symbol or None: exporters also write an open dim as -1 or as '?'."""
    if dim.WhichOneof("value") == "dim_value":
        return dim.dim_value if dim.dim_value >= 0 else None
    return dim.dim_param if dim.dim_param not in ("", "?") else None


@dataclass(frozen=True, slots=True)
class Inferred:
    """What inference found: ``dims`` None for an open rank, None among them for an open dim.

    For a container ``element`` is set (and for a map ``dtype`` is the key's).
    """

    dtype: np.dtype = np.dtype("f4")  # noqa: RUF009 - dtypes are immutable
    dims: tuple[int | str | None, ...] | None = None
    kind: str = "tensor"
    element: Inferred | None = None

    def closed(self, symbol: Callable[[], str]) -> TensorType:
        """The type with ``symbol()`` for every open dim."""
        if self.element is not None:
            element = self.element.closed(symbol)
            return container(self.kind, element, self.dtype if self.kind == "map" else None)
        if self.dims is None or None not in self.dims:
            return _tensor_type(self.dtype, self.dims)
        return TensorType(self.dtype, tuple(symbol() if d is None else d for d in self.dims))


@lru_cache(maxsize=65536)
def _tensor_type(dtype: np.dtype, shape: Shape | None) -> TensorType:
    return TensorType(dtype, shape)


def inferred(tensor_type: TensorType) -> Inferred:
    """A known type as the result of inference."""
    if isinstance(tensor_type, ContainerType):
        element = inferred(tensor_type.element)
        key = tensor_type.dtype if tensor_type.key is None else tensor_type.key
        return Inferred(key, kind=tensor_type.kind, element=element)
    return Inferred(tensor_type.dtype, tensor_type.shape)


PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.@:/'+-]*")
RESERVED = frozenset(
    {"_", "const", "false", "feed", "frozen", "inf", "map", "nan", "optional", "param", "program",
     "seq", "state", "true", "var", *LONG_NAMES, *NARROW}
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
CONTAINER_TEXT = re.compile(r"(seq|optional|map)\(\s*(?:(\w+)\s*,)?(.*)\)", re.ASCII | re.DOTALL)


def parse_type(text: str) -> TensorType:
    """Read ``f32[N, 784]`` or ``seq(f32[*])``; a symbol that is not a plain name is quoted.

    >>> parse_type("i64[]")
    TensorType(dtype=dtype('int64'), shape=())
    """
    if match := CONTAINER_TEXT.fullmatch(text.strip()):
        key = as_dtype(match[2]) if match[2] else None
        return container(match[1], parse_type(match[3]), key)
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
