"""A Step as a ModelProto: the lowering that the executor runs and files hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
import onnx.inliner

from graphopt.errors import VerifyError
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import is_block, make_node
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import TensorType, to_onnx_dtype, to_proto
from graphopt.onnxio.functions import DOMAIN, FunctionTable
from graphopt.onnxio.ort_gaps import DETOURS, own_running_statistics

IR_VERSION = 10
KEPT_APART = 1 << 16  # bytes: values of constants from here on are left apart


@dataclass(frozen=True)
class Lowered:
    """A model, and the names of its outputs.

    ``bare`` is the model without the values of large constants, which ``arrays`` has by name:
    onnxruntime reads them where they are, and they may be larger than a protobuf can be.
    ``fetched[i]`` is the output that holds fetch i. ``next_state`` maps the names of assigned state
    to the outputs that hold its values after the run, ``new_rows`` are those of the rows of tables,
    and ``borrowed`` maps outputs to the names of the states whose memory they are written to.
    ``ops`` maps nodes' names to ops.
    """

    bare: onnx.ModelProto
    arrays: Mapping[str, np.ndarray]
    inputs: tuple[str, ...]
    fetched: tuple[str, ...]
    next_state: Mapping[str, str]
    new_rows: tuple[str, ...]
    borrowed: Mapping[str, str]
    ops: Mapping[str, Operator]

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The whole model."""
        whole = onnx.ModelProto()
        whole.CopyFrom(self.bare)
        for tensor in whole.graph.initializer:
            if tensor.name in self.arrays:
                tensor.CopyFrom(onnx.numpy_helper.from_array(self.arrays[tensor.name], tensor.name))
        return whole


def lower(
    step: Step, inputs: Sequence[Variable] | None = None, detours: Collection[str] = ()
) -> Lowered:
    """Write a Step: its inputs become the graph's, and all that it gives its outputs.

    ``inputs`` gives another order of the inputs, or further ones that nothing reads. ``detours``
    are the types of ops that are written as others: see ``ort_gaps.DETOURS``.
    """
    return _Writer(step, detours).lower(step.inputs() if inputs is None else inputs)


