"""Named tensors as safetensors files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from graphopt.errors import FileError
from graphopt.onnxio.files import write_atomically

FORMAT = "graphopt"


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], extra: object) -> None:
    """Write tensors and a JSON-able ``extra``: whole or not at all."""
    arrays = {name: np.ascontiguousarray(v).reshape(v.shape) for name, v in tensors.items()}
    metadata = {"format": FORMAT, "extra": json.dumps(extra, default=float)}
    write_atomically(path, save(arrays, metadata))


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    """The tensors and ``extra`` of a file.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: it is truncated, or not a safetensors file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(metadata.get("extra", "{}"))
    except (SafetensorError, ValueError) as error:
        raise FileError(
            f"{path.name} is not a whole safetensors file: {error}",
            fix="load a file that static.save wrote",
        ) from error
