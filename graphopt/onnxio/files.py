"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the target, sync, then rename over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
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


def save_model(path: Path, model: onnx.ModelProto) -> None:
    """Check a model fully, then write it."""
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString())