class _Writer:
    """Collects nodes and initializers; every value has the name of its variable."""

    def __init__(self, step: Step, detours: Collection[str]) -> None:
        self.step = step
        self.detours = {type: DETOURS[type] for type in detours}
        self.model = onnx.ModelProto(producer_name="graphopt")
        self.graph = self.model.graph
        self.graph.name = "graphopt"
        self.functions = FunctionTable()
        self.given = {v.name for v in step.global_block().outputs}
        self.known: set[Variable] = set()  # inputs, and what nodes make
        self.constants: set[str] = set()
        self.arrays: dict[str, np.ndarray] = {}
        self.outputs: dict[str, str] = {}
        self.ops: dict[str, Operator] = {}

    def lower(self, inputs: Sequence[Variable]) -> Lowered:
        for v in inputs:
            self.known.add(v)
            self.graph.input.append(value_info(v.name, v.tensor_type))
        step = self.step
        for op in step.global_block().ops:
            self._node(op, self.graph)
        given = frozenset(inputs)
        fetched = tuple(self._output(v, given) for v in step.fetch)
        next_state: dict[str, str] = {}
        for v, value in step.next_state.items():
            taken = next_state.values()
            next_state[v.name] = self._output(value, given, taken, f"{v.name}@OUT")
        new_rows = tuple(self._output(row.new_row, given) for row in step.rows)
        borrowed = {self._output(v, given): s.name for v, s in step.borrowed.items()}
        names = tuple(v.name for v in inputs)
        return Lowered(
            self._model(), self.arrays, names, fetched, next_state, new_rows, borrowed, self.ops
        )

    def _node(self, op: Operator, graph: onnx.GraphProto) -> None:
        names = [self._read(v) for v in op.inputs]
        results = [self._write(v) for v in op.outputs]
        # The reference evaluator keeps what has no name, and hands it to omitted operands.
        results = [r or self._free(f"{len(self.ops)}@UNUSED{k}") for k, r in enumerate(results)]
        detour = self.detours.get(op.type)
        if detour is not None and (nodes := detour(op, names, results, self._free)):
            graph.node.extend(nodes)
            self.ops.update((node.name, op) for node in nodes)
            return
        graph.node.extend(own_running_statistics(op, names, results, self.given, self._free))
        node = (
            self._standard_node(op, names, results)
            if op.definition.domain != DOMAIN
            else self.functions.call(op, names, results)
        )
        node.name = f"{op.scope.lstrip('/')}{op.definition.op_type}_{len(self.ops)}"
        node.metadata_props.add(key="graphopt.role", value=str(op.role))
        if op.made_by:
            node.metadata_props.add(key="graphopt.made_by", value=op.made_by)
        graph.node.append(node)
        self.ops[node.name] = op

    def _standard_node(
        self, op: Operator, names: Sequence[str], results: Sequence[str]
    ) -> onnx.NodeProto:
        if not op.definition.has_blocks:
            return make_node(op.definition, names, results, op.attrs)
        blocks = {n: b for n, b in op.attrs.items() if is_block(op.definition, n)}
        plain = {n: a for n, a in op.attrs.items() if n not in blocks}
        node = make_node(op.definition, names, results, plain)
        for name, block in blocks.items():
            node.attribute.append(onnx.helper.make_attribute(name, self._block(name, block)))
        return node

    def _block(self, name: str, block: Block) -> onnx.GraphProto:
        """A body. What is no result of its own nodes is handed through an Identity."""
        graph = onnx.GraphProto(name=name)
        for v in block.inputs:
            self.known.add(v)
            graph.input.append(value_info(v.name, v.tensor_type))
        for op in block.ops:
            self._node(op, graph)
        made = {name for node in graph.node for name in node.output}
        for v in block.outputs:
            source = name = self._read(v)
            if source not in made:
                name = self.step.unused_name(f"{v.name}@OUT")
                self.step.names.take(name)
                graph.node.append(
                    onnx.NodeProto(op_type="Identity", name=name, input=[source], output=[name])
                )
            made.discard(source)  # one result cannot be two outputs
            graph.output.append(value_info(name, v.tensor_type))
        return graph

    def _read(self, variable: Variable | None) -> str:
        if variable is None:
            return ""
        if isinstance(variable, Constant):
            return self._constant(variable)
        if variable not in self.known:
            raise VerifyError(f"{variable.name} is neither an input nor made by an op")
        return variable.name

    def _constant(self, constant: Constant) -> str:
        if constant.name not in self.constants:
            self.constants.add(constant.name)
            value = np.asarray(constant.value)
            if value.nbytes >= KEPT_APART and value.dtype.isbuiltin == 1 and value.dtype != object:
                self.arrays[constant.name] = value
                self.graph.initializer.append(_apart(constant.name, value))
            else:
                self.graph.initializer.append(onnx.numpy_helper.from_array(value, constant.name))
        return constant.name

    def _write(self, variable: Variable | None) -> str:
        if variable is None:
            return ""
        self.known.add(variable)
        return variable.name

    def _free(self, name: str) -> str:
        """The name, made longer while it is a user's."""
        return self._free(f"{name}@") if self.step.has_var(name) else name

    def _output(
        self,
        variable: Variable,
        given: Collection[Variable],
        taken: Collection[str] = (),
        wanted: str = "",
    ) -> str:
        """The graph output of a variable: one for all who ask, but for those of ``taken``.

        What is an input, a constant or another's output is copied under another name.
        """
        source = self._read(variable)
        if source in self.outputs and self.outputs[source] not in taken:
            return self.outputs[source]
        name = source
        if isinstance(variable, Constant) or variable in given or source in self.outputs:
            name = self._free(wanted or f"{variable.name}@OUT")
            while name in self.outputs.values():
                name += "@"
            self.graph.node.append(
                onnx.NodeProto(op_type="Identity", name=name, input=[source], output=[name])
            )
        self.outputs.setdefault(source, name)
        self.graph.output.append(value_info(name, variable.tensor_type))
        return name

    def _domains(self) -> dict[str, int]:
        """The versions of the domains, other than ai.onnx, that the nodes need."""
        used = {op.definition.domain for op in self.ops.values()} - {"", DOMAIN}
        return {d: self.step.domains.get(d, 1) for d in sorted(used)}

    def _model(self) -> onnx.ModelProto:
        opsets = [onnx.helper.make_opsetid("", self.step.opset)]
        opsets += [onnx.helper.make_opsetid(*item) for item in self._domains().items()]
        if self.functions.protos:
            opsets.append(onnx.helper.make_opsetid(DOMAIN, 1))
        self.model.ir_version = ir_version(self.step.opset, self._domains())
        self.model.opset_import.extend(opsets)
        self.model.functions.extend(self.functions.protos)
        return self.model


def ir_version(opset: int, domains: Mapping[str, int] | None = None) -> int:
    """The IR version of a file: 10, or what a newer opset demands."""
    versions = {"": opset, **(domains or {})}
    needed = onnx.helper.find_min_ir_version_for(
        [onnx.helper.make_opsetid(*item) for item in versions.items()], ignore_unknown=True
    )
    return max(IR_VERSION, needed)


def value_info(name: str, tensor_type: TensorType) -> onnx.ValueInfoProto:
    """What a model says of an input or output."""
    return onnx.ValueInfoProto(name=name, type=to_proto(tensor_type))


def _apart(name: str, value: np.ndarray) -> onnx.TensorProto:
    """What a model says of a constant whose value lies elsewhere."""
    tensor = onnx.TensorProto(
        name=name,
        data_type=to_onnx_dtype(value.dtype),
        dims=value.shape,
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, text in (("location", name), ("offset", "0"), ("length", str(value.nbytes))):
        tensor.external_data.add(key=key, value=text)
    return tensor


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its functions inlined: ``ai.onnx`` ops only."""
    if not model.functions:
        return model
    plain = onnx.inliner.inline_local_functions(model)
    standard = [opset for opset in plain.opset_import if opset.domain != DOMAIN]
    del plain.opset_import[:]
    plain.opset_import.extend(standard)
    return plain
