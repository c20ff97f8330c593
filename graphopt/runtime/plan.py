"""What a request needs: the pruned Program, what goes in, what comes out, and what it assigns."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from graphopt.ir.program import Program
from graphopt.ir.seeds import COUNTER
from graphopt.ir.types import TensorType
from graphopt.ir.variable import Constant, Variable
from graphopt.onnxio.ort_gaps import UNKNOWN_OPS
from graphopt.onnxio.write import Lowered, lower
from graphopt.passes.base import Pass, Pipeline
from graphopt.passes.decompose import Decompose
from graphopt.passes.history import History, tables, zero_tables
from graphopt.passes.prune import Prune, assigns_state, free_variables, needed_ops
from graphopt.passes.step import optimisations
from graphopt.passes.streams import Streams, advances, is_stream
from graphopt.runtime.request import Request

WITHOUT = "GRAPHOPT_WITHOUT"


class Plan:
    """What a request needs: the pruned Program, its inputs, and the state it assigns."""

    def __init__(self, program: Program, request: Request, fed: Sequence[str]) -> None:
        self.fed = frozenset(fed)
        self.kept = tuple(v.name for v in request.fetch)
        counter, roots = _roots(program, request, self.kept, fed)
        prune = Prune(fetch=self.kept, feed=tuple(fed), roots=self._needed(program, roots))
        passes = [prune, Streams(counter), Decompose(UNKNOWN_OPS), *self._optimisations()]
        self.program = Pipeline("step", *passes).run(program)
        block = self.program.global_block()
        self.fetch = [
            self.program.constant(v.value, v.name) if isinstance(v, Constant) else block.var(v.name)
            for v in request.fetch
        ]
        assigned = {id(v): v for op in block.ops for v in op.writes() if v.persistable}
        self.inputs = self._inputs(fed)
        order = {v.name: k for k, v in enumerate(self.inputs)}
        self.state = sorted(assigned.values(), key=lambda v: order.get(v.name, len(order)))
        if request.updates == "none":
            self.state = []

    def _needed(self, program: Program, roots: tuple[int, ...]) -> tuple[int, ...]:
        return roots

    def _optimisations(self) -> Sequence[Pass]:
        return ()

    def _inputs(self, fed: Sequence[str]) -> list[Variable]:
        """What no op makes: feeds in the order they were given, then state in the order of use."""
        block = self.program.global_block()
        made = {id(v) for op in block.ops for v in op.writes()}
        inputs = {id(v): v for v in free_variables(self.program)}
        for name in fed:
            if name in block.vars and id(block.vars[name]) in made:
                inputs.setdefault(id(block.vars[name]), block.vars[name])
        for v in self.fetch:
            if id(v) not in made and not isinstance(v, Constant):
                inputs.setdefault(id(v), v)
        position = {name: k for k, name in enumerate(fed)}
        return sorted(
            inputs.values(),
            key=lambda v: (
                v.persistable and v.name not in position,
                position.get(v.name, len(position)),
            ),
        )

    def lower(self, device: str = "cpu") -> Lowered:
        """The ONNX model, as it runs on a device."""
        return lower(self.program, self.inputs, self.fetch, self.state, device=device)


class StepPlan(Plan):
    """A plan for the runtime: it may hold what only the runtime can do, so no file does.

    ``shapes`` of fed variables, where they are known, stand in for their open dims. ``tables`` are
    the states whose rows the runtime moves, ``zeros`` those that it is to make, all zero.
    """

    def __init__(
        self,
        program: Program,
        request: Request,
        fed: Sequence[str],
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.shapes = dict(shapes or {})
        self.zeros: dict[str, TensorType] = {}
        self.updates = request.updates
        self.storages = program.tables
        super().__init__(program, request, fed)
        own = program.global_block().vars
        self.declared = {v.name: own[v.name].tensor_type for v in self.inputs if v.name in own}
        self.tables = tables(self.program)
        variables = self.program.global_block().vars
        self.new_rows = [variables[t.new_row] for t in self.tables]

    def _needed(self, program: Program, roots: tuple[int, ...]) -> tuple[int, ...]:
        """The roots less the ops that only fill a table with zeros: its rows are made here."""
        found = zero_tables(program, program.tables)
        ops = program.global_block().ops
        filling = [k for k in roots if any(v.name in found for v in ops[k].writes())]
        if len(filling) == len(roots):
            return roots
        self.zeros = {v.name: v.tensor_type for k in filling for v in ops[k].writes()
                      if v.name not in self.kept}  # fmt: skip
        return tuple(k for k in roots if not any(v.name in self.zeros for v in ops[k].writes()))

    def _optimisations(self) -> Sequence[Pass]:
        known = {name: self.shapes[name] for name in self.fed if name in self.shapes}
        passes = [*optimisations(known, self.kept, self.fed, left_out())]
        if self.updates != "none":
            passes.append(History((*self.kept, *self.fed)))
        return passes

    def lower(self, device: str = "cpu") -> Lowered:
        """The ONNX model, as it runs on a device; behind the fetches, the new rows of tables."""
        fetch = [*self.fetch, *self.new_rows]
        return lower(self.program, self.inputs, fetch, self.state, device=device)


def _roots(
    program: Program, request: Request, names: Sequence[str], fed: Sequence[str]
) -> tuple[str, tuple[int, ...]]:
    """The step counter's name, '' if there is none, and the positions of the ops to keep.

    The counter advances in the runs that draw random numbers and may change state.
    """
    ops = program.global_block().ops
    chosen = {id(op) for op in request.roots}
    roots = [
        k
        for k, op in enumerate(ops)
        if id(op) in chosen or (request.updates == "all" and assigns_state(op) and not advances(op))
    ]
    counter = [k for k, op in enumerate(ops) if advances(op)]
    kept = needed_ops(program, names, fed, [ops[k] for k in roots])
    if request.updates != "none" and any(is_stream(op) for op in kept):
        roots += counter
    return COUNTER if counter else "", tuple(roots)


def left_out() -> frozenset[str]:
    """The passes that ``GRAPHOPT_WITHOUT`` names, to see what each is good for."""
    return frozenset(os.environ.get(WITHOUT, "").replace(",", " ").split())
