"""The frameworks that are raced, by name; a module is imported only in the process that runs it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np

from tests.benchmarks.rows import Row


class Trainer(Protocol):
    """A row that is being trained. Steps go round the batches of ``rows.batches``."""

    def step(self) -> object:
        """One step (of a scan row: one call); the loss in whatever form the framework gives it."""

    def wait(self, loss: object) -> np.ndarray:
        """The loss as numbers, once the step that made it is done."""


class NotOffered(Exception):  # noqa: N818 - an answer, not an error
    """The framework cannot express this row; the text says what it lacks."""


@dataclass(frozen=True)
class Peer:
    """A framework: the module that drives it, its optimizer, what is to be known of it.

    ``optimizer`` "SGD" does less work than ASGD: the frameworks that offer no other are not slowed
    down for it.
    """

    module: str
    package: str
    optimizer: str = "ASGD"
    note: str = ""
    settings: tuple[tuple[str, str], ...] = ()  # environment variables, read at import

    def trainer(self) -> Callable[[Row, float, int], Trainer]:
        """Import the framework; what builds a row, given the learning rate and batch_num."""
        os.environ.update(self.settings)
        build: Callable[[Row, float, int], Trainer] = import_module(self.module).build
        return build


_HERE = "tests.benchmarks.peers"
PEERS = {
    "graphopt": Peer(f"{_HERE}.with_graphopt", "graphopt"),
    "PyTorch": Peer(f"{_HERE}.with_torch", "torch", note="eager, torch._foreach update"),
    "torch.compile": Peer(f"{_HERE}.with_torch_compile", "torch", note="inductor"),
    "JAX": Peer(f"{_HERE}.with_jax", "jax", note="one jitted step, donated state"),
    "Paddle": Peer(
        f"{_HERE}.with_paddle",
        "paddlepaddle",
        note="dynamic mode, its own ASGD",
        settings=(("FLAGS_paddle_num_threads", "2"), ("OMP_NUM_THREADS", "2")),
    ),
    "onnxsim": Peer(f"{_HERE}.with_onnxsim", "onnxsim", "SGD", "compile_training_loop"),
    "ORT training": Peer(
        f"{_HERE}.with_ort_training", "onnxruntime-training", "SGD", "on-device training API"
    ),
}
