"""Models with float64 in place of shorter floats."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

SHORT = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
SCALES = {("Resize", 2), ("Upsample", 1)}  # operands that are float32 whatever the others are
DTYPES = {"to", "dtype", "output_dtype", "output_datatype", "softmax_precision"}


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float64 in place of float32, float16 and bfloat16."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph, kept_names(wide.graph))
    for function in wide.functions:
        _widen_nodes(function.node, set())
    return wide


def kept_names(graph: onnx.GraphProto) -> set[str]:
    """The values that stay float32."""
    return {
        node.input[k]
        for node in graph.node
        for type, k in SCALES
        if node.op_type == type and k < len(node.input)
    }


def _widen_graph(graph: onnx.GraphProto, kept: set[str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name not in kept:
            _widen_type(value.type)
    for tensor in graph.initializer:
        if tensor.name not in kept:
            _widen(tensor)
    _widen_nodes(graph.node, kept)


def _widen_type(found: onnx.TypeProto) -> None:
    kind = found.WhichOneof("value")
    if kind == "tensor_type" and found.tensor_type.elem_type in SHORT:
        found.tensor_type.elem_type = TensorProto.DOUBLE
    elif kind in ("sequence_type", "optional_type"):
        _widen_type(getattr(found, kind).elem_type)


def _widen_nodes(nodes: Iterable[onnx.NodeProto], kept: set[str]) -> None:
    for node in nodes:
        if kept.isdisjoint(node.output):
            for attribute in node.attribute:
                _widen_attribute(attribute, kept)


def _widen_attribute(attribute: Any, kept: set[str]) -> None:
    _widen(attribute.t)
    _widen_type(attribute.tp)
    _widen_graph(attribute.g, kept)
    if attribute.name in DTYPES and attribute.i in SHORT:
        attribute.i = TensorProto.DOUBLE


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in SHORT:
        value = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
