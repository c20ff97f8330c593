"""Files written whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx

from graphopt.ir.types.types import to_onnx_dtype

LARGEST = 2**31 - 2**20  # bytes: protobuf's limit, and room for what is around the weights
ALIGNMENT = 4096
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9  # protobuf fields of a model, a graph and a tensor
SMALL = 1024  # bytes: what never goes into a file of its own


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole."""
    with atomic_file(path) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file beside the target, which is synced and renamed over it at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_model(
    path: Path, model: onnx.ModelProto, held: Mapping[str, np.ndarray] | None = None
) -> None:
    """Check a model fully, then write it, with the inputs named in ``held`` as initializers.

    A model too large for one protobuf message has its large initializers in ``<file>.data``.
    """
    held = dict(held or {})
    onnx.checker.check_model(model, full_check=True)
    inputs = [i for i in model.graph.input if i.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    small = {name: v for name, v in held.items() if v.nbytes <= SMALL or v.dtype == object}
    large = {name: v for name, v in held.items() if name not in small}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in small.items())
    if model.ByteSize() + sum(v.nbytes for v in large.values()) >= LARGEST:
        model.graph.initializer.extend(_write_data(path.with_name(f"{path.name}.data"), large))
        large = {}
    with atomic_file(path) as file:
        for part in _message(model, large):
            file.write(part)


def _message(
    model: onnx.ModelProto, large: Mapping[str, np.ndarray]
) -> Iterator[bytes | memoryview]:
    """The bytes of a model with further initializers, which are not copied into a message first."""
    graph = model.graph.SerializeToString()
    tensors = []
    for name, value in large.items():
        head = onnx.TensorProto(
            name=name, dims=value.shape, data_type=to_onnx_dtype(value.dtype)
        ).SerializeToString()
        raw = _raw(value)
        head += _field(RAW_DATA, len(raw))
        tensors.append((_field(INITIALIZER, len(head) + len(raw)) + head, raw))
    size = len(graph) + sum(len(head) + len(raw) for head, raw in tensors)
    around = onnx.ModelProto()
    around.CopyFrom(model)
    around.ClearField("graph")
    yield around.SerializeToString() + _field(GRAPH, size) + graph
    for head, raw in tensors:
        yield head
        yield raw


def _field(number: int, length: int) -> bytes:
    """What precedes ``length`` bytes of a protobuf field."""
    encoded = bytes([number << 3 | 2])
    while length > 127:
        encoded, length = encoded + bytes([length & 127 | 128]), length >> 7
    return encoded + bytes([length])


def _write_data(path: Path, held: Mapping[str, np.ndarray]) -> list[onnx.TensorProto]:
    """Write values in a row, aligned for memory maps; returns tensors that refer to them."""
    tensors, offset = [], 0
    with atomic_file(path) as file:
        for name, value in held.items():
            offset += file.write(bytes(-offset % ALIGNMENT))
            length = file.write(_raw(value))
            tensor = onnx.TensorProto(
                name=name, dims=value.shape, data_type=to_onnx_dtype(value.dtype),
                data_location=onnx.TensorProto.EXTERNAL,
            )  # fmt: skip
            for key, entry in (("location", path.name), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(entry))
            tensors.append(tensor)
            offset += length
    return tensors


def _raw(value: np.ndarray) -> bytes | memoryview:
    """The bytes of a tensor as ONNX stores them; without a copy where numpy has the same."""
    if value.dtype.kind in "biuf" and sys.byteorder == "little":
        return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    return onnx.numpy_helper.from_array(value).raw_data
