"""A ModelProto as a Program: one Operator per node, initializers as parameters or constants."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from graphopt.errors import FileError
from graphopt.ir.program import Program
from graphopt.ir.schema import attr_value
from graphopt.ir.types import TensorType, dim_of, from_onnx_dtype, from_proto
from graphopt.ir.variable import Parameter, Variable
from graphopt.ir.where import UNKNOWN

PARAMETERS_KEY = "graphopt.parameters"


class ReadModel:
    """A Program, the values of its persistable variables, and what it is fed and fetched."""

    def __init__(self) -> None:
        self.program = Program()
        self.values: dict[str, np.ndarray] = {}
        self.feed_names: list[str] = []
        self.fetch_vars: list[Variable] = []


def read(model: onnx.ModelProto) -> ReadModel:
    """Read a model that ``onnxio.write`` could have written.

    Float initializers of more than one element become Parameters, others constants.

    Raises:
        FileError: the model uses what cannot be read yet.
    """
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    result = ReadModel()
    if opset < result.program.opset:
        model = onnx.version_converter.convert_version(model, result.program.opset)
    result.program.opset = max(opset, result.program.opset)
    known: dict[str, Variable | None] = {"": None}
    _read_initializers(model.graph, result, known)
    _read_inputs(model.graph, result, known)
    types = _types(model)
    for node in model.graph.node:
        _read_node(node, result, known, types)
    for output in model.graph.output:
        found = known[output.name]
        assert found is not None
        result.fetch_vars.append(found)
    return result


def _read_initializers(
    graph: onnx.GraphProto, result: ReadModel, known: dict[str, Variable | None]
) -> None:
    block = result.program.global_block()
    for tensor in graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        found = TensorType(value.dtype, value.shape)
        if not found.is_float or value.size <= 1:
            known[tensor.name] = result.program.constant(value)
            continue
        parameter = Parameter(tensor.name, found, block=block, where=UNKNOWN)
        block.add_var(parameter)
        known[tensor.name] = parameter
        result.values[tensor.name] = value


def _read_inputs(
    graph: onnx.GraphProto, result: ReadModel, known: dict[str, Variable | None]
) -> None:
    block = result.program.global_block()
    for info in graph.input:
        if info.name in known:
            continue
        variable = Variable(
            info.name,
            result.program.tensor_type(from_proto(info.type)),
            block=block,
            where=UNKNOWN,
            stop_gradient=True,
            is_data=True,
        )
        block.add_var(variable)
        known[info.name] = variable
        result.feed_names.append(info.name)


def _types(model: onnx.ModelProto) -> Mapping[str, onnx.TypeProto]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return {v.name: v.type for v in (*inferred.graph.value_info, *inferred.graph.output)}


def _read_node(
    node: onnx.NodeProto,
    result: ReadModel,
    known: dict[str, Variable | None],
    types: Mapping[str, onnx.TypeProto],
) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise FileError(f"the model has an op of the domain {node.domain!r}: {node.op_type}")
    attrs = {a.name: attr_value(a) for a in node.attribute}
    if any(isinstance(v, onnx.GraphProto) for v in attrs.values()):
        raise FileError(f"the model has control flow ({node.op_type}), which cannot be read yet")
    operands = [known[name] for name in node.input]
    tape = result.program.recorder()
    made = tape.emit(node.op_type, *operands, outputs=len(node.output), **attrs)
    results = [made] if len(node.output) == 1 else list(made)
    for name, variable in zip(node.output, results, strict=True):
        _rename(result.program, variable, name, types)
        known[name] = variable


def _rename(
    program: Program, variable: Variable, name: str, types: Mapping[str, onnx.TypeProto]
) -> None:
    """Give a result the file's name, and the symbols that inference over the file found."""
    block = program.global_block()
    del block.vars[variable.name]
    variable.name = name or variable.name
    block.add_var(variable)
    if name in types:
        variable.tensor_type = _merged(variable.tensor_type, types[name])


def _merged(found: TensorType, stated: onnx.TypeProto) -> TensorType:
    if found.shape is None or not stated.tensor_type.HasField("shape"):
        return found
    dims = [dim_of(d) for d in stated.tensor_type.shape.dim]
    if len(dims) != len(found.shape):
        return found
    dtype = from_onnx_dtype(stated.tensor_type.elem_type)
    return TensorType(
        dtype, tuple(f if d is None else d for f, d in zip(found.shape, dims, strict=True))
    )
