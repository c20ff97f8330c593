"""Old definitions that onnx's version converter does not carry over."""

from __future__ import annotations

import onnx
from onnx import helper


def scan_without_batch(model: onnx.ModelProto) -> None:
    """Make each Scan of opset 8, which has a batch dim in front, two nested ones, in place.

    The outer one goes through the batch; the inner one is the old one without the batch dim. Both
    keep the omitted first operand of opset 8 (lengths of sequences), which onnx's converter drops.
    """
    for node in model.graph.node:
        if node.op_type == "Scan" and not node.domain:
            if node.input[0]:
                raise ValueError("Scan with sequence_lens has no counterpart after opset 8")
            node.CopyFrom(_over_batch(node))


def _over_batch(node: onnx.NodeProto) -> onnx.NodeProto:
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    body, directions = attrs["body"], list(attrs.get("directions", []))
    operands, results = list(node.input[1:]), list(node.output)
    prefix = f"{node.name or results[0]}/batch/"
    inner = helper.make_node(
        "Scan",
        ["", *(prefix + name for name in operands)],
        [prefix + name for name in results],
        num_scan_inputs=attrs["num_scan_inputs"],
        body=body,
    )
    if any(directions):
        inner.attribute.append(helper.make_attribute("directions", directions))
    pairs = zip((*operands, *results), (*body.input, *body.output), strict=True)
    typed = [_info(prefix + name, info) for name, info in pairs]
    graph = helper.make_graph([inner], "batch", typed[: len(operands)], typed[len(operands) :])
    return helper.make_node(
        "Scan", ["", *operands], results, name=node.name, num_scan_inputs=len(operands), body=graph
    )


def _info(name: str, like: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """A value of the outer body. Its dims are left open: the converter would take one away."""
    return helper.make_tensor_value_info(name, like.type.tensor_type.elem_type, None)
