"""ONNX's own node cases as models to differentiate, in float32 and in float64."""

import functools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.reference
import onnxruntime
from onnx.backend.test.loader import load_model_tests

import graphopt as go
from graphopt.ir.types import FLOATS, ContainerType
from graphopt.ir.variable import Variable
from tests.ops.wide import kept_names, widened

Value: TypeAlias = Any  # an array, or a list of values
Values: TypeAlias = dict[str, Value]


@dataclass(frozen=True)
class NodeCase:
    """A model, what it is fed, and what it gives."""

    name: str
    model: onnx.ModelProto
    feeds: Values
    expected: Sequence[Value]

    @property
    def smooth(self) -> list[str]:
        """The inputs to differentiate for."""
        kept = kept_names(self.model.graph)
        return [n for n, v in self.feeds.items() if is_float(v) and n not in kept]

    def wide(self) -> "NodeCase":
        """The case in float64."""
        kept = kept_names(self.model.graph)
        feeds = {n: v if n in kept else as_double(v) for n, v in self.feeds.items()}
        return NodeCase(self.name, widened(self.model), feeds, self.expected)

    def baked(self) -> "NodeCase":
        """The case with what is no float as initializers."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        smooth = self.smooth
        constants = {
            name: value
            for name, value in self.feeds.items()
            if name not in smooth and isinstance(value, np.ndarray)
        }
        fed = [info for info in model.graph.input if info.name not in constants]
        del model.graph.input[:]
        model.graph.input.extend(fed)
        for name, value in constants.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        feeds = {n: v for n, v in self.feeds.items() if n not in constants}
        return NodeCase(self.name, model, feeds, self.expected)


@functools.cache
def node_cases() -> dict[str, list[NodeCase]]:
    """All of them, by the op they are about: the op itself, and its function bodies written out."""
    found: dict[str, list[NodeCase]] = {}
    ops: dict[str, str] = {}
    for case in load_model_tests(kind="node"):
        node = case.model.graph.node[0]
        domain = f"{node.domain}::" if node.domain not in ("", "ai.onnx") else ""
        own = ops.setdefault(case.name, domain + node.op_type)
        op = ops.get(re.sub(r"_expanded.*", "", case.name), own)
        names = [info.name for info in case.model.graph.input]
        (fed, expected), *_ = case.data_sets
        feeds = {n: _as_array(v) for n, v in zip(names, fed, strict=False)}
        made = NodeCase(case.name, case.model, feeds, expected)
        found.setdefault(op, []).append(made)
    return found


def _as_array(value: Value) -> Value:
    if isinstance(value, onnx.TensorProto):  # what numpy has no dtype for
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def is_float(value: Value) -> bool:
    """Whether there are floats in it, and nothing else."""
    if isinstance(value, list):
        return bool(value) and all(map(is_float, value))
    return isinstance(value, np.ndarray) and value.dtype in FLOATS and value.size > 0


def as_double(value: Value) -> Value:
    if isinstance(value, list):
        return [as_double(v) for v in value]
    floats = isinstance(value, np.ndarray) and value.dtype in FLOATS
    return value.astype(np.float64) if floats else value


def as_single(value: Value) -> Value:
    if isinstance(value, list):
        return [as_single(v) for v in value]
    floats = isinstance(value, np.ndarray) and value.dtype == np.float64
    return value.astype(np.float32) if floats else value


def draw(value: Value, rng: np.random.Generator) -> Value:
    """Random numbers of the shape of a value; zero where it is not finite."""
    if isinstance(value, list):
        return [draw(v, rng) for v in value]
    return np.where(np.isfinite(value), rng.normal(size=np.shape(value)), 0.0)


def moved(feeds: Values, direction: Values, step: float) -> Values:
    """The feeds, a step along a direction."""
    return {n: _add(v, direction[n], step) if n in direction else v for n, v in feeds.items()}


def _add(value: Value, direction: Value, step: float) -> Value:
    if isinstance(value, list):
        return [_add(v, d, step) for v, d in zip(value, direction, strict=True)]
    return np.asarray(value + step * direction)


def dot(a: Value, b: Value) -> float:
    """The sum of all products; what is not finite in ``b`` has no weight in ``a``."""
    if isinstance(a, list):
        return sum(dot(x, y) for x, y in zip(a, b, strict=True))
    b = np.asarray(b, np.float64)
    return float((np.asarray(a) * np.where(np.isfinite(b), b, 0.0)).sum())


def on_reference(model: onnx.ModelProto, feeds: Values) -> dict[str, Value]:
    session = onnx.reference.ReferenceEvaluator(model)
    inputs = {i.name for i in model.graph.input}
    found = session.run(None, {n: v for n, v in feeds.items() if n in inputs})
    return dict(zip([o.name for o in model.graph.output], found, strict=True))


def on_onnxruntime(model: onnx.ModelProto, feeds: Values) -> dict[str, Value]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = {i.name for i in model.graph.input}
    found = session.run(None, {n: v for n, v in feeds.items() if n in inputs})
    return dict(zip([o.name for o in model.graph.output], found, strict=True))
