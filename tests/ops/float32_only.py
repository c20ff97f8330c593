"""Ops without float64: their Programs are float32, and their models are widened to be checked."""

import numpy as np
import onnx
import onnx.reference
from onnx import TensorProto, numpy_helper

from graphopt.onnxio.write import inlined, lower
from graphopt.passes.select.prune import Prune

FLOAT32_ONLY = {
    "CausalConvWithState",
    "LinearAttention",
    "RotaryEmbedding",
    "ai.onnx.ml::FeatureVectorizer",
    "ai.onnx.ml::LinearClassifier",
    "ai.onnx.ml::LinearRegressor",
    "ai.onnx.ml::Normalizer",
    "ai.onnx.ml::SVMClassifier",
    "ai.onnx.ml::SVMRegressor",
    "ai.onnx.ml::Scaler",
}

UNKNOWN_TO_ONNXRUNTIME = {"CausalConvWithState", "LinearAttention"}  # it ends at opset 26


def evaluate(program, fetch, feeds):
    """The fetched values in float64, of a model that onnx's checker does not see."""
    step = Prune(fetch=tuple(v.name for v in fetch)).run(program)
    inputs = step.inputs()
    made = lower(step)
    model = widened(inlined(made.model))
    session = onnx.reference.ReferenceEvaluator(model)
    found = session.run(None, {v.name: feeds[v.name] for v in inputs})
    by_name = dict(zip([o.name for o in model.graph.output], found, strict=True))
    return [np.asarray(by_name[name]) for name in made.fetched]


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float64 in place of float32."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    return wide


def _widen_graph(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for tensor in graph.initializer:
        _widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            _widen(attribute.t)
            _widen_graph(attribute.g)
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        value = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
