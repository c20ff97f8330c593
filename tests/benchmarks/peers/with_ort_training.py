"""onnxruntime-training's on-device API: artifacts made offline, then its module and optimizer.

The last release is 1.19. Its optimizers are SGD and AdamW; SGD is run here, which is less work
than ASGD. Making the artifacts is part of the time to the first step.
"""

import sys
import tempfile
from importlib import import_module
from itertools import cycle
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime

from tests.benchmarks import rows
from tests.benchmarks.peers import NotOffered, forward

THREADS = 2

# The package's own __init__ imports PyTorch for another of its interfaces; this one needs none.
_package = ModuleType("onnxruntime.training")
_package.__path__ = [str(Path(onnxruntime.__file__).parent / "training")]
sys.modules["onnxruntime.training"] = _package
artifacts = import_module("onnxruntime.training.artifacts")
api = import_module("onnxruntime.training.api")


class Trainer:
    """One call for forward and backward, one for the update, one that marks gradients as stale."""

    def __init__(self, row, rate):
        with tempfile.TemporaryDirectory() as folder:
            _write_artifacts(row, folder)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = THREADS
            state = api.CheckpointState.load_checkpoint(f"{folder}/checkpoint")
            step = f"{folder}/training_model.onnx"
            self.module = api.Module(step, state, session_options=options)
            self.optimizer = api.Optimizer(f"{folder}/optimizer_model.onnx", self.module)
        self.optimizer.set_learning_rate(rate)
        self.module.train()
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        shape = -1 if row.classes else row.labels
        pairs = [(value(x), value(y.reshape(shape))) for x, y in rows.batches(row)]
        self.batches = cycle(pairs)

    def step(self):
        loss = self.module(*next(self.batches))
        self.optimizer.step()
        self.module.lazy_reset_grad()
        return loss

    def wait(self, loss):
        return np.asarray(loss.numpy() if hasattr(loss, "numpy") else loss)


def _write_artifacts(row, folder):
    model, _, parameters = forward.model(row, loss=False, whole_norms=True)
    kinds = artifacts.LossType
    artifacts.generate_artifacts(
        model,
        requires_grad=parameters,
        loss=kinds.CrossEntropyLoss if row.classes else kinds.BCEWithLogitsLoss,
        optimizer=artifacts.OptimType.SGD,
        artifact_directory=folder,
    )


def build(row, rate, batch_num):
    """A row ready to step."""
    del batch_num  # SGD
    if row.scan:
        raise NotOffered("one call is one step")
    return Trainer(row, rate)
