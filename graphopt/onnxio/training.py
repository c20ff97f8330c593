"""A training step as two plain ONNX files: the step, and the state it starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from graphopt.ir.program import Program
from graphopt.ir.types import to_onnx_dtype
from graphopt.ir.variable import Variable
from graphopt.onnxio.write import inlined, ir_version, lower

STATE_KEY = "graphopt.state"


def step_model(
    program: Program, inputs: Sequence[Variable], fetch: Sequence[Variable]
) -> onnx.ModelProto:
    """The training step: inputs are feeds and state, outputs are fetches and next state.

    ``metadata_props["graphopt.state"]`` is a JSON list of {"input": name, "output": name}. A state
    tensor that the step does not assign (a constant learning rate, a frozen weight) is handed
    through, so that a driver treats all state alike.
    """
    state = [v for v in inputs if v.persistable]
    lowered = lower(program, inputs, fetch, state)
    pairs = [{"input": v.name, "output": lowered.next_state[v.name]} for v in state]
    model = inlined(lowered.model)
    model.metadata_props.add(key=STATE_KEY, value=json.dumps(pairs))
    return model


def state_model(values: Mapping[str, np.ndarray], opset: int) -> onnx.ModelProto:
    """A graph without inputs whose outputs are the state by name; zeros are not stored."""
    graph = onnx.GraphProto(name="graphopt_state")
    for name, value in values.items():
        _emit(graph, name, value)
        elem = to_onnx_dtype(value.dtype)
        graph.output.append(onnx.helper.make_tensor_value_info(name, elem, value.shape))
    return onnx.ModelProto(
        ir_version=ir_version(opset),
        producer_name="graphopt",
        graph=graph,
        opset_import=[onnx.helper.make_opsetid("", opset)],
    )


def _emit(graph: onnx.GraphProto, name: str, value: np.ndarray) -> None:
    """One output: zeros made by ConstantOfShape, else an initializer behind an Identity."""
    source = f"{name}@SHAPE" if _is_zero(value) else f"{name}@VALUE"
    if _is_zero(value):
        shape = np.array(value.shape, np.int64)
        graph.initializer.append(onnx.numpy_helper.from_array(shape, source))
        zero = onnx.numpy_helper.from_array(np.zeros(1, value.dtype))
        node = onnx.helper.make_node("ConstantOfShape", [source], [name], value=zero)
    else:
        graph.initializer.append(onnx.numpy_helper.from_array(value, source))
        node = onnx.helper.make_node("Identity", [source], [name])
    graph.node.append(node)


def _is_zero(value: np.ndarray) -> bool:
    return value.size > 1 and not value.any()
