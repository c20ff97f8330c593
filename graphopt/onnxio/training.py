"""A training step as two plain ONNX files: the step, and the state it starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import to_onnx_dtype
from graphopt.onnxio.interface import complete
from graphopt.onnxio.weights import state_kinds
from graphopt.onnxio.write import inlined, ir_version, lower

STATE_KEY = "graphopt.state"


def step_model(
    step: Step, feeds: Sequence[Variable], inputs: Sequence[Variable]
) -> onnx.ModelProto:
    """The training step: inputs are feeds and state, outputs are fetches and next state.

    ``metadata_props["graphopt.state"]`` is a JSON list of {"input": name, "output": name}. A state
    tensor that the step does not assign (a constant learning rate, a frozen weight) is handed
    through, so that a driver treats all state alike.
    """
    state = [v for v in inputs if v.persistable]
    step.next_state = {v: step.next_state.get(v, v) for v in state}
    lowered = lower(step, inputs)
    pairs = [{"input": v.name, "output": lowered.next_state[v.name]} for v in state]
    model = inlined(lowered.model)
    complete(model, feeds, lowered.fetched)
    model.metadata_props.add(key=STATE_KEY, value=json.dumps(pairs))
    state_kinds(model, state)
    return model


def state_pairs(model: onnx.ModelProto) -> dict[str, str]:
    """The output that is the next value of each state input; empty if it is no training step."""
    text = next((p.value for p in model.metadata_props if p.key == STATE_KEY), "[]")
    try:
        return {pair["input"]: pair["output"] for pair in json.loads(text)}
    except (KeyError, TypeError, ValueError):  # another tool's text
        return {}


def state_model(
    values: Mapping[str, np.ndarray], opset: int
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A graph whose outputs are the state by name, and the values of its inputs.

    Written as initializers these leave it without inputs. Zeros are not stored.
    """
    graph, held = onnx.GraphProto(name="graphopt_state"), {}
    for name, value in values.items():
        elem = to_onnx_dtype(value.dtype)
        graph.output.append(onnx.helper.make_tensor_value_info(name, elem, value.shape))
        if _is_zero(value):
            _emit_zeros(graph, name, value)
            continue
        source = f"{name}@VALUE"
        held[source] = value
        graph.input.append(onnx.helper.make_tensor_value_info(source, elem, value.shape))
        graph.node.append(onnx.helper.make_node("Identity", [source], [name]))
    model = onnx.ModelProto(
        ir_version=ir_version(opset),
        producer_name="graphopt",
        graph=graph,
        opset_import=[onnx.helper.make_opsetid("", opset)],
    )
    return model, held


def _emit_zeros(graph: onnx.GraphProto, name: str, value: np.ndarray) -> None:
    """One output, made by ConstantOfShape."""
    source, shape = f"{name}@SHAPE", np.array(value.shape, np.int64)
    graph.initializer.append(onnx.numpy_helper.from_array(shape, source))
    zero = onnx.numpy_helper.from_array(np.zeros(1, value.dtype))
    graph.node.append(onnx.helper.make_node("ConstantOfShape", [source], [name], value=zero))


def state_of(model: onnx.ModelProto, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values that a ``state_model`` gives; ``stored`` are the initializers taken out of it."""
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer} | dict(stored)
    values = {}
    for node in model.graph.node:
        value = held[node.input[0]]
        if node.op_type == "ConstantOfShape":
            fill = onnx.numpy_helper.to_array(node.attribute[0].t)
            value = np.full(value.tolist(), fill.item(), fill.dtype)
        values[node.output[0]] = np.array(value)
    return values


def _is_zero(value: np.ndarray) -> bool:
    return value.size > 1 and not value.any()
