"""The order of nodes in which onnxruntime loads a long graph quickly.

Its optimizers sort the graph anew, each of them, by a list of the nodes whose operands are made:
it takes the one that is written first, and walks the whole list to put another in. A derivative
that needs nothing but activations waits there for all of the backward part, so loading is
quadratic: 50,000 ops of forward take minutes. Where every node is written as soon as it can be,
the list stays short, and the same sorts are linear. Nodes of functions would come last of all, so
calls are replaced by what they do.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from heapq import heappop, heappush

import onnx

from graphopt.onnxio.functions import DOMAIN

WALKED = 1_000_000  # nodes of the list, in one sort: half a second over all of them


def written_early(model: onnx.ModelProto) -> bool:
    """Reorder the graphs that onnxruntime would sort slowly, in place; whether there were any.

    >>> from onnx import parser
    >>> text = "t{0} = Tanh(t{1}) "
    >>> steps = [text.format(k + 1, k) for k in range(1500)]
    >>> backs = [f"g{k} = Mul(t{k}, t{k}) " for k in range(1, 1501)]
    >>> model = parser.parse_model(
    ...     '<ir_version: 10, opset_import: ["": 21]>'
    ...     "g (float t0) => (float g1500) {" + "".join(steps + backs) + "}"
    ... )
    >>> written_early(model)
    True
    >>> [node.output[0] for node in model.graph.node][:5]
    ['t1', 'g1', 't2', 'g2', 't3']
    >>> written_early(model)
    False
    """
    functions = {f.name: f for f in model.functions if all(map(_is_plain, f.node))}
    return sum([_rewrite(graph, functions) for graph in list(_graphs(model.graph))]) > 0


def loads_slowly(model: onnx.ModelProto) -> bool:
    """Whether onnxruntime would sort a graph slowly, in the order in which it is written."""
    return any(_is_slow(graph.node) for graph in _graphs(model.graph))


def _is_slow(nodes: Sequence[onnx.NodeProto]) -> bool:
    return len(nodes) ** 2 / 2 >= WALKED and _Edges(nodes).walked() >= WALKED


def _rewrite(graph: onnx.GraphProto, functions: Mapping[str, onnx.FunctionProto]) -> bool:
    if len(graph.node) ** 2 / 2 < WALKED:
        return False
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        function = functions.get(node.op_type) if node.domain == DOMAIN else None
        nodes += [node] if function is None else _called(node, function)
    edges = _Edges(nodes)
    if edges.walked() < WALKED:
        return False
    ordered = [nodes[k] for k in edges.early()]
    if len(nodes) == len(graph.node) and all(map(operator.is_, ordered, nodes)):
        return False
    del graph.node[:]
    graph.node.extend(ordered)
    return True


def _is_plain(node: onnx.NodeProto) -> bool:
    """Whether a node of a function means the same outside of it."""
    return (
        node.domain != DOMAIN
        and not _bodies(node)
        and not any(a.ref_attr_name for a in node.attribute)
    )


def _called(call: onnx.NodeProto, function: onnx.FunctionProto) -> list[onnx.NodeProto]:
    """The nodes that do what a call does; by its name in theirs a failure finds the user's op."""
    names = {"": "", **dict(zip(function.input, call.input, strict=True))}
    names |= zip(function.output, call.output, strict=True)
    made = []
    for k, inner in enumerate(function.node):
        node = onnx.NodeProto()
        node.CopyFrom(inner)
        node.name = f"{call.name}@{k}"
        for values in (node.input, node.output):
            values[:] = [names.get(name, f"{call.name}@{name}") for name in values]
        made.append(node)
    return made


class _Edges:
    """Which nodes of a graph wait for which, by their positions."""

    def __init__(self, nodes: Sequence[onnx.NodeProto]) -> None:
        made = {name: k for k, node in enumerate(nodes) for name in node.output}
        made.pop("", None)
        self.readers: list[list[int]] = [[] for _ in nodes]
        self.missing: list[int] = []  # operands, as long as nothing has run
        for k, node in enumerate(nodes):
            sources = {made[name] for name in _reads(node) if name in made}
            self.missing.append(len(sources))
            for source in sources:
                self.readers[source].append(k)

    def walked(self) -> int:
        """How many nodes of its list onnxruntime passes by in one sort."""
        missing, ready, total = list(self.missing), self._roots(), 0
        while ready:
            for k in self._freed(heappop(ready), missing):
                total += len(ready)
                heappush(ready, k)
        return total

    def early(self) -> list[int]:
        """The new order: first what waits for nothing, then always what became ready last."""
        missing, ready, order = list(self.missing), list[int](), self._roots()
        for k in order:
            ready += self._freed(k, missing)
        while ready:
            order.append(ready.pop())
            ready += self._freed(order[-1], missing)
        return order

    def _roots(self) -> list[int]:
        return [k for k, count in enumerate(self.missing) if not count]

    def _freed(self, done: int, missing: list[int]) -> list[int]:
        freed = []
        for k in self.readers[done]:
            missing[k] -= 1
            if not missing[k]:
                freed.append(k)
        return freed


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all bodies in it."""
    yield graph
    for node in graph.node:
        for body in _bodies(node):
            yield from _graphs(body)


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


def _reads(node: onnx.NodeProto) -> set[str]:
    """The names that a node, or a body of it, reads."""
    names = set(node.input)
    for body in _bodies(node):
        for inner in body.node:
            names |= _reads(inner)
        names.update(result.name for result in body.output)
    return names
