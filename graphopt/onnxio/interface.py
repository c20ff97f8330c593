"""The inputs and outputs of a file: those that were asked for, in that order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx

from graphopt.ir.model.variable import Variable
from graphopt.onnxio.write import value_info


def complete(model: onnx.ModelProto, feeds: Sequence[Variable], fetched: Sequence[str]) -> None:
    """Put every feed, needed or not, in front of the inputs, and every fetch before the outputs.

    A fetch that is asked for again is a copy under another name.
    """
    graph = model.graph
    inputs = {v.name: value_info(v.name, v.tensor_type) for v in feeds}
    inputs.update((i.name, i) for i in _copies(graph.input))
    outputs = {o.name: o for o in _copies(graph.output)}
    asked: dict[str, onnx.ValueInfoProto] = {}
    for name in fetched:
        output = _copy(graph, outputs[name]) if name in asked else outputs[name]
        asked[output.name] = output
    _replace(graph.input, inputs.values())
    _replace(graph.output, (asked | outputs).values())


def under_own_names(model: onnx.ModelProto, outputs: Mapping[str, Variable]) -> None:
    """Give outputs that are also inputs, weights or constants their own names, without copies."""
    copies = {o.name: outputs[o.name].name for o in model.graph.output if o.name in outputs}
    copies = {copy: own for copy, own in copies.items() if copy != own}
    for output in model.graph.output:
        output.name = copies.get(output.name, output.name)
    for node in [node for node in model.graph.node if node.output[0] in copies]:
        model.graph.node.remove(node)


def _copy(graph: onnx.GraphProto, output: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    """An Identity of an output, under the first free name."""
    taken = {name for node in graph.node for name in node.output}
    taken |= {v.name for v in (*graph.input, *graph.initializer)}
    number = 1
    while (name := f"{output.name}_{number}") in taken:
        number += 1
    graph.node.add(op_type="Identity", name=name, input=[output.name], output=[name])
    return onnx.ValueInfoProto(name=name, type=output.type)


def _copies(values: Iterable[onnx.ValueInfoProto]) -> list[onnx.ValueInfoProto]:
    """Copies of values, which stay valid when the field that holds these is emptied."""
    return [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in values]


def _replace(field: object, values: Iterable[onnx.ValueInfoProto]) -> None:
    kept = list(values)
    del field[:]  # type: ignore[attr-defined]
    field.extend(kept)  # type: ignore[attr-defined]
