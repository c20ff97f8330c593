"""ONNX's own node cases as models to differentiate, in float32 and in float64."""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.reference
import onnxruntime
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from graphopt.ir.types.types import FLOATS
from graphopt.onnxio.write import IR_VERSION
from tests.ops.wide import kept_names, widened

Value: TypeAlias = Any  # an array, or a list of values
Values: TypeAlias = dict[str, Value]


@dataclass(frozen=True, eq=False)
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
        """The case with initializers for the inputs that are no floats."""
        model, smooth = onnx.ModelProto(), self.smooth
        model.CopyFrom(self.model)
        constant = [n for n, v in self.feeds.items() if n not in smooth and hasattr(v, "dtype")]
        fed = [info for info in self.model.graph.input if info.name not in constant]
        del model.graph.input[:]
        model.graph.input.extend(fed)
        model.graph.initializer.extend(
            numpy_helper.from_array(self.feeds[name], name) for name in constant
        )
        feeds = {n: v for n, v in self.feeds.items() if n not in constant}
        return NodeCase(self.name, model, feeds, self.expected)

    def at_opset(self, version: int) -> "NodeCase":
        """The case with the ops of another opset."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        model.ir_version = min(model.ir_version, IR_VERSION)
        for opset in model.opset_import:
            if not opset.domain:
                opset.version = version
        return NodeCase(self.name, model, self.feeds, self.expected)


@functools.cache
def node_cases() -> dict[str, list[NodeCase]]:
    """All of them, by the op that they are about: the op itself, or its body written out."""
    found: dict[str, list[NodeCase]] = {}
    ops: dict[str, str] = {}
    for case in load_model_tests(kind="node"):
        assert case.model is not None
        node = case.model.graph.node[0]
        domain = f"{node.domain}::" if node.domain not in ("", "ai.onnx") else ""
        own = ops.setdefault(case.name, domain + node.op_type)
        op = ops.get(re.sub(r"_expanded.*", "", case.name), own)
        names = [info.name for info in case.model.graph.input]
        (fed, expected), *_ = case.data_sets or ()
        feeds = {n: _as_array(v) for n, v in zip(names, fed, strict=False)}
        made = NodeCase(case.name, case.model, feeds, [_as_array(v) for v in expected])
        found.setdefault(op, []).append(made)
    return found


def _as_array(value: Value) -> Value:
    if isinstance(value, onnx.TensorProto):  # of a dtype that numpy lacks
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def is_float(value: Value) -> bool:
    """Whether it is made of floats."""
    if isinstance(value, list):
        return bool(value) and all(map(is_float, value))
    return isinstance(value, np.ndarray) and value.dtype in FLOATS and value.size > 0


def elementwise(f: Callable[..., np.ndarray], value: Value, *others: Value) -> Value:
    """``f`` of arrays, also of those in lists."""
    if isinstance(value, list):
        return [elementwise(f, *parts) for parts in zip(value, *others, strict=True)]
    return f(value, *others)


def as_double(value: Value) -> Value:
    if isinstance(value, list):
        return [as_double(v) for v in value]
    return value.astype("f8") if getattr(value, "dtype", None) in FLOATS else value


def draw(value: Value, rng: np.random.Generator) -> Value:
    """Random numbers for a value; zero where it is not finite."""
    return elementwise(lambda v: np.where(np.isfinite(v), rng.normal(size=np.shape(v)), 0.0), value)


def moved(feeds: Values, direction: Values, step: float) -> Values:
    """The feeds, a step along a direction."""
    there = {n: elementwise(lambda v, d: np.asarray(v + step * d), feeds[n], d)
             for n, d in direction.items()}  # fmt: skip
    return {**feeds, **there}


def dot(weight: Value, value: Value) -> float:
    """The sum of weight times value; where the weight is 0 the value may be infinite."""
    if isinstance(weight, list):
        return sum(dot(w, v) for w, v in zip(weight, value, strict=True))
    value = np.asarray(value, "f8")
    assert np.shape(weight) == value.shape
    return float((weight * np.where((weight == 0) & ~np.isfinite(value), 0, value)).sum())


def on_reference(model: onnx.ModelProto) -> Callable[[Values], Values]:
    """From the inputs by name to the outputs by name."""
    session = onnx.reference.ReferenceEvaluator(model)
    return lambda feeds: _outputs(model, session.run(None, _fed(model, feeds)))


def on_onnxruntime(model: onnx.ModelProto, feeds: Values) -> Values:
    """Every output by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return _outputs(model, session.run(None, _fed(model, feeds)))


def _fed(model: onnx.ModelProto, feeds: Values) -> Values:
    return {i.name: feeds[i.name] for i in model.graph.input if i.name in feeds}


def _outputs(model: onnx.ModelProto, values: Any) -> Values:
    return dict(zip([o.name for o in model.graph.output], values, strict=True))
