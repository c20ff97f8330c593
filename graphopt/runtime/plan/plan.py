"""What a request needs: the pruned Program, what goes in, what comes out, and what it assigns."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace

from graphopt.ir.model.program import Program
from graphopt.ir.model.seeds import COUNTER
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import TensorType
from graphopt.onnxio.ort_gaps import UNKNOWN_OPS
from graphopt.onnxio.write import Lowered, lower
from graphopt.ops.registry.registry import FORMULAS
from graphopt.passes.draws.streams import Streams, advances, is_stream
from graphopt.passes.engine.base import DUMP, Pass, Pipeline
from graphopt.passes.memory.asgd_rows import History, Table, apart, find_tables, zero_tables
from graphopt.passes.memory.group_updates import GroupUpdates
from graphopt.passes.memory.order import BEHIND, Schedule
from graphopt.passes.memory.overwrite import InPlace, Overwritten, overwritten
from graphopt.passes.memory.step_in_blocks import StepInBlocks, aliases
from graphopt.passes.pipelines import at_once
from graphopt.passes.select.decompose import Decompose
from graphopt.passes.select.inline import Inline
from graphopt.passes.select.prune import Prune, assigns_state, free_variables, needed_ops
from graphopt.passes.steps.scan import ROWS, STEPS, Repeat
from graphopt.runtime.ort.channel_blocks import block_size
from graphopt.runtime.ort.place import Place
from graphopt.runtime.request.fetches import Request

WITHOUT = "GRAPHOPT_WITHOUT"


class Plan:
    """What a request needs: the pruned Program, its inputs, and the state it assigns."""

    def __init__(self, program: Program, request: Request, fed: Sequence[str]) -> None:
        # Names and values only: the request's variables would keep the user's Program alive.
        self.updates = request.updates
        self.constants = {v.name: v.value for v in request.fetch if isinstance(v, Constant)}
        self.fed = tuple(fed)
        self.kept = tuple(v.name for v in request.fetch)
        counter, roots = _roots(program, request, self.kept, fed)
        prune = Prune(fetch=self.kept, feed=self.fed, roots=self._needed(program, roots))
        passes = [prune, Streams(counter), *self._rewrites()]
        self._finish(Pipeline("step", *passes).run(program))

    def _finish(self, program: Program) -> None:
        self._settle(program, self.kept)

    def _settle(self, program: Program, fetch: Sequence[str]) -> None:
        """Take note of what goes into a Program, what comes out of it and what it assigns."""
        self.program, block = program, program.global_block()
        self.fetch = [
            program.constant(self.constants[name], name)
            if name in self.constants
            else block.var(name)
            for name in fetch
        ]
        self.inputs = self._inputs()
        assigned = {id(v): v for op in block.ops for v in op.writes() if v.persistable}
        order = {v.name: k for k, v in enumerate(self.inputs)}
        self.state = sorted(assigned.values(), key=lambda v: order.get(v.name, len(order)))
        if self.updates == "none":
            self.state = []

    def _needed(self, program: Program, roots: tuple[int, ...]) -> tuple[int, ...]:
        return roots

    def _rewrites(self) -> Sequence[Pass]:
        """Files hold ops of the standard, and graphopt's updates as functions."""
        return [Decompose(UNKNOWN_OPS | frozenset(FORMULAS))]

    def _inputs(self) -> list[Variable]:
        """What no op makes: feeds in the order they were given, then state in the order of use."""
        block = self.program.global_block()
        made = {id(v) for op in block.ops for v in op.writes()}
        inputs = {id(v): v for v in free_variables(self.program)}
        for name in self.fed:
            if name in block.vars and id(block.vars[name]) in made:
                inputs.setdefault(id(block.vars[name]), block.vars[name])
        for v in self.fetch:
            if id(v) not in made and not isinstance(v, Constant):
                inputs.setdefault(id(v), v)
        position = {name: k for k, name in enumerate(self.fed)}
        return sorted(
            inputs.values(),
            key=lambda v: (
                v.persistable and v.name not in position,
                position.get(v.name, len(position)),
            ),
        )

    def lower(self, detours: Collection[str] = ()) -> Lowered:
        """The ONNX model; the ops in ``detours`` are written as others."""
        return lower(self.program, self.inputs, self.fetch, self.state, detours=detours)


