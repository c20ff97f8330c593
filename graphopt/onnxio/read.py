"""A ModelProto as a Program: one Operator per node, sub-graphs as Blocks, weights as Parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from graphopt.errors import FileError, GraphoptError, UnknownOpError
from graphopt.ir.block import Block
from graphopt.ir.program import Program
from graphopt.ir.schema import attr_value
from graphopt.ir.tape import Tape
from graphopt.ir.types import ContainerType, TensorType, from_proto
from graphopt.ir.variable import Constant, Parameter, Variable
from graphopt.ir.where import InFile, Where, at
from graphopt.onnxio.source import Source, subgraphs
from graphopt.onnxio.training import STATE_KEY
from graphopt.onnxio.weights import (
    CONSTANT,
    STATE,
    TRAINABLE,
    Uses,
    is_weight,
    kind_of,
    stated_kinds,
)


@dataclass
class ReadModel:
    """A Program, the values of its persistable variables, and what it is fed and fetched."""

    program: Program = field(default_factory=Program)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    feed_names: list[str] = field(default_factory=list)
    fetch_vars: list[Variable] = field(default_factory=list)


def read(source: Source) -> ReadModel:
    """Read a model.

    Float initializers and constants that are weights become Parameters (see ``weights.py``),
    running statistics become state, other arrays constants. All keep the file's names.

    Raises:
        FileError: the model uses ops that ONNX does not define, all of which are named; or it is
            no valid graph.
    """
    _check_ops(source)
    return _Reader(source).read()


def _check_ops(source: Source) -> None:
    """Raise FileError naming every node whose op ONNX does not define."""
    versions = {"": source.opset, "ai.onnx": source.opset, **source.domains}
    unknown: list[onnx.NodeProto] = []
    for graph in (source.model.graph, *subgraphs(source.model.graph)):
        for node in graph.node:
            try:
                onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), _domain(node))
            except onnx.defs.SchemaError:
                unknown.append(node)
    if unknown:
        types = sorted({_type(node) for node in unknown})
        raise FileError(
            f"{source.name} has {len(unknown)} nodes of ops that ONNX does not define: "
            f"{', '.join(types)}",
            operands=[(_type(node), node.name or node.output[0]) for node in unknown],
            fix="export the model in plain ONNX ops: before it is quantized, or optimized for one "
            "runtime",
            all_operands=True,
        )


def _domain(node: onnx.NodeProto) -> str:
    return "" if node.domain == "ai.onnx" else node.domain


def _type(node: onnx.NodeProto) -> str:
    domain = _domain(node)
    return f"{domain}::{node.op_type}" if domain else node.op_type


class _Reader:
    """One model on its way to a Program."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.result = ReadModel()
        self.program = self.result.program
        self.program.unifies = False
        self.program.opset, self.program.domains = source.opset, source.domains
        self.uses = Uses([source.model.graph, *subgraphs(source.model.graph)])
        self.types = _types(source.model)

    def read(self) -> ReadModel:
        graph, known = self.source.model.graph, dict[str, Variable | None]({"": None})
        block = self.program.global_block()
        self._initializers(graph, known)
        for info in graph.input:
            if info.name not in known:
                known[info.name] = self._input(info)
        self._nodes(graph, block, known)
        for output in graph.output:
            self.result.fetch_vars.append(_defined(known, output.name, self.source.name))
        self._lower_opset()
        return self.result

    def _lower_opset(self) -> None:
        """The lowest opset that has the definitions in use."""
        ops = [op for block in self.program.blocks for op in block.ops]
        self.program.opset = Program().opset
        for op in ops:
            if not op.definition.domain:
                self.program.opset = max(self.program.opset, op.definition.since)

    def _initializers(self, graph: onnx.GraphProto, known: dict[str, Variable | None]) -> None:
        for name, value in self.source.weights.items() if graph is self._top else ():
            known[name] = self._value(name, value, "initializer")
        for tensor in graph.initializer:
            value = np.array(onnx.numpy_helper.to_array(tensor))
            known[tensor.name] = self._value(tensor.name, value, "initializer")
        for sparse in graph.sparse_initializer:
            known[sparse.values.name] = self._value(
                sparse.values.name, _dense(sparse), "initializer"
            )

    @property
    def _top(self) -> onnx.GraphProto:
        return self.source.model.graph

    def _value(self, name: str, value: np.ndarray, made: str) -> Variable:
        """A Parameter, state or a constant. Those of a sub-graph belong to the whole Program."""
        block, found = self.program.global_block(), TensorType(value.dtype, value.shape)
        free = self.program.unused_name(name)
        where = InFile(self.source.name, name)
        if is_statistic(name, self.uses):
            variable = Variable(
                free, found, block=block, where=where, persistable=True, stop_gradient=True
            )
        elif is_weight(name, value, self.uses, made):
            variable = Parameter(free, found, block=block, where=where)
            if not np.isfinite(value).all():  # a mask, say
                variable.trainable, variable.stop_gradient = False, True
        else:
            constant = self.program.constant(value, name)
            return constant
        block.add_var(variable)
        self.result.values[free] = value
        return variable

    def _input(self, info: onnx.ValueInfoProto) -> Variable:
        block = self.program.global_block()
        variable = Variable(
            info.name,
            self.program.tensor_type(from_proto(info.type)),
            block=block,
            where=InFile(self.source.name, info.name),
            stop_gradient=True,
            is_data=True,
        )
        block.add_var(variable)
        self.result.feed_names.append(info.name)
        return variable

    def _nodes(
        self, graph: onnx.GraphProto, block: Block, known: dict[str, Variable | None]
    ) -> None:
        tape = Tape(block)
        for node in graph.node:
            where = InFile(self.source.name, node.name or node.output[0])
            with at(where):
                try:
                    self._node(node, tape, known)
                except (UnknownOpError, KeyError, TypeError) as error:
                    raise self._invalid(node, error, where) from error

    def _invalid(self, node: onnx.NodeProto, error: Exception, where: Where) -> GraphoptError:
        reason = (
            f"it reads {error}, which nothing above makes" if type(error) is KeyError else error
        )
        return FileError(f"{self.source.name} is no valid model: {_type(node)}: {reason}",
                         where=where)  # fmt: skip

    def _node(self, node: onnx.NodeProto, tape: Tape, known: dict[str, Variable | None]) -> None:
        value = self._constant(node, known)
        if value is not None:
            known[node.output[0]] = self._value(node.output[0], value, node.op_type)
            return
        operands = [known[name] for name in node.input]
        attrs: dict[str, Any] = {
            a.name: self._block(a.g, tape.block, known) if a.HasField("g") else attr_value(a)
            for a in node.attribute
        }
        names = [self.program.unused_name(name) if name else "" for name in node.output]
        made = tape.emit(_type(node), *operands, names=names, **attrs)
        results = [made] if len(names) == 1 else list(made)
        for name, variable in zip(node.output, results, strict=True):
            if variable is not None:
                known[name] = variable
                if name in self.types:
                    self._refine(variable, self.types[name])

    def _constant(
        self, node: onnx.NodeProto, known: Mapping[str, Variable | None]
    ) -> np.ndarray | None:
        """The array that a node makes, if it does not depend on anything fed."""
        if node.op_type == "Constant" and not node.domain:
            return _constant_value(node)
        if node.op_type != "ConstantOfShape" or node.domain:
            return None
        shape = known[node.input[0]]
        if not isinstance(shape, Constant):
            return None
        fill = next((attr_value(a) for a in node.attribute), np.zeros(1, np.float32))
        value = np.full(shape.value.tolist(), fill.item(), fill.dtype)
        return value if is_weight(node.output[0], value, self.uses, "ConstantOfShape") else None

    def _block(
        self, graph: onnx.GraphProto, parent: Block, outer: Mapping[str, Variable | None]
    ) -> Block:
        known, block = dict(outer), Block(self.program, parent)
        for info in graph.input:
            known[info.name] = block.add_input(
                info.name, self.program.tensor_type(from_proto(info.type))
            )
        self._initializers(graph, known)
        self._nodes(graph, block, known)
        block.outputs = [_defined(known, o.name, self.source.name) for o in graph.output]
        return block

    def _refine(self, variable: Variable, stated: onnx.TypeProto) -> None:
        """Add what inference over the whole file knows: it follows the values of shapes."""
        found, known = from_proto(stated), variable.tensor_type
        if isinstance(known, ContainerType) or found.element is not None or found.dims is None:
            return
        if known.shape is None:
            variable.tensor_type = self.program.tensor_type(found)
        elif len(known.shape) == len(found.dims):
            dims = zip(known.shape, found.dims, strict=True)
            shape = tuple(k if isinstance(k, int) or f is None else f for k, f in dims)
            variable.tensor_type = TensorType(known.dtype, shape)
        self.program.note_symbols(variable.tensor_type)


def _constant_value(node: onnx.NodeProto) -> np.ndarray:
    (attribute,) = node.attribute
    if attribute.name == "sparse_value":
        return _dense(attribute.sparse_tensor)
    value = attr_value(attribute)
    dtypes: Mapping[str, type] = {
        "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64,
        "value_ints": np.int64, "value_string": object, "value_strings": object,
    }  # fmt: skip
    return np.asarray(value, dtypes.get(attribute.name))


def _dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    values = onnx.numpy_helper.to_array(sparse.values)
    indices = onnx.numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def _types(model: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """What onnx's inference over the whole model finds, by name; nothing where it gives up."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:  # it refuses models that run
        return {}
    graphs: Sequence[onnx.GraphProto] = (inferred.graph, *subgraphs(inferred.graph))
    return {v.name: v.type for g in graphs for v in (*g.value_info, *g.output)}


def _defined(known: Mapping[str, Variable | None], name: str, source: str) -> Variable:
    found = known.get(name)
    if found is None:
        raise FileError(f"{source} is no valid model: nothing makes its output {name!r}")
    return found
