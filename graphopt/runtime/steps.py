"""Many steps in one onnxruntime call: what ``Executor.run_steps`` runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphopt.errors import ArgumentError, FeedError
from graphopt.ir.program import Rate
from graphopt.ir.variable import Constant
from graphopt.passes.repeat import NUMBER, STEPS
from graphopt.runtime.compile import CompiledProgram, missing
from graphopt.runtime.place import Place
from graphopt.runtime.plan import StepsPlan
from graphopt.runtime.request import Request
from graphopt.runtime.scope import Scope
from graphopt.runtime.session import to_numpy
from graphopt.runtime.tables import Tables

CALL_BYTES = 2**28  # of feeds that one call takes at most: a longer feed is cut into calls
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

    def __init__(self, plan: StepsPlan, request: Request, place: Place) -> None:
        self.plan = plan
        self.compiled = CompiledProgram(plan, place)
        self.tables = Tables(plan.found, plan.step, plan.storages, place)
        self.limit = min([counts.n for counts in self.tables.counts.values()], default=None)
        self._apart: CompiledSteps | None = None
        self._request = request
        self.names = [v.name for v in plan.fetch]
        self.constants = {v.name: v.value for v in request.fetch if isinstance(v, Constant)}
        self.feeds = [v for v in plan.step_inputs if not v.persistable or v.name in plan.fed]

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
        size = self._call_size(scanned, count)
        parts = [
            self._call({n: a[k : k + size] for n, a in scanned.items()}, scope, rates)
            for k in range(0, count, size)
        ]
        found = {n: np.concatenate([p[n] for p in parts]) if len(parts) > 1 else parts[0][n]
                 for n in parts[0]}  # fmt: skip
        found |= {n: np.stack([np.asarray(v)] * count) for n, v in self.constants.items()}
        return found

    def _call_size(self, scanned: Mapping[str, np.ndarray], count: int) -> int:
        """How many steps one call takes."""
        of_a_step = sum(a[0].nbytes for a in scanned.values())
        fitting = max(1, CALL_BYTES // max(of_a_step, 1))
        limit: int = min(count, fitting, self.limit or count)
        return limit

    def _call(
        self, scanned: Mapping[str, np.ndarray], scope: Scope, rates: Mapping[str, Rate]
    ) -> dict[str, np.ndarray]:
        count = len(next(iter(scanned.values())))
        inputs = {name + STEPS: array for name, array in scanned.items()}
        rows = self.tables.rows(scope)
        for table, found in zip(self.plan.found, rows, strict=True):
            inputs[table.row + STEPS] = found.take(count)
        for name, counts in self.tables.counts.items():
            inputs[name + STEPS] = counts.upcoming(count)
        values = self.compiled.run(inputs, scope, rates, on_device=True)
        results = dict(zip(self.names, values, strict=True))
        for counts in self.tables.counts.values():
            counts.advance(count, scope)
        for table, found in zip(self.plan.found, rows, strict=True):
            new = results.pop(table.new_row + STEPS)
            found.put(new.numpy(), scope.values[table.count])
        return {name.removesuffix(STEPS): to_numpy(value) for name, value in results.items()}

    def _counted_apart(self) -> CompiledSteps:
        """The same for tables of which some were updated alone."""
        if self._apart is None:
            plan = self.plan.apart()
            assert isinstance(plan, StepsPlan)
            self._apart = CompiledSteps(plan, self._request, self.compiled.place)
        return self._apart
