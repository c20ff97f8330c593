"""Which floats of a file are weights, which of them train, and which are only settings of an op."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx
from onnx.defs import OpSchema

from graphopt.errors import ArgumentError, ArgumentTypeError, did_you_mean
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.types import FLOATS

Trainable: TypeAlias = "bool | str | re.Pattern[str] | Iterable[str] | Callable[[Parameter], bool]"
Use: TypeAlias = tuple[str, str]  # an op's type and a formal input
PARAMETERS_KEY = "graphopt.parameters"
TRAINABLE, FROZEN, STATE, CONSTANT = "trainable", "frozen", "state", "constant"

RECURRENT = {"W", "R", "B", "P"}
WEIGHTS: Mapping[str, set[str]] = {
    "BatchNormalization": {"scale", "B"},
    "Conv": {"W", "B"},
    "ConvTranspose": {"W", "B"},
    "DeformConv": {"W", "B"},
    "GRU": RECURRENT,
    "Gather": {"data"},
    "Gemm": {"A", "B", "C"},
    "GroupNormalization": {"scale", "bias"},
    "InstanceNormalization": {"scale", "B"},
    "LSTM": RECURRENT,
    "LayerNormalization": {"Scale", "B"},
    "MatMul": {"A", "B"},
    "PRelu": {"slope"},
    "RMSNormalization": {"scale"},
    "RNN": RECURRENT,
    **{type: {"A", "B"} for type in ("Add", "Div", "Mul", "Sub")},
    "Sum": {"data_0"},
}
SETTINGS: Mapping[str, set[str]] = {
    "Clip": {"min", "max"},
    "DequantizeLinear": {"x_scale"},
    "Dropout": {"ratio"},
    "Equal": {"A", "B"},
    "GRU": {"initial_h"},
    "Greater": {"A", "B"},
    "GreaterOrEqual": {"A", "B"},
    "LSTM": {"initial_h", "initial_c"},
    "Less": {"A", "B"},
    "LessOrEqual": {"A", "B"},
    "NonMaxSuppression": {"iou_threshold", "score_threshold"},
    "OneHot": {"values"},
    "Pad": {"constant_value"},
    "Pow": {"Y"},
    "QuantizeLinear": {"y_scale"},
    "RNN": {"initial_h"},
    "Range": {"start", "limit", "delta"},
    "Resize": {"roi", "scales"},
    "RoiAlign": {"rois"},
    "STFT": {"window"},
}
STATISTICS = {("BatchNormalization", "input_mean"), ("BatchNormalization", "input_var")}
MOVERS = {"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


class Uses:
    """Where each name of a model is used, in all of its graphs."""

    def __init__(self, graphs: Sequence[onnx.GraphProto]) -> None:
        self.of: dict[str, list[Use]] = {}
        self.moved: dict[str, list[str]] = {}  # results that are the same values, moved
        for graph in graphs:
            for node in graph.node:
                self._note(node)

    def _note(self, node: onnx.NodeProto) -> None:
        formals = _formals(node)
        for k, name in enumerate(node.input):
            if name:
                slot = formals[min(k, len(formals) - 1)] if formals else ""
                self.of.setdefault(name, []).append((node.op_type, slot))
        if node.op_type in MOVERS and not node.domain:
            self.moved.setdefault(node.input[0], []).append(node.output[0])

    def finally_(self, name: str) -> Iterator[Use]:
        """The uses of a value, seen through ops that only move it."""
        yield from (use for use in self.of.get(name, ()) if use[0] not in MOVERS)
        for result in self.moved.get(name, ()):
            yield from self.finally_(result)


def _formals(node: onnx.NodeProto) -> list[str]:
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        schema: OpSchema = onnx.defs.get_schema(node.op_type, domain)
    except onnx.defs.SchemaError:
        return []
    return [f.name for f in schema.inputs]


def is_statistic(name: str, uses: Uses) -> bool:
    """Whether a value is a running mean or variance: state, not a weight."""
    return any(use in STATISTICS for use in uses.of.get(name, ()))


def is_weight(name: str, value: np.ndarray, uses: Uses, made: str) -> bool:
    """Whether a float array of a file is a weight.

    ``made`` says how the file makes it: 'initializer', 'Constant' or 'ConstantOfShape'. An
    initializer or Constant is a weight unless all its uses are settings of ops; single numbers, and
    what ConstantOfShape makes, are weights only where ops take weights.
    """
    if value.dtype not in FLOATS or name not in uses.of:
        return False
    found = set(uses.finally_(name))
    taken = [use for use in found if use[1] in WEIGHTS.get(use[0], ())]
    if made == "ConstantOfShape":
        return value.size > 1 and bool(found) and len(taken) == len(found)
    if value.size <= 1:
        return made == "initializer" and value.ndim > 0 and bool(taken)
    return not found or any(use[1] not in SETTINGS.get(use[0], ()) for use in found)


def state_kinds(model: onnx.ModelProto, held: Iterable[Variable]) -> None:
    """Note in a file which of its initializers train, are frozen, or are state, as JSON lists."""
    kinds: dict[str, list[str]] = {TRAINABLE: [], FROZEN: [], STATE: []}
    for v in held:
        frozen = FROZEN if isinstance(v, Parameter) else STATE
        kinds[TRAINABLE if isinstance(v, Parameter) and v.trainable else frozen].append(v.name)
    model.metadata_props.add(key=PARAMETERS_KEY, value=json.dumps(kinds))


def stated_kinds(model: onnx.ModelProto) -> dict[str, str]:
    """What a file says its initializers are, by name; empty where it says nothing usable."""
    text = next((p.value for p in model.metadata_props if p.key == PARAMETERS_KEY), "{}")
    try:
        kinds = json.loads(text)
        return {name: kind for kind in (TRAINABLE, FROZEN, STATE) for name in kinds.get(kind, ())}
    except (AttributeError, TypeError, ValueError):  # another tool's text
        return {}


def kind_of(name: str, value: np.ndarray, uses: Uses, made: str) -> str:
    """What an array is in a file that does not say so itself."""
    if is_statistic(name, uses):
        return STATE
    if not is_weight(name, value, uses, made):
        return CONSTANT
    return TRAINABLE if np.isfinite(value).all() else FROZEN  # a mask, say


def choose(trainable: Trainable, parameters: Sequence[Parameter]) -> None:
    """Freeze the parameters that ``trainable`` does not choose; True keeps what the file says.

    Raises:
        ArgumentError: a name is unknown, or a regular expression matches nothing.
        ArgumentTypeError: ``trainable`` is no bool, list of names, regular expression or function.
    """
    chosen = _chosen(trainable, parameters)
    for parameter in parameters:
        parameter.trainable = chosen(parameter)
        parameter.stop_gradient = not parameter.trainable


def _chosen(trainable: Trainable, parameters: Sequence[Parameter]) -> Callable[[Parameter], bool]:
    names = [p.name for p in parameters]
    if isinstance(trainable, bool):
        return lambda p: bool(trainable) and p.trainable
    if isinstance(trainable, (str, re.Pattern)):
        pattern = re.compile(trainable)
        if not any(pattern.search(name) for name in names):
            raise ArgumentError(
                f"no parameter's name matches {pattern.pattern!r}",
                fix=did_you_mean(pattern.pattern, names) or f"there are {', '.join(names[:8])}",
            )
        return lambda p: pattern.search(p.name) is not None
    if callable(trainable):
        return lambda p: bool(trainable(p))
    if not isinstance(trainable, Iterable):
        raise ArgumentTypeError(
            f"trainable is a bool, names, a regular expression or a function, not {trainable!r}"
        )
    wanted = set(trainable)
    for name in wanted - set(names):
        raise ArgumentError(
            f"the model has no parameter {name!r}",
            fix=did_you_mean(str(name), names) or f"there are {', '.join(names[:8])}",
        )
    return lambda p: p.name in wanted
