"""Many steps in one onnxruntime call: what ``Executor.run_steps`` runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from graphopt.errors import ArgumentError, FeedError
from graphopt.ir.model.program import RateSource
from graphopt.ir.model.variable import Constant
from graphopt.passes.steps.scan import NUMBER
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.values import to_numpy
from graphopt.runtime.plan.plan import Plan
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
    """A Step, compiled to be done any number of times in a call."""

    def __init__(self, plan: Plan, place: Place) -> None:
        self.plan, self.place = plan, place
        self.slices = plan.step.slices
        self.tables = Tables(plan.step.rows, plan.step.tables, place)
        self.limit = min([counts.n for counts in self.tables.counts.values()], default=None)
        self.turn = self._turn()
        self.kept_bytes = plan.kept_bytes()
        self._apart: CompiledSteps | None = None
        moved = {v for row in plan.step.rows for v in (row.row, row.seen)}
        self.feeds = {name: v for name, v in self.slices.items() if v not in moved}

    @cached_property
    def compiled(self) -> CompiledProgram:
        """What runs fewer steps than two turns of the tables."""
        return CompiledProgram(self.plan, self.place)

    @cached_property
    def turns(self) -> CompiledProgram:
        """What runs whole turns of the tables."""
        return CompiledProgram(self.plan.relaid(turn=self.turn), self.place)

    def _turn(self) -> int:
        """How many steps a turn has, if calls are to take several; else 0."""
        tables = [row.table for row in self.tables.all]
        size = sum(math.prod(v.shape) * v.dtype.itemsize for v in tables)
        one = len(self.tables.counts) == 1 and size <= TURN_BYTES
        return (self.limit or 0) if one else 0

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        count: int,
        scope: Scope,
        rates: Mapping[str, RateSource],
        varying: Mapping[str, list[float]],
    ) -> list[np.ndarray]:
        """The fetched values of all steps, in the order they were asked for."""
        if not self.tables.agree(scope):
            return self._counted_apart().run(feeds, count, scope, rates, varying)
        given = {name: a for name, a in feeds.items() if name in self.feeds}
        for name, values in varying.items():
            if name in self.feeds:
                given[name] = np.array(values, self.feeds[name].dtype)
        if NUMBER in self.feeds and not given:
            given[NUMBER] = np.arange(count)
        for name, v in self.feeds.items():
            if name not in given:
                declared = self.plan.declared.get(name, v.tensor_type)
                raise missing(name, declared, v.where)
        parts = [
            self._call(compiled, {n: a[start:stop] for n, a in given.items()}, stop - start,
                       scope, rates)
            for compiled, start, stop in self._calls(given, count)
        ]  # fmt: skip
        found = [np.concatenate(p) if len(p) > 1 else p[0] for p in zip(*parts, strict=True)]
        return [
            np.stack([np.asarray(v.value)] * count) if isinstance(v, Constant) else value
            for v, value in zip(self.plan.step.fetch, found, strict=True)
        ]

    def _calls(
        self, given: Mapping[str, np.ndarray], count: int
    ) -> Iterator[tuple[CompiledProgram, int, int]]:
        """What runs which steps, call by call."""
        fed = sum(a[0].nbytes for a in given.values())
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
        given: Mapping[str, np.ndarray],
        count: int,
        scope: Scope,
        rates: Mapping[str, RateSource],
    ) -> list[np.ndarray]:
        step, turn = compiled.plan.step, compiled.plan.setting.turn
        seen = {row.seen.name: self.tables.counts[own.seen.name].upcoming(count)
                for row, own in zip(step.rows, self.tables.all, strict=True)}  # fmt: skip
        stacked = {step.slices[name].name: array for name, array in given.items()} | seen
        if turn:
            stacked = {n: a.reshape(-1, turn, *a.shape[1:]) for n, a in stacked.items()}
        rows = self.tables.rows(scope)
        for row, own in zip(step.rows, rows, strict=True):
            stacked[row.row.name] = own.take(turn or count)
        values = compiled.run(stacked, scope, rates, on_device=True)
        fetched, new_rows = values[: len(step.fetch)], values[len(step.fetch) :]
        for counts in self.tables.counts.values():
            counts.advance(count, scope)
        for (_, name), own, new in zip(self.tables.names, rows, new_rows, strict=True):
            # A turn's rows have a buffer of the layout's, of which ``new`` is a copy that goes.
            array = to_numpy(new) if turn else new.numpy()
            own.put(array, scope.values[name])
        arrays = [to_numpy(value) for value in fetched]
        return [
            a.reshape(count, *a.shape[2:]) if turn and not isinstance(v, Constant) else a
            for v, a in zip(step.fetch, arrays, strict=True)
        ]

    def _counted_apart(self) -> CompiledSteps:
        """What runs where some tables were updated alone."""
        if self._apart is None:
            self._apart = CompiledSteps(self.plan.relaid(apart=True), self.place)
        return self._apart
