"""Old definitions that onnx's version converter does not carry over."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

RESIZES = {"Upsample", "Resize"}


def scan_without_batch(model: onnx.ModelProto) -> None:
    """Make each Scan of opset 8, which has a batch dim in front, two nested ones, in place.

    The outer one goes through the batch; the inner one is the old one without the batch dim. Both
    keep the omitted first operand of opset 8 (lengths of sequences), which onnx's converter drops.

    Raises:
        ValueError: a Scan has lengths of sequences, for which there is nothing after opset 8.
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


def hardmax_of_rows(graph: onnx.GraphProto) -> None:
    """Replace each Hardmax of before opset 13: it takes all dims from axis on as one."""
    nodes = []
    for node in graph.node:
        if node.op_type != "Hardmax" or node.domain:
            nodes.append(node)
            continue
        x, y = node.input[0], node.output[0]
        axis = next((a.i for a in node.attribute), 1)
        shape, rows, found = f"{y}/shape", f"{y}/rows", f"{y}/found"
        nodes += [
            helper.make_node("Shape", [x], [shape]),
            helper.make_node("Flatten", [x], [rows], axis=axis),
            helper.make_node("Hardmax", [rows], [found], name=node.name, axis=1),
            helper.make_node("Reshape", [found, shape], [y]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def resized(graph: onnx.GraphProto) -> list[str]:
    """The results of a graph's Upsample and Resize nodes, in order."""
    return [n.output[0] for n in graph.node if n.op_type in RESIZES and not n.domain]


def resize_as_before(graph: onnx.GraphProto, results: list[str]) -> dict[str, str]:
    """Give converted Resize nodes the meaning they had before opset 11.

    Returns the names that their results had, by what the converter calls them.

    Raises:
        ValueError: a node enlarges one dim and shrinks another.
    """
    nodes = [n for n in graph.node if n.op_type == "Resize" and not n.domain]
    for node in nodes:
        rounding = "ceil" if _shrinks(graph, node.input[2]) else "floor"
        node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
        node.attribute.append(helper.make_attribute("nearest_mode", rounding))
    return {node.output[0]: name for node, name in zip(nodes, results, strict=True)}


def _shrinks(graph: onnx.GraphProto, name: str) -> bool:
    """Whether the scales of a Resize are constants below 1, where onnxruntime rounds up.

    Raises:
        ValueError: it enlarges one dim and shrinks another, which a Resize cannot round both ways.
    """
    tensors = [t for t in graph.initializer if t.name == name]
    tensors += [
        n.attribute[0].t for n in graph.node if name in n.output and n.op_type == "Constant"
    ]
    scales = [s for t in tensors for s in numpy_helper.to_array(t).tolist()]
    if scales and min(scales) < 1 < max(scales):
        raise ValueError("a Resize enlarges one dim and shrinks another")
    return bool(scales) and min(scales) < 1


def rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Use other names for values."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
