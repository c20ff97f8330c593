"""How many channels a place's convolutions keep side by side."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx

from graphopt.ops.kernels.blocked import DOMAIN, LANES
from graphopt.runtime.ort.library import failures
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.session import Session


@cache
def block_size(place: Place) -> int:
    """How many channels the kernels for convolutions keep side by side; 0 if they keep none so.

    The kernel that makes the blocks is asked: it fills the last one up.

    Args:
        place: where they are to run.
    """
    if not place.has_blocks:
        return 0
    try:
        session = Session(_reordering(), place)
    except failures():
        return 0
    binding = session.bind()
    binding.feed("x", np.zeros((1, LANES, 1, 1), np.float32))
    binding.output("y", None)
    binding.run()
    size: int = binding.outputs()[0].shape()[1]
    return size if size > LANES else 0


def _reordering() -> onnx.ModelProto:
    info = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("ReorderInput", ["x"], ["y"], domain=DOMAIN)
    x, y = (info(name, onnx.TensorProto.FLOAT, None) for name in "xy")
    graph = onnx.helper.make_graph([node], "reordering", [x], [y])
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid(DOMAIN, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
