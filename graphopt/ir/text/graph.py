"""A Program as a networkx graph: the only door to networkx."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import networkx as nx

    from graphopt.ir.model.operator import Operator
    from graphopt.ir.model.program import Program
    from graphopt.ir.model.variable import Variable

Graph: TypeAlias = "nx.MultiDiGraph[Hashable]"


def to_networkx(program: Program) -> Graph:
    """Ops and variables as nodes, reads and writes as edges.

    A variable's node is its name (attributes: kind='var', variable). An op's node is
    ``(block, position)`` (kind='op', op, type, role). Edges carry the ``slot``. A persistable that
    is read and assigned makes a cycle through its one node.
    """
    import networkx as nx  # here, because it would be a third of the time of `import graphopt`

    graph: Graph = nx.MultiDiGraph()
    for block in program.blocks:
        for variable in block.vars.values():
            graph.add_node(variable.name, kind="var", variable=variable)
        for position, op in enumerate(block.ops):
            node = (block.idx, position)
            graph.add_node(node, kind="op", op=op, type=op.type, role=str(op.role))
            for slot, v in _read_slots(op):
                graph.add_node(v.name, kind="var", variable=v)
                graph.add_edge(v.name, node, slot=slot)
            for slot, results in op.definition.result_slots(op.outputs).items():
                graph.add_edges_from(
                    (node, v.name, {"slot": slot}) for v in results if v is not None
                )
    return graph


def _read_slots(op: Operator) -> Iterator[tuple[str, Variable]]:
    """Operands with their formal inputs, then what the op's blocks read around them, with ''."""
    for slot, operands in op.definition.slots(op.inputs).items():
        yield from ((slot, v) for v in operands if v is not None)
    for block in op.blocks():
        yield from (("", v) for v in block.captures())
