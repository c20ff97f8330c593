"""Many steps in one onnxruntime call: what ``Executor.run_steps`` runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from graphopt.errors import ArgumentError, FeedError
from graphopt.ir.model.program import Rate
from graphopt.passes.steps.scan import NUMBER, STEPS
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.values import to_numpy
from graphopt.runtime.plan.plan import StepsPlan
from graphopt.runtime.run.compiled import CompiledProgram, missing
from graphopt.runtime.state.scope import Scope
from graphopt.runtime.state.tables import Tables

CALL_BYTES = 2**28  # that one call is fed at most, or holds for all its steps: more is cut up
TURN_BYTES = 2**24  # of tables that a call carries from turn to turn: a turn of more takes long
FEW_ROWS = 8  # tables of fewer rows are carried through a long run: calls would be too short


def count_steps(feed: Mapping[str, Any], steps: int | None) -> int:
    """The first dim, which all fed arrays share.

    Raises:
        FeedError: they do not, or one has no dims.
        ArgumentError: neither feeds nor ``steps`` say how many.
    """
    lengths = {name: len(a) if np.ndim(a) else None for name, a in feed.items()}
    if steps is not None:
        lengths["steps"] = steps
    if None in lengths.values() or len(set(lengths.values())) > 1:
        raise FeedError(
            "the fed arrays have not one first dim, the steps",
            operands=[
                (name, "no dims" if n is None else f"{n} steps") for name, n in lengths.items()
            ],
            fix="stack the feeds of all steps: np.stack([batch for batch in …])",
        )
    (count,) = set(lengths.values()) or {None}
    if count is None or count < 1:
        raise ArgumentError("run_steps runs at least one step", fix="feed some, or give steps=…")
    return count


class CompiledSteps:
    """A Program of one step, compiled to run any number of them."""

    def __init__(self, plan: StepsPlan, place: Place) -> None:
        self.plan, self.place = plan, place
        self.tables = Tables(plan.found, plan.step, plan.storages, place)
        self.limit = min([counts.n for counts in self.tables.counts.values()], default=None)
        self.turn = self._turn()
        self.kept_bytes = plan.kept_bytes()
        self._apart: CompiledSteps | None = None
        self.constants = plan.constants
        self.feeds = [v for v in plan.step_inputs if not v.persistable or v.name in plan.fed]

    @cached_property
    def compiled(self) -> CompiledProgram:
        """What runs fewer steps than two turns of the tables."""
        return CompiledProgram(self.plan, self.place)

    @cached_property
    def turns(self) -> CompiledProgram:
        """What runs whole turns of the tables."""
        return CompiledProgram(self.plan.in_turns(self.turn), self.place)

    def _turn(self) -> int:
        """How many steps a turn has, if calls are to take several; else 0."""
        size = sum(math.prod(v.shape) * v.dtype.itemsize for _, v in self.tables.all)
        one = len(self.tables.counts) == 1 and size <= TURN_BYTES
        return (self.limit or 0) if one else 0

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        count: int,
        scope: Scope,
        rates: Mapping[str, Rate],
        varying: Mapping[str, list[float]],
    ) -> dict[str, np.ndarray]:
        """The fetched values of all steps, by the fetched variable's name."""
        if not self.tables.agree(scope):
            return self._counted_apart().run(feeds, count, scope, rates, varying)
        moved = {name for t in self.plan.found for name in (t.row, t.seen)}
        for v in self.feeds:
            if v.name not in feeds and v.name not in moved:
                raise missing(v, self.plan.declared.get(v.name, v.tensor_type))
        dtypes = {v.name: v.dtype for v in self.plan.step_inputs}
        scanned = {v.name: feeds[v.name] for v in self.feeds if v.name not in moved}
        scanned |= {n: np.array(r, dtypes[n]) for n, r in varying.items() if n in dtypes}
        scanned = scanned or {NUMBER: np.arange(count)}
        parts = [
            self._call(compiled, {n: a[start:stop] for n, a in scanned.items()}, scope, rates)
            for compiled, start, stop in self._calls(scanned, count)
        ]
        found = {n: np.concatenate([p[n] for p in parts]) if len(parts) > 1 else parts[0][n]
                 for n in parts[0]}  # fmt: skip
        found |= {n: np.stack([np.asarray(v)] * count) for n, v in self.constants.items()}
        return found

    def _calls(
        self, scanned: Mapping[str, np.ndarray], count: int
    ) -> Iterator[tuple[CompiledProgram, int, int]]:
        """What runs which steps, call by call."""
        fed = sum(a[0].nbytes for a in scanned.values())
        fitting = max(1, CALL_BYTES // max(fed, self.kept_bytes, 1))
        start = 0
        if self.turn and min(count, fitting) >= 2 * self.turn:
            size, whole = (n // self.turn * self.turn for n in (fitting, count))
            for start in range(0, whole, size):
                yield self.turns, start, min(start + size, whole)
            start = whole
        size = min(fitting, self.limit or count)
        for k in range(start, count, size):
            yield self.compiled, k, min(k + size, count)

    def _call(
        self,
        compiled: CompiledProgram,
        scanned: Mapping[str, np.ndarray],
        scope: Scope,
        rates: Mapping[str, Rate],
    ) -> dict[str, np.ndarray]:
        plan = compiled.plan
        assert isinstance(plan, StepsPlan)
        count = len(next(iter(scanned.values())))
        stacked = {**scanned, **{n: c.upcoming(count) for n, c in self.tables.counts.items()}}
        if plan.turn:
            stacked = {n: a.reshape(-1, plan.turn, *a.shape[1:]) for n, a in stacked.items()}
        inputs = {name + STEPS: array for name, array in stacked.items()}
        rows = self.tables.rows(scope)
        for name, found in zip(plan.row.values(), rows, strict=True):
            inputs[name] = found.take(plan.turn or count)
        values = compiled.run(inputs, scope, rates, on_device=True)
        results = {v.name: value for v, value in zip(plan.fetch, values, strict=True)}
        for counts in self.tables.counts.values():
            counts.advance(count, scope)
        for table, found in zip(plan.found, rows, strict=True):
            new = results.pop(plan.new_row[table.new_row])
            # A turn's rows have a buffer of the layout's, of which ``new`` is a copy that goes.
            array = to_numpy(new) if plan.turn else new.numpy()
            found.put(array, scope.values[table.count])
        arrays = {name.removesuffix(STEPS): to_numpy(value) for name, value in results.items()}
        if plan.turn:
            arrays = {n: a.reshape(count, *a.shape[2:]) for n, a in arrays.items()}
        return arrays

    def _counted_apart(self) -> CompiledSteps:
        """These steps, compiled for tables of which some were updated alone."""
        if self._apart is None:
            plan = self.plan.apart()
            assert isinstance(plan, StepsPlan)
            self._apart = CompiledSteps(plan, self.place)
        return self._apart
