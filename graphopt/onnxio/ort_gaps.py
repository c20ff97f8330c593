"""Where onnxruntime does not do what ONNX says: the detours, each with a test in tests/upstream."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from graphopt.ir.operator import Operator

NEWEST_OPSET = 26  # of ai.onnx, that onnxruntime loads
TRAINING = "ai.onnx.preview.training"
# What it does not know at all; graphs hold what these ops are made of instead.
UNKNOWN_OPS = frozenset(
    {"CausalConvWithState", "LinearAttention", "SwiGLU", "ai.onnx.preview::FlexAttention",
     f"{TRAINING}::Adagrad", f"{TRAINING}::Adam", f"{TRAINING}::Momentum"}
)  # fmt: skip
RUNNING = slice(3, 5)  # BatchNormalization's operands input_mean and input_var


def own_running_statistics(
    op: Operator, operands: list[str], results: Sequence[str], outputs: set[str]
) -> list[onnx.NodeProto]:
    """Nodes that give a training-mode BatchNormalization copies of its running statistics.

    onnxruntime's CPU kernel writes running_mean and running_var over the operands' memory unless
    the results are outputs of the graph: the state in the scope, or the first value of a statistic
    that two layers share, would change under the reader. Two negations are a copy that its
    optimizer keeps. ``operands`` is changed in place.
    """
    if op.type != "BatchNormalization" or not op.attrs["training_mode"]:
        return []
    if set(results[1:3]) <= outputs:
        return []
    nodes = []
    for k in range(RUNNING.start, RUNNING.stop):
        name = f"{results[0]}@RUNNING{k}"
        for source, target in ((operands[k], f"{name}@NEG"), (f"{name}@NEG", name)):
            nodes.append(
                onnx.NodeProto(op_type="Neg", name=target, input=[source], output=[target])
            )
        operands[k] = name
    return nodes
