"""All ops of a model that a place has no kernel for; onnxruntime itself names one, or none."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from graphopt.errors import StepError
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.variable import Constant
from graphopt.onnxio.write import Lowered, value_info
from graphopt.runtime.ort.library import failures
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.session import Session

# What onnxruntime says where no provider has a kernel, and where only the processor's has one.
MISSING, LEFT = "NOT_IMPLEMENTED", "fallback to CPU EP has been explicitly disabled"


def without_kernel(error: Exception, lowered: Lowered, place: Place) -> StepError | None:
    """What to raise if ``error`` is that an op has no kernel: each kind of op is tried alone.

    Args:
        error: what onnxruntime raised when it was to load the model.
        lowered: the model.
        place: where it was to be loaded.

    Returns:
        An error that names the ops; None if this was no such error, or none is to be found.
    """
    if not _is_lack(error):
        return None
    tried: dict[tuple[object, ...], bool] = {}
    missing: list[tuple[str, Operator]] = []
    untried: dict[int, tuple[str, Operator]] = {}
    for node in _nodes(lowered.bare.graph):
        op = lowered.ops.get(node.name)
        if op is None:
            continue
        if op.definition.has_blocks or node.op_type != op.definition.op_type:
            untried.setdefault(id(op), (node.name, op))  # control flow, or one of a detour's nodes
            continue
        kind = (op.type, *(None if v is None else str(v.dtype) for v in op.inputs))
        if kind not in tried:
            tried[kind] = _lacks(_alone(node, op, lowered.bare), place)
        if tried[kind]:
            missing.append((node.name, op))
    if missing:
        return _described(missing, place, f"for {len(missing)} ops")
    if untried and LEFT in str(error):  # of all others none was refused
        return _described([*untried.values()], place, "for some of these ops")
    return None


def _is_lack(error: Exception) -> bool:
    return MISSING in str(error) or LEFT in str(error)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g)


def _alone(node: onnx.NodeProto, op: Operator, model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of one node. Constant operands stay constants: kernels may ask for that."""
    graph = onnx.GraphProto(name="alone", node=[node])
    operands = {name: v for name, v in zip(node.input, op.inputs, strict=False) if v is not None}
    for name, v in operands.items():
        if isinstance(v, Constant):
            graph.initializer.append(onnx.numpy_helper.from_array(v.value, name))
        else:
            graph.input.append(value_info(name, v.tensor_type))
    results = [(name, v) for name, v in zip(node.output, op.outputs, strict=False) if v is not None]
    graph.output.extend(value_info(name, v.tensor_type) for name, v in results)
    return onnx.ModelProto(
        ir_version=model.ir_version,
        graph=graph,
        opset_import=model.opset_import,
        functions=model.functions,
    )


def _lacks(model: onnx.ModelProto, place: Place) -> bool:
    try:
        Session(model, place)
    except failures() as error:
        return _is_lack(error)
    return False


def _described(missing: list[tuple[str, Operator]], place: Place, which: str) -> StepError:
    kinds = sorted({f"{op.type} of {_dtype(op)}" for _, op in missing})
    who = "onnxruntime" if place.may_fall_back else place.provider
    return StepError(
        f"{who} has no kernel {which} of the Program: {', '.join(kinds)}",
        operands=[(name, f"{op.type} of {_dtype(op)}, {op.where}") for name, op in missing],
        where=missing[0][1].where,
        fix="cast their operands to float32, or run where the kernels exist"
        if place.may_fall_back
        else "give the place fallback=True, to run them on the processor",
        all_operands=True,
    )


def _dtype(op: Operator) -> str:
    return [*op.operands(), *op.writes()][0].dtype.name
