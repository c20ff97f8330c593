"""Composites as ONNX model-local functions, one per composite and operand types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import make_node
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ops.registry.registry import composite_of

DOMAIN = "graphopt"


class FunctionTable:
    """The functions a model needs, and the calls to them."""

    def __init__(self) -> None:
        self.protos: list[onnx.FunctionProto] = []
        self._names: dict[Any, str] = {}

    def call(self, op: Operator, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.NodeProto:
        """A node that calls the function of ``op``, which is written if it is not there yet."""
        present = [k for k, v in enumerate(op.inputs) if v is not None]
        return onnx.NodeProto(
            op_type=self._name(op),
            domain=DOMAIN,
            input=[inputs[k] for k in present],
            output=outputs,
        )

    def _name(self, op: Operator) -> str:
        types = tuple(None if v is None else v.tensor_type for v in op.inputs)
        body = function_body(op, types)
        key = (op.type, body.SerializeToString())
        if key not in self._names:
            number = sum(name.split("_")[0] == op.type for name in self._names.values())
            body.name = self._names[key] = f"{op.type}_{number}" if number else op.type
            self.protos.append(body)
        return self._names[key]


def function_body(op: Operator, types: Sequence[Any]) -> onnx.FunctionProto:
    """The composite's trace for these operand types as a function."""
    composite = composite_of(op.type)
    padded = [*types, *[None] * (len(composite.input_names) - len(types))]
    opset = 0 if op.block is None else op.block.program.opset
    program, inputs, results = composite.trace(padded, op.attrs, opset)
    proto = onnx.FunctionProto(
        name=op.type,
        domain=DOMAIN,
        input=[v.name for v in inputs if v is not None],
        output=composite.output_names[: len(results)],
        opset_import=[onnx.helper.make_opsetid("", program.opset)],
    )
    # A result is called what the function calls it where it is made: an Identity would copy it.
    own = {id(v) for op_ in program.global_block().ops for v in op_.writes()}
    called: dict[int, str] = {}
    for variable, name in zip(results, proto.output, strict=True):
        if id(variable) in own:
            called.setdefault(id(variable), name)
    written: set[str] = set()
    for inner in program.global_block().ops:
        for v in inner.reads():
            if isinstance(v, Constant) and v.name not in written:
                written.add(v.name)
                proto.node.append(_constant(v))
        names = ["" if v is None else called.get(id(v), v.name) for v in inner.inputs]
        made = ["" if v is None else called.get(id(v), v.name) for v in inner.outputs]
        proto.node.append(make_node(inner.definition, names, made, inner.attrs))
    for variable, name in zip(results, proto.output, strict=True):
        if called.get(id(variable)) != name:
            proto.node.append(_identity(variable, name, called))
    return proto


def _constant(constant: Constant) -> onnx.NodeProto:
    value = onnx.numpy_helper.from_array(np.asarray(constant.value))
    return onnx.helper.make_node("Constant", [], [constant.name], value=value)


def _identity(variable: Variable, name: str, called: Mapping[int, str]) -> onnx.NodeProto:
    source = called.get(id(variable), variable.name)
    return onnx.NodeProto(op_type="Identity", input=[source], output=[name])
