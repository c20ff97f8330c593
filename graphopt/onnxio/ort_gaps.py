"""Where onnxruntime does not do what ONNX says: the detours, each with a test in tests/upstream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx

from graphopt.ir.model.operator import Operator
from graphopt.ir.types.types import from_onnx_dtype, to_onnx_dtype

NEWEST_OPSET = 26  # of ai.onnx, that onnxruntime loads
TRAINING = "ai.onnx.preview.training"
# What it does not know at all; graphs hold what these ops are made of instead.
UNKNOWN_OPS = frozenset(
    {"CausalConvWithState", "LinearAttention", "SwiGLU", "ai.onnx.preview::FlexAttention",
     f"{TRAINING}::Adagrad", f"{TRAINING}::Adam", f"{TRAINING}::Momentum"}
)  # fmt: skip
SLOTS = ("X", "scale", "input_mean")
RUNNING = slice(3, 5)  # BatchNormalization's operands input_mean and input_var


def own_running_statistics(
    op: Operator,
    operands: list[str],
    results: Sequence[str],
    outputs: set[str],
    free: Callable[[str], str] = str,
) -> list[onnx.NodeProto]:
    """Nodes that give a training-mode BatchNormalization copies of its running statistics.

    onnxruntime's CPU kernel writes running_mean and running_var over the operands' memory unless
    the results are outputs of the graph: the state in the scope, or the first value of a statistic
    that two layers share, would change under the reader. Two negations are a copy that its
    optimizer keeps. ``operands`` is changed in place; ``free`` makes a name one that is not taken.
    """
    if op.type != "BatchNormalization" or not op.attrs["training_mode"]:
        return []
    if set(results[1:3]) <= outputs:
        return []
    nodes = []
    for k in range(RUNNING.start, RUNNING.stop):
        name, between = free(f"{results[0]}@RUNNING{k}"), free(f"{results[0]}@RUNNING{k}@NEG")
        for source, target in ((operands[k], between), (between, name)):
            nodes.append(
                onnx.NodeProto(op_type="Neg", name=target, input=[source], output=[target])
            )
        operands[k] = name
    return nodes


def batch_normalization(
    op: Operator,
    operands: Sequence[str],
    results: Sequence[str],
    free: Callable[[str], str] = str,
) -> list[onnx.NodeProto]:
    """A training-mode BatchNormalization in other ops; empty for one that does not train.

    onnxruntime's CUDA provider has no kernel for it since opset 14.

        mean = mean(X), variance = mean((X - mean)^2)     over all dims but the second
        Y = (X - mean) scale / sqrt(variance + epsilon) + B
        running' = momentum running + (1 - momentum) batch's
    """
    x = op.maybe("X")
    if x is None or not op.attrs["training_mode"] or x.tensor_type.shape is None:
        return []
    types = {slot: to_onnx_dtype(op.operand(slot).dtype) for slot in SLOTS}
    data, *factors, _, _ = operands
    running = operands[RUNNING]
    n = _Nodes(free(f"{results[0]}@BATCH"))
    axes = n("Constant", value_ints=[k for k in range(x.ndim) if k != 1])
    column = n("Constant", value_ints=[-1, *[1] * (x.ndim - 2)])  # [c, 1, …]
    wide = n.cast(data, types["X"], types["input_mean"])
    mean = n("ReduceMean", wide, axes)
    centred = n("Sub", wide, mean)
    variance = n("ReduceMean", n("Mul", centred, centred), axes)
    epsilon = n.number(op.attrs["epsilon"], types["input_mean"])
    unit = n("Div", centred, n("Sqrt", n("Add", variance, epsilon)))
    scale, shift = (
        n("Reshape", n.cast(name, types["scale"], types["input_mean"]), column) for name in factors
    )
    y = n("Add", n("Mul", unit, scale), shift)
    n("Cast", y, out=results[0], to=types["X"])
    momentum = op.attrs["momentum"]
    kept, new = (n.number(share, types["input_mean"]) for share in (momentum, 1 - momentum))
    for old, batch, result in zip(running, (mean, variance), results[1:3], strict=False):
        if result:
            flat = n("Reshape", batch, n("Constant", value_ints=[-1]))
            n("Add", n("Mul", old, kept), n("Mul", flat, new), out=result)
    return n.made


# Types of ops that some provider has no kernel for, and the nodes to write instead: of an op, its
# operands' names, its results' names and what makes names free; none to write it as it is.
Detour: TypeAlias = Callable[
    [Operator, Sequence[str], Sequence[str], Callable[[str], str]], list[onnx.NodeProto]
]
DETOURS: Mapping[str, Detour] = {"BatchNormalization": batch_normalization}


class _Nodes:
    """Nodes under a common prefix: ``n("Add", a, b)`` makes one and gives its result's name."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.made: list[onnx.NodeProto] = []

    def __call__(self, type: str, *operands: str, out: str = "", **attrs: Any) -> str:  # noqa: ANN401
        name = out or f"{self.prefix}/{len(self.made)}"
        self.made.append(onnx.helper.make_node(type, operands, [name], f"{name}/node", **attrs))
        return name

    def number(self, value: float, dtype: int) -> str:
        """A scalar."""
        array = np.array(value, from_onnx_dtype(dtype))
        return self("Constant", value=onnx.numpy_helper.from_array(array))

    def cast(self, name: str, dtype: int, wanted: int) -> str:
        """A value as another dtype; itself if it is that."""
        return name if dtype == wanted else self("Cast", name, to=wanted)