class StepPlan(Plan):
    """A plan for one place: it may hold what only the runtime can do there, so no file does.

    ``shapes`` of fed variables, where they are known, stand in for their open dims. ``tables`` are
    the states whose rows the runtime moves, ``zeros`` those that it is to make, all zero.
    """

    def __init__(
        self,
        program: Program,
        request: Request,
        fed: Sequence[str],
        place: Place,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.place = place
        self.shapes = dict(shapes or {})
        self.zeros: dict[str, TensorType] = {}
        self.storages = program.tables
        super().__init__(program, request, fed)
        own = program.global_block().vars
        self.declared = {v.name: own[v.name].tensor_type for v in self.inputs if v.name in own}

    def _finish(self, program: Program) -> None:
        moves = self._moves_rows() and "History" not in left_out()
        keep = (*self.kept, *self.fed)
        self._over_rows(program, find_tables(program, keep, self._factored()) if moves else [])

    def _factored(self) -> list[str]:
        """The tables that may be kept as factors: those for which no other place was asked."""
        return [name for name, storage in self.storages.items() if storage == "device"]

    def _over_rows(self, program: Program, found: Sequence[Table]) -> None:
        self.whole, self.found, self.tables = program, list(found), list(found)
        rows = {table.row: table.new_row for table in found}
        program = _pipeline("rows", History(tuple(found)), GroupUpdates()).run(program)
        order = _pipeline("order", *self._order(rows))
        self._settle(order.run(program), self.kept)
        in_place = order.passes and "InPlace" not in left_out()
        is_step = any(op.role in BEHIND for op in self.program.global_block().ops)
        self.scheduled = is_step and any(isinstance(p, Schedule) for p in order.passes)
        self.over = overwritten(self.program, rows) if in_place else Overwritten()
        variables = self.program.global_block().vars
        self.new_rows = [variables[table.new_row] for table in self.tables]
        # Variables that are written to the memory of a state, before it or in another shape.
        self.aliases = {**self.over.rests, **aliases(self.program)}
        self.aliasing = [variables[name] for name in self.aliases]

    def _order(self, rows: Mapping[str, str]) -> Sequence[Pass]:
        """What lets large states be written over where they lie, if the place was measured so."""
        if not self.place.machine.in_place:
            return []
        return [InPlace(rows), StepInBlocks(block_size(self.place), self.kept), Schedule()]

    def laid_out(self) -> StepPlan:
        """This plan for tables that are not factors, such as loaded ones."""
        plan = copy(self)
        plan._over_rows(self.whole, find_tables(self.whole, (*self.kept, *self.fed)))
        return plan

    def apart(self) -> StepPlan:
        """This plan for tables whose steps were counted apart."""
        plan = copy(self)
        plan._over_rows(self.whole, apart(self.found))
        return plan

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

    def _rewrites(self) -> Sequence[Pass]:
        known = {name: self.shapes[name] for name in self.fed if name in self.shapes}
        # One by one where each is to be seen, else in one go.
        machine = replace(self.place.machine, block=block_size(self.place))
        whole = at_once(known, self.kept, self.fed, left_out(), machine)
        chosen = whole.steps if os.environ.get(DUMP) else [whole]
        return [Decompose(UNKNOWN_OPS), *chosen]

    def _moves_rows(self) -> bool:
        return self.updates != "none"

    def lower(self, detours: Collection[str] = ()) -> Lowered:
        """The ONNX model; the ops in ``detours`` are written as others.

        Behind the fetches are the new rows of tables, and what takes a state's place meanwhile.
        """
        fetch = [*self.fetch, *self.new_rows, *self.aliasing]
        return lower(self.program, self.inputs, fetch, self.state, detours=detours)


class StepsPlan(StepPlan):
    """A plan for many steps in one run: the Program of one step as the body of a Scan.

    ``varying`` are states that are fed step by step; ``by_rows`` says whether tables are moved by
    the runtime (``found``: then no call may take more steps than a table has rows) or carried
    from step to step. ``turn`` is how many rows they have where a call takes whole turns of them.
    """

    turn = 0

    def __init__(
        self,
        program: Program,
        request: Request,
        fed: Sequence[str],
        place: Place,
        shapes: Mapping[str, tuple[int, ...]],
        varying: Sequence[str],
        by_rows: bool,
    ) -> None:
        self.by_rows = by_rows
        self.varying = tuple(varying)
        super().__init__(program, request, fed, place, shapes)

    def _over_rows(self, program: Program, found: Sequence[Table]) -> None:
        super()._over_rows(program, found)
        self.step, self.step_inputs, self.tables = self.program, self.inputs, []
        chosen = {v.name: v.name + STEPS for v in self.fetch if not isinstance(v, Constant)}
        suffix = ROWS if self.turn else STEPS
        self.row = {t.row: t.row + suffix for t in self.found}
        self.new_row = {t.new_row: t.new_row + suffix for t in self.found}
        if self.turn:
            rows = tuple(zip(self.row, self.new_row, strict=True))
            repeat = Repeat(tuple(chosen), self.varying, rows, self.turn)
        else:
            repeat = Repeat(tuple(chosen | self.new_row), self.varying)
        self.new_rows = []
        self._settle(
            repeat.run(Inline().run(self.program)),
            list(dict.fromkeys([*chosen.values(), *self.new_row.values()])),
        )

    def kept_bytes(self) -> int:
        """What a call holds for each of its steps, besides what it is fed and the tables."""
        own = [v for v in self.program.global_block().vars.values() if STEPS in v.name]
        kept = [v for v in own if not v.is_data and v.name not in self.new_row.values()]
        shapes = [(v.dtype.itemsize, *(v.tensor_type.shape or ())[1:]) for v in kept]
        return sum(math.prod(d for d in dims if isinstance(d, int)) for dims in shapes)

    def in_turns(self, turn: int) -> StepsPlan:
        """This plan for calls that take any number of turns of ``turn`` steps."""
        plan = copy(self)
        plan.turn = turn
        plan._over_rows(self.whole, self.found)
        return plan

    def _needed(self, program: Program, roots: tuple[int, ...]) -> tuple[int, ...]:
        return roots

    def _moves_rows(self) -> bool:
        return self.by_rows

    def _factored(self) -> list[str]:
        return []

    def _order(self, rows: Mapping[str, str]) -> Sequence[Pass]:
        return []


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


def _pipeline(name: str, *passes: Pass) -> Pipeline:
    without = left_out()
    return Pipeline(name, *(p for p in passes if type(p).__name__ not in without))


def left_out() -> frozenset[str]:
    """The passes that ``GRAPHOPT_WITHOUT`` names, to see what each is good for."""
    return frozenset(os.environ.get(WITHOUT, "").replace(",", " ").split())
