"""onnxsim's training loop: its gradient, an optimizer of ours, onnxruntime underneath.

A custom optimizer of onnxsim 0.8 is elementwise over tensors of the parameter's shape, so ASGD's
table would be copied whole every step; it trains by SGD here, which is less work. It knows no op
that looks up a class, so labels are fed as rows of an identity matrix, made beforehand.
"""

from itertools import cycle

import numpy as np
import onnxsim
from onnx import TensorProto, helper
from onnxsim import backend
from onnxsim.compile_training import CustomOptimizer

from tests.benchmarks import rows
from tests.benchmarks.peers import NotOffered, forward


def sgd():
    """The update w - lr g as onnxsim takes it."""
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)  # noqa: E731
    nodes = [
        helper.make_node("Mul", ["lr", "g"], ["change"]),
        helper.make_node("Sub", ["w", "change"], ["next"]),
    ]
    inputs = [value("w", ["n"]), value("g", ["n"]), value("lr", [])]
    graph = helper.make_graph(nodes, "sgd", inputs, [value("next", ["n"])])
    opsets = [helper.make_opsetid("", forward.OPSET)]
    return CustomOptimizer(helper.make_model(graph, opset_imports=opsets), num_state=0)


class Trainer:
    """Feeds are bound without a copy; the state stays in onnxruntime between steps."""

    def __init__(self, row, rate):
        model, loss, parameters = forward.model(row, loss=True, whole_norms=False)
        self.loop = onnxsim.compile_training_loop(model, loss, parameters, optimizer=sgd())
        self.rate = rate
        feeds = [{"x": x, "y": _dense(row, y)} for x, y in rows.batches(row)]
        placed = [{k: backend.as_ort_value(v) for k, v in feed.items()} for feed in feeds]
        self.feeds = cycle(placed)

    def step(self):
        return self.loop(next(self.feeds), self.rate)

    def wait(self, loss):
        return np.asarray(loss)


def _dense(row, labels):
    return np.eye(row.classes, dtype="f4")[labels.reshape(-1)] if row.classes else labels


class ScanTrainer(Trainer):
    """onnxsim has no loop in the graph: as many calls as steps."""

    def __init__(self, row, rate):
        super().__init__(row, rate)
        self.steps = row.scan

    def step(self):
        return [self.loop(next(self.feeds), self.rate) for _ in range(self.steps)]


def build(row, rate, batch_num):
    """A row ready to step."""
    del batch_num  # SGD
    if row.name in rows.COMPILED:
        raise NotOffered("not raced")
    return (ScanTrainer if row.scan else Trainer)(row, rate)
