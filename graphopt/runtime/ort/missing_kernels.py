"""All ops of a model that onnxruntime has no kernel for; its own message names only the first."""

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

MISSING = "NOT_IMPLEMENTED"


def without_kernel(error: Exception, lowered: Lowered, place: Place) -> StepError | None:
    """What to raise if ``error`` is that an op has no kernel: each kind of op is tried alone."""
    if MISSING not in str(error):
        return None
    tried: dict[tuple[object, ...], bool] = {}
    missing: list[tuple[str, Operator]] = []
    for node in _nodes(lowered.bare.graph):
        op = lowered.ops.get(node.name)
        if op is None or op.definition.has_blocks:
            continue
        kind = (op.type, *(None if v is None else str(v.dtype) for v in op.inputs))
        if kind not in tried:
            tried[kind] = _lacks(_alone(node, op, lowered.bare), place)
        if tried[kind]:
            missing.append((node.name, op))
    return _described(missing) if missing else None


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g)


def _alone(node: onnx.NodeProto, op: Operator, model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of one node. Constant operands stay constants: kernels may ask for that."""
    graph = onnx.GraphProto(name="alone", node=[node])
    operands = dict(zip((n for n in node.input if n), op.operands(), strict=True))
    for name, v in operands.items():
        if isinstance(v, Constant):
            graph.initializer.append(onnx.numpy_helper.from_array(v.value, name))
        else:
            graph.input.append(value_info(name, v.tensor_type))
    results = zip((n for n in node.output if n), op.writes(), strict=True)
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
        return MISSING in str(error)
    return False


def _described(missing: list[tuple[str, Operator]]) -> StepError:
    kinds = sorted({f"{op.type} of {_dtype(op)}" for _, op in missing})
    return StepError(
        f"onnxruntime has no kernel for {len(missing)} ops of the Program: {', '.join(kinds)}",
        operands=[(name, f"{op.type} of {_dtype(op)}, {op.where}") for name, op in missing],
        where=missing[0][1].where,
        fix="cast their operands to float32, or run where the kernels exist",
        all_operands=True,
    )


def _dtype(op: Operator) -> str:
    return [*op.operands(), *op.writes()][0].dtype.name
