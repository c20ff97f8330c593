"""The results of single ops over arrays, by onnx's reference evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import OPSET, make_node

# What both runtimes make the same results of. No random op, and none with blocks.
PURE = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Cos", "Div", "Equal", "Exp",
     "Expand", "Flatten", "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less",
     "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pow",
     "Range", "Reciprocal", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Sign",
     "Sin", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze",
     "Where", "Xor"}
)  # fmt: skip
WORK = 2**22  # bytes of operands beyond which nothing is computed while compiling
_evaluators: dict[Any, Any] = {}


@cache
def _reference() -> Any:  # noqa: ANN401 - loaded when it is needed: import graphopt stays quick
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator


def evaluated(op: Operator, operands: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """The results of an op of ``PURE`` over these operands; None if it cannot tell."""
    given = [v for v in operands if v is not None]
    if any(v.dtype.kind not in "biuf" for v in given) or sum(v.nbytes for v in given) > WORK:
        return None
    if op.type == "Cast" and not _casts_exactly(given[0], op):
        return None
    if op.type == "Div" and given[1].dtype.kind in "iu" and not given[1].all():
        return None
    feeds = {f"i{k}": v for k, v in enumerate(operands) if v is not None}
    with np.errstate(all="ignore"):
        try:
            found = _evaluator(op).run(None, feeds)
        except Exception:  # whatever it is, the op is left to the run
            return None
    return [np.asarray(v) for v in found]


def _casts_exactly(value: np.ndarray, op: Operator) -> bool:
    """Whether a Cast is the same everywhere: from floats to integers that hold them."""
    to = next(op.writes()).dtype
    if to.kind not in "biuf":
        return False
    if value.dtype.kind != "f" or to.kind not in "iu":
        return True
    bounds = np.iinfo(to)
    return bool(np.all((value >= bounds.min) & (value <= bounds.max)))


def _evaluator(op: Operator) -> Any:  # noqa: ANN401
    """One for all ops of this type and these attributes."""
    names = tuple(f"i{k}" if v is not None else "" for k, v in enumerate(op.inputs))
    results = [f"o{k}" for k in range(len(op.outputs))]
    node = make_node(op.definition, names, results, op.attrs)
    key = op.definition.since, node.SerializeToString(deterministic=True)
    found = _evaluators.get(key)  # asked once: another thread may clear it at any time
    if found is None:
        graph = onnx.GraphProto(name="op", node=[node])
        graph.input.extend(onnx.ValueInfoProto(name=name) for name in names if name)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in results)
        version = onnx.helper.make_opsetid("", max(OPSET, op.definition.since))
        model = onnx.ModelProto(ir_version=10, graph=graph, opset_import=[version])
        found = _reference()(model)
        if len(_evaluators) >= 1000:
            _evaluators.clear()
        _evaluators[key] = found
    return found
