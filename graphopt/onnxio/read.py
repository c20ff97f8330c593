"""A ModelProto as a Program: one Operator per node, sub-graphs as Blocks, weights as Parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from graphopt.errors import (
    ArgumentError,
    DTypeError,
    FileError,
    GraphoptError,
    UnknownOpError,
)
from graphopt.ir.edit import control
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.schema import attr_value
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Constant, Parameter, Variable
from graphopt.ir.types.types import ContainerType, Inferred, TensorType, from_proto, inferred
from graphopt.ir.types.where import InFile, Where, at
from graphopt.onnxio import gradient_node
from graphopt.onnxio.newest import is_restated
from graphopt.onnxio.ort_gaps import NEWEST_OPSET
from graphopt.onnxio.source import Source, subgraphs
from graphopt.onnxio.weights import (
    CONSTANT,
    STATE,
    TRAINABLE,
    Uses,
    kind_of,
    stated_kinds,
)

ROLE_KEY = "graphopt.role"


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
        ShapeError: a node does not fit the shapes of its operands.
        ArgumentError: a node has more operands, or other attributes, than its op.
        GradientError: a Gradient node asks for a gradient that an op does not have.
    """
    _check_ops(source)
    return _Reader(source).read()


def _check_ops(source: Source) -> None:
    """Refuse a model with nodes whose ops ONNX does not define.

    Raises:
        FileError: it has some; all are named.
    """
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
        nodes = "1 node" if len(unknown) == 1 else f"{len(unknown)} nodes"
        raise FileError(
            f"{source.name} has {nodes} of ops that ONNX does not define: {', '.join(types)}",
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
        self.program.opset, self.program.domains = source.opset, source.domains
        self.uses = Uses([source.model.graph, *subgraphs(source.model.graph)])
        self.types = _types(source.model)
        self.kinds = stated_kinds(source.model)
        for name in _names(source.model.graph):  # kept for the values that have them
            self.program.names.take(name)

    def read(self) -> ReadModel:
        graph, known = self.source.model.graph, dict[str, Variable | None]({"": None})
        block = self.program.global_block()
        self._initializers(graph, known)
        for info in graph.input:
            if info.name not in known:
                known[info.name] = self._input(info)
        self._nodes(graph, block, known)
        following = set(self.source.state.values())
        for output in graph.output:
            if output.name not in following:
                found = _defined(known, output.name, self.source.name)
                self.result.fetch_vars.append(found)
        self._assign_state(known)
        self.program.lower_opset()
        return self.result

    def _assign_state(self, known: Mapping[str, Variable | None]) -> None:
        """Give the state of a training step its next values, after everything has read it."""
        block = self.program.global_block()
        tape = Tape(block, role=Role.UPDATE)
        copied = {id(op.outputs[0]): op.inputs[0] for op in block.ops if op.type == "Identity"}
        for name, following in self.source.state.items():
            state, value = known[name], _defined(known, following, self.source.name)
            if copied.get(id(value)) is not state:  # not one that is only handed through
                tape.emit("Identity", value, into=[state])

    def _initializers(self, graph: onnx.GraphProto, known: dict[str, Variable | None]) -> None:
        inner = graph is not self.source.model.graph
        for name, value in {} if inner else self.source.weights.items():
            known[name] = self._value(name, value, "initializer", inner)
        for tensor in graph.initializer:
            value = np.array(onnx.numpy_helper.to_array(tensor))
            known[tensor.name] = self._value(tensor.name, value, "initializer", inner)
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            known[name] = self._value(name, _dense(sparse), "initializer", inner)

    def _own_name(self, name: str, inner: bool) -> str:
        """The file's name; in a body another one where the file has the name twice."""
        if not inner:
            self.program.names.free(name)
        return self.program.unused_name(name)

    def _value(self, name: str, value: np.ndarray, made: str, inner: bool) -> Variable:
        """A Parameter, state or a constant. Those of a body belong to the whole Program."""
        own, block = self._own_name(name, inner), self.program.global_block()
        kind = self._kind(name, value, made)
        if kind == CONSTANT:
            return self.program.constant(value, own)
        found, where = TensorType(value.dtype, value.shape), InFile(self.source.name, name)
        if kind == STATE:
            variable = Variable(
                own, found, block=block, where=where, persistable=True, stop_gradient=True
            )
        else:
            variable = Parameter(own, found, block=block, where=where, trainable=kind == TRAINABLE)
        block.add_var(variable)
        self.result.values[own] = value
        return variable

    def _kind(self, name: str, value: np.ndarray, made: str) -> str:
        if name in self.source.state:
            return self.kinds.get(name, STATE)
        if self.kinds:
            return self.kinds.get(name, CONSTANT)
        return kind_of(name, value, self.uses, made)

    def _input(self, info: onnx.ValueInfoProto) -> Variable:
        variable = Variable(
            self._own_name(info.name, inner=False),
            self.program.tensor_type(from_proto(info.type)),
            block=self.program.global_block(),
            where=InFile(self.source.name, info.name),
            stop_gradient=True,
            is_data=True,
        )
        variable.block.add_var(variable)
        self.result.feed_names.append(info.name)
        return variable

    def _nodes(
        self, graph: onnx.GraphProto, block: Block, known: dict[str, Variable | None]
    ) -> None:
        tape = Tape(block, unify=False)
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
        inner = tape.block is not self.program.global_block()
        value = self._constant(node, known)
        if value is not None:
            known[node.output[0]] = self._value(node.output[0], value, node.op_type, inner)
            return
        if _type(node) == gradient_node.TYPE:
            made = gradient_node.differentiate(node, tape, known)
            for name, grad in zip(node.output, made, strict=False):
                if name:
                    own = [self._own_name(name, inner)]
                    known[name] = tape.emit("Identity", grad, names=own)
            return
        operands = [known[name] for name in node.input]
        attrs: dict[str, Any] = {
            a.name: self._block(a.g, tape.block, known, _formals(node, operands))
            if a.HasField("g")
            else attr_value(a)
            for a in node.attribute
        }
        names = [self._own_name(name, inner) if name else "" for name in node.output]
        tape.role = _role(node, Role.UPDATE if self.source.state else Role.FORWARD)
        made = self._recorded(tape, _type(node), operands, names, attrs)
        results = [made] if len(names) == 1 else list(made)
        for name, variable in zip(node.output, results, strict=True):
            if variable is not None:
                known[name] = variable
                if name in self.types:
                    self._refine(variable, self.types[name])

    def _recorded(
        self,
        tape: Tape,
        type: str,
        operands: Sequence[Variable | None],
        names: Sequence[str],
        attrs: Mapping[str, Any],
    ) -> Any:  # noqa: ANN401 - as Tape.emit
        """The op, by an older definition where that says as much: then onnxruntime has it."""
        if is_restated(type, self.source.opset):
            self.program.opset = NEWEST_OPSET
            try:
                return tape.emit(type, *operands, names=names, **attrs)
            except (ArgumentError, DTypeError):
                pass  # it takes something that only the newer definition takes
            finally:
                self.program.opset = self.source.opset
        return tape.emit(type, *operands, names=names, **attrs)

    def _constant(
        self, node: onnx.NodeProto, known: Mapping[str, Variable | None]
    ) -> np.ndarray | None:
        """The array of a Constant node, or of a ConstantOfShape node that makes a weight."""
        if node.op_type == "Constant" and not node.domain:
            return _constant_value(node)
        if node.op_type != "ConstantOfShape" or node.domain:
            return None
        shape = known[node.input[0]]
        if not isinstance(shape, Constant):
            return None
        fill = next((attr_value(a) for a in node.attribute), np.zeros(1, np.float32))
        value = np.full(shape.value.tolist(), fill.item(), fill.dtype)
        kind = kind_of(node.output[0], value, self.uses, node.op_type)
        return None if kind == CONSTANT else value

    def _block(
        self,
        graph: onnx.GraphProto,
        parent: Block,
        outer: Mapping[str, Variable | None],
        formals: Sequence[Inferred],
    ) -> Block:
        known, block = dict(outer), Block(self.program, parent)
        for k, info in enumerate(graph.input):
            stated = info.type.WhichOneof("value") is not None
            found = from_proto(info.type) if stated or k >= len(formals) else formals[k]
            known[info.name] = block.add_input(info.name, self.program.tensor_type(found))
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
            # onnx gives some products of open dims as 0
            shape = tuple(k if isinstance(k, int) or f in (None, 0) else f for k, f in dims)
            variable.tensor_type = TensorType(known.dtype, shape)
        self.program.note_symbols(variable.tensor_type)


def _names(graph: onnx.GraphProto) -> set[str]:
    """The names of the values outside the bodies."""
    made = {name for node in graph.node for name in node.output}
    held = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return made | held | {i.name for i in graph.input}


def _role(node: onnx.NodeProto, default: Role) -> Role:
    """What a node of a training step is for: an update, if it was inlined and does not say."""
    stated = next((p.value for p in node.metadata_props if p.key == ROLE_KEY), default)
    return Role(stated) if stated in set(Role) else default


def _formals(node: onnx.NodeProto, operands: Sequence[Variable | None]) -> list[Inferred]:
    """The types that a body's inputs have where the file does not say."""
    types = [Inferred() if v is None else inferred(v.tensor_type) for v in operands]
    if node.op_type == "Loop":
        return [inferred(control.I64), inferred(control.BOOL), *types[2:]]
    if node.op_type == "Scan":
        scanned = next(a.i for a in node.attribute if a.name == "num_scan_inputs")
        states = len(types) - scanned
        return [
            *types[:states],
            *(Inferred(t.dtype, t.dims and t.dims[1:]) for t in types[states:]),
        ]
    return [t.element or t for t in types]


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
    """What onnx's inference over the whole file finds, by name; what the file says where it fails.

    A name that stands for different types in different bodies is left out.
    """
    for info in (*model.graph.value_info, *model.graph.output):
        for dim in info.type.tensor_type.shape.dim:
            dim.Clear()  # what a file states may be wrong; its ranks rarely are
    inferred = _inferred(model)
    found: dict[str, onnx.TypeProto] = {}
    for graph in (inferred.graph, *subgraphs(inferred.graph)):
        for v in (*graph.value_info, *graph.output):
            if found.setdefault(v.name, v.type) != v.type:
                found[v.name] = onnx.TypeProto()
    return {name: type for name, type in found.items() if type.WhichOneof("value")}


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    for data_prop in (True, False):
        with suppress(Exception):  # it refuses models that run
            return onnx.shape_inference.infer_shapes(model, data_prop=data_prop)
    return model


def _defined(known: Mapping[str, Variable | None], name: str, source: str) -> Variable:
    found = known.get(name)
    if found is None:
        raise FileError(f"{source} is no valid model: nothing makes its output {name!r}")
    return found
