"""What a request needs: the Step that it comes to, what goes in, and what comes out."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from graphopt.ir.edit.clone import copy_step
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.seeds import COUNTER
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import TensorType
from graphopt.onnxio.ort_gaps import UNKNOWN_OPS
from graphopt.onnxio.write import Lowered, lower
from graphopt.ops.registry.registry import FORMULAS
from graphopt.passes.draws.streams import advances, is_stream
from graphopt.passes.engine.base import Pass
from graphopt.passes.memory.asgd_rows import History, zero_tables
from graphopt.passes.memory.order import BEHIND, Schedule
from graphopt.passes.pipelines import FILE, Pipeline, Setting
from graphopt.passes.select.prune import Prune, asked_ops, assigns_state
from graphopt.runtime.ort.channel_blocks import block_size
from graphopt.runtime.ort.place import Place
from graphopt.runtime.request.fetches import Request


@dataclass(frozen=True)
class Selected:
    """The part of a Program that a request needs, before any pass; and what passes are told.

    Attributes:
        zeros: tables that the run is to make, all zero, in place of ops that it leaves out.
    """

    step: Step
    setting: Setting
    zeros: Mapping[str, TensorType] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What a run does: a Step as passes have left it.

    Attributes:
        inputs: what the Step reads: feeds, then state.
        zeros: tables that the run is to make, all zero.
        declared: the types that the user's Program declares, by name; errors show them.
        whole: the Step before its tables became rows, where it has such.
    """

    step: Step
    inputs: tuple[Variable, ...]
    setting: Setting
    pipeline: Pipeline
    zeros: Mapping[str, TensorType]
    declared: Mapping[str, TensorType]
    whole: Step | None

    def lower(self, detours: Collection[str] = ()) -> Lowered:
        """The ONNX model; the ops in ``detours`` are written as others."""
        return lower(self.step, self.inputs, detours)

    def relaid(self, **changes: Any) -> Plan:  # noqa: ANN401 - fields of Setting
        """The plan for tables in another state, with these fields of the setting changed."""
        if self.whole is None:
            return self
        setting = replace(self.setting, **changes)
        selected = Selected(copy_step(self.whole), setting, self.zeros)
        found = plan(selected, self.pipeline.since(TABLES))
        return replace(found, whole=self.whole, declared=self.declared, pipeline=self.pipeline)

    @property
    def is_scheduled(self) -> bool:
        """Whether the ops are to run in the order they are written in."""
        is_step = any(op.role in BEHIND for op in self.step.global_block().ops)
        passes = self.pipeline.passes(self.setting)
        return is_step and any(isinstance(p, Schedule) for p in passes)

    def kept_bytes(self) -> int:
        """What a run of many steps holds for each, besides what it is fed and the tables."""
        new_rows = {row.new_row for row in self.step.rows}
        kept = [v for v in self.step.stacked if v not in new_rows]
        shapes = [(v.dtype.itemsize, *(v.tensor_type.shape or ())[1:]) for v in kept]
        return sum(math.prod(d for d in dims if isinstance(d, int)) for dims in shapes)


TABLES = "History"  # the pass from which on the state of tables matters


def select(program: Program, request: Request, fed: Sequence[str], setting: Setting) -> Selected:
    """The ops that a request needs of a Program, as a Step; ``fed`` are the names of the feeds."""
    counter, roots = _roots(program, request, fed)
    setting = replace(setting, counter=counter)
    prune = Prune(_asked(request), tuple(fed), roots, assigns=request.updates != "none")
    return Selected(prune.run(program), setting)


def select_step(
    program: Program,
    request: Request,
    fed: Sequence[str],
    place: Place,
    shapes: Mapping[str, tuple[int, ...]],
) -> Selected:
    """What one run on a place needs; it makes tables of zeros itself, which a file cannot."""
    counter, roots = _roots(program, request, fed)
    roots, zeros = _without_zeros(program, request, roots)
    setting = _setting(place, shapes, fed)
    setting = replace(setting, counter=counter, by_rows=request.updates != "none")
    prune = Prune(_asked(request), tuple(fed), roots, assigns=request.updates != "none")
    return Selected(prune.run(program), setting, zeros)


def select_steps(
    program: Program,
    request: Request,
    fed: Sequence[str],
    place: Place,
    shapes: Mapping[str, tuple[int, ...]],
    varying: Sequence[str],
    by_rows: bool,
) -> Selected:
    """What a run of many steps needs; ``varying`` are states that are fed step by step."""
    setting = replace(
        _setting(place, shapes, fed), varying=tuple(varying), by_rows=by_rows, factors=False
    )
    return select(program, request, fed, setting)


def plan_file(program: Program, request: Request, fed: Sequence[str]) -> Plan:
    """The plan for a file: ops of the standard, and graphopt's updates as functions."""
    unknown = UNKNOWN_OPS | frozenset(FORMULAS)
    return plan(select(program, request, fed, Setting(unknown=unknown)), FILE)


def plan(selected: Selected, pipeline: Pipeline) -> Plan:
    """The plan for what was selected; its Step is changed in place."""
    whole: list[Step] = []
    variables = selected.step.global_block().vars.values()
    declared = {v.name: v.tensor_type for v in variables if v.maker is None}

    def keep(coming: Pass, step: Step) -> None:
        if isinstance(coming, History) and coming.needed(step):
            whole.append(copy_step(step))

    step = pipeline.run(selected.step, selected.setting, keep)
    inputs = tuple(step.inputs())
    step.in_order_of(inputs)
    return Plan(
        step,
        inputs,
        selected.setting,
        pipeline,
        selected.zeros,
        declared,
        whole[0] if whole else None,
    )


def _setting(place: Place, shapes: Mapping[str, tuple[int, ...]], fed: Sequence[str]) -> Setting:
    machine = replace(place.machine, block=block_size(place))
    known = {name: shapes[name] for name in fed if name in shapes}
    return Setting(unknown=UNKNOWN_OPS, shapes=known, machine=machine)


def _asked(request: Request) -> tuple[str | Constant, ...]:
    return tuple(v if isinstance(v, Constant) else v.name for v in request.fetch)


def _roots(program: Program, request: Request, fed: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """The step counter's name, '' if there is none, and the positions of the ops to keep.

    The counter advances in the runs that draw random numbers and may change state.
    """
    ops = program.global_block().ops
    chosen = set(request.roots)
    roots = [
        k
        for k, op in enumerate(ops)
        if op in chosen or (request.updates == "all" and assigns_state(op) and not advances(op))
    ]
    counter = [k for k, op in enumerate(ops) if advances(op)]
    variables = program.global_block().vars
    given = [variables[name] for name in fed if name in variables]
    kept = asked_ops(program, request.fetch, given, [ops[k] for k in roots])
    if request.updates != "none" and any(is_stream(op) for op in kept):
        roots += counter
    return COUNTER if counter else "", tuple(roots)


def _without_zeros(
    program: Program, request: Request, roots: Sequence[int]
) -> tuple[tuple[int, ...], dict[str, TensorType]]:
    """The roots less the ops that only fill a table with zeros; and these tables."""
    ops = program.global_block().ops
    asked = {v.name for v in request.fetch}
    found = zero_tables(program, program.tables)

    def filled(op: Operator) -> list[str]:
        return [v.name for v in op.writes() if v.name in found and v.name not in asked]

    zeros = {name: found[name] for k in roots for name in filled(ops[k])}
    return tuple(k for k in roots if not filled(ops[k])), zeros
