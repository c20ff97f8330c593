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

from graphopt.ir.types import to_onnx_dtype

LARGEST = 2**31 - 2**20  # bytes: protobuf's limit, and room for what is around the weights
ALIGNMENT = 4096
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

    What would not fit one protobuf message has its large initializers in ``<file>.data``.
    """
    held = held or {}
    onnx.checker.check_model(model, full_check=True)
    inputs = [i for i in model.graph.input if i.name not in held]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    apart: dict[str, np.ndarray] = {}
    if model.ByteSize() + sum(v.nbytes for v in held.values()) >= LARGEST:
        apart = {name: v for name, v in held.items() if v.nbytes > SMALL and v.dtype != object}
        model.graph.initializer.extend(_write_data(path.with_name(f"{path.name}.data"), apart))
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(v, name) for name, v in held.items() if name not in apart
    )
    write_atomically(path, model.SerializeToString())


def _write_data(path: Path, held: Mapping[str, np.ndarray]) -> list[onnx.TensorProto]:
    """Write values one behind another, aligned for memory maps; returns what refers to them."""
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
