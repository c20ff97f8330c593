"""The standard function body that onnx gives an op, replayed as ops on a tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import OPSET, attr_value, make_node
from graphopt.ir.model.tape import Operand, Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import from_proto, to_proto_bytes


def has_body(op: Operator) -> bool:
    """Whether onnx states the op in terms of others."""
    schema: Any = op.definition.schema  # onnx's stubs lack the function members
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def expand(g: Tape, op: Operator) -> list[Variable | None]:
    """Record the op's body on ``g``; returns its results in the op's order."""
    body = _body(op)
    known: dict[str, Variable | None] = {"": None}
    known.update(zip(body.input, [*op.inputs, *[None] * len(body.input)], strict=False))
    for node in body.node:
        # As an array a constant takes the dtype of the operands beside it: onnx's bodies are
        # written for float32 and their constants do not follow the op's dtype.
        operands = [v.value if isinstance(v, Constant) else v for v in map(known.get, node.input)]
        results = _replay(g, node, operands, op, known)
        known.update(zip(node.output, results, strict=True))
    # The body of an op without some optional results does not make them.
    return [known.get(name) for name in body.output[: len(op.outputs)]]


def _body(op: Operator) -> onnx.FunctionProto:
    schema: Any = op.definition.schema
    newest = max(OPSET, op.definition.since)
    if schema.has_function:
        version = max(
            v for v in schema.function_opset_versions if v <= max(OPSET, op.definition.since)
        )
        data = schema.get_function_with_opset_version(version)
    else:
        versions = schema.context_dependent_function_opset_versions
        version = max(v for v in versions if v <= newest)
        names = [f"i{k}" if v is not None else "" for k, v in enumerate(op.inputs)]
        outputs = [f"o{k}" for k in range(len(op.outputs))]
        node = make_node(op.definition, names, outputs, op.attrs)
        types = [b"" if v is None else to_proto_bytes(v.tensor_type) for v in op.inputs]
        data = schema.get_context_dependent_function_with_opset_version(
            version, node.SerializeToString(), types
        )
    body = onnx.FunctionProto()
    body.ParseFromString(data)
    return body


def _replay(
    g: Tape,
    node: onnx.NodeProto,
    operands: Sequence[Operand],
    op: Operator,
    known: Mapping[str, Variable | None],
) -> list[Variable]:
    attrs: dict[str, Any] = {}
    for proto in node.attribute:
        if proto.ref_attr_name:
            if proto.ref_attr_name in op.attrs:
                attrs[proto.name] = op.attrs[proto.ref_attr_name]
        elif proto.HasField("g"):
            attrs[proto.name] = _block(g, proto.g, op, known)
        else:
            attrs[proto.name] = attr_value(proto)
    if node.op_type == "Constant":
        return [_constant(g, attrs)]
    domain = f"{node.domain}::" if node.domain not in ("", "ai.onnx") else ""
    found = g.emit(domain + node.op_type, *operands, outputs=len(node.output), **attrs)
    return [found] if len(node.output) == 1 else list(found)


def _block(
    g: Tape, graph: onnx.GraphProto, op: Operator, outer: Mapping[str, Variable | None]
) -> Block:
    """A body inside the body."""
    block, known = Block(g.program, g.block), dict(outer)
    for info in graph.input:
        found = from_proto(info.type).closed(g.program.fresh_symbol)
        known[info.name] = block.add_input(info.name, found)
    inner = Tape(block, role=g.role, made_by=g.made_by)
    for tensor in graph.initializer:
        known[tensor.name] = inner.const(onnx.numpy_helper.to_array(tensor))
    for node in graph.node:
        made = _replay(inner, node, [known[name] for name in node.input], op, known)
        known.update(zip(node.output, made, strict=True))
    results = [known[o.name] for o in graph.output]
    block.outputs = [v for v in results if v is not None]
    return block


def _constant(g: Tape, attrs: dict[str, object]) -> Variable:
    ((name, value),) = attrs.items()
    if name == "value":
        return g.const(np.asarray(value))
    dtype = np.float32 if "float" in name else np.int64
    return g.const(np.asarray(value, dtype))
