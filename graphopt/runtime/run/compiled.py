"""A plan loaded into onnxruntime, and what a step does: as little Python as there can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from graphopt.errors import DeviceError, MissingFeedError
from graphopt.ir.model.current_scope import uninitialized
from graphopt.ir.model.program import RateSource
from graphopt.ir.model.seeds import COUNTER
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import STRINGS
from graphopt.ir.types.types import TensorType
from graphopt.ir.types.where import Where
from graphopt.onnxio.ort_order import loads_slowly
from graphopt.onnxio.write import Lowered
from graphopt.runtime.ort.explain import explained
from graphopt.runtime.ort.library import failures
from graphopt.runtime.ort.missing_kernels import without_kernel
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.session import Session
from graphopt.runtime.ort.value_types import StateType
from graphopt.runtime.ort.values import Value, empty, to_device, to_numpy
from graphopt.runtime.plan.plan import Plan
from graphopt.runtime.run.buffers import Buffers
from graphopt.runtime.state.factored import Factored
from graphopt.runtime.state.room import check_room
from graphopt.runtime.state.rows import Rows
from graphopt.runtime.state.scope import Scope
from graphopt.runtime.state.storages import rows_of
from graphopt.runtime.state.tables import Tables

LAYOUTS = 2  # in each scope: steps alternate between two buffers of each state


class CompiledProgram:
    """A plan loaded into onnxruntime, ready to run many times.

    A step writes large states over where they lie, if the plan says so, from the second run on: the
    first may lack memory, and must not have changed anything then. All other state is read from
    one set of buffers and written to another, so the next step goes the other way: both ways are
    bound once, and a step only has to see which one it is.
    """

    def __init__(self, plan: Plan, place: Place) -> None:
        self.plan = plan
        self.place = place
        step, many = plan.step, bool(plan.step.slices)
        lowered = plan.lower(place.detours)
        # Who runs many steps moves their rows; to this class they are fed and fetched.
        rows = () if many else step.rows
        self.fetched = (*lowered.fetched, *lowered.new_rows) if many else lowered.fetched
        self.fetch = (*step.fetch, *(row.new_row for row in step.rows)) if many else step.fetch
        self.new_rows = () if many else lowered.new_rows
        self.tables = Tables(rows, step.tables, place)
        self._choose_memory(lowered)
        kept = set(step.states)
        states = kept.intersection(plan.inputs).union(step.next_state)
        self.types = {v.name: StateType(v) for v in states}
        moved = {v for row in rows for v in (row.row, row.seen)}
        self.feeds = [
            v for v in plan.inputs
            if v not in moved and (v not in states or v.name in step.fed)
        ]  # fmt: skip
        self.reads = {v.name: v for v in plan.inputs if v in states and v.name not in step.fed}
        self.held = tuple(dict.fromkeys([*self.reads, *lowered.next_state]))
        self.ops = lowered.ops
        self.over: frozenset[str] = frozenset()  # states and rows that runs write over
        # What they write over once a run has succeeded.
        self._over_next = frozenset(v.name for v in step.donated) - {*step.fed}
        self._layouts: WeakKeyDictionary[Scope, list[Buffers]] = WeakKeyDictionary()
        self._rates: dict[str, tuple[float, Value]] = {}
        self._variants: dict[str, CompiledProgram] = {}
        try:
            # Whoever recomputes wants the memory.
            lean = any(op.made_by == "recompute" for op in self.ops.values())
            in_order = lean or (plan.is_scheduled and not loads_slowly(lowered.bare))
            self.session = _session(lowered, place, in_order)
        except DeviceError:
            raise
        except failures() as error:
            lacking = without_kernel(error, lowered, place)
            raise lacking or explained(error, self.ops, {}, "loading") from error
        self.static = self._static_fetches()

    def _choose_memory(self, lowered: Lowered) -> None:
        """Which outputs are written to the memory of which states.

        ``state_of`` are those that are the next values, ``aliases`` those that lie in a state's
        memory in another shape, or before its next value does; ``shapes`` are theirs.
        """
        step = self.plan.step
        views = {v.name: new.shape for v, new in step.next_state.items()
                 if new.tensor_type.is_static and new.tensor_type.shape != v.tensor_type.shape
                 and v.tensor_type.is_static}  # fmt: skip
        self.state_of = {o: n for n, o in lowered.next_state.items() if n not in views}
        self.aliases = {lowered.next_state[n]: n for n in views} | dict(lowered.borrowed)
        self.shapes = {lowered.next_state[n]: shape for n, shape in views.items()}
        borrowed = zip(lowered.borrowed, step.borrowed, strict=True)
        self.shapes |= {output: v.shape for output, v in borrowed}
        others = {*self.new_rows, *self.aliases}
        outputs = (o.name for o in lowered.bare.graph.output if o.name not in others)
        self.outputs = {name: position for position, name in enumerate(outputs)}

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        scope: Scope,
        rates: Mapping[str, RateSource],
        on_device: bool = False,
    ) -> list[Any]:
        """The fetched values; the scope gets the new state only if the run has succeeded.

        Variables named in ``rates`` are first set to what these say now. The values are arrays, or
        with ``on_device`` what the runtime holds.
        """
        if self.plan.zeros:
            self._check_room()
        if not self.tables.agree(scope):
            return self._relaid("apart", apart=True).run(feeds, scope, rates, on_device)
        if not self.tables.takes(scope):
            return self._relaid("laid out", factors=False).run(feeds, scope, rates, on_device)
        self._set_rates(scope, rates)
        layout = self._layout(scope)
        moved = self.tables.bind(layout.binding, self.new_rows, layout.seen, scope, self.over)
        for v in self.feeds:
            if v.name not in feeds:
                declared = self.plan.declared.get(v.name, v.tensor_type)
                raise missing(v.name, declared, v.where)
            layout.feed(v.name, feeds[v.name])
        try:
            layout.run()
        except failures() as error:
            self._layouts.clear()
            raise explained(error, self.ops, feeds, "running") from error
        except KeyboardInterrupt:
            if self.over:  # it is raised behind the run, which has written them all
                self._commit(layout, moved, scope)
            raise
        fetch = layout.value if on_device else layout.array
        fetched = [fetch(name) for name in self.fetched]
        self._commit(layout, moved, scope)
        return fetched

    def _commit(self, layout: Buffers, moved: Sequence[Rows], scope: Scope) -> None:
        values, zeros = layout.written(), self.plan.zeros
        for name, tensor_type in zeros.items():
            values[name] = rows_of(tensor_type, self.plan.step.tables[name], self.place)
        self.tables.commit(moved, scope)
        scope.publish(values, layout.before, zeros)
        layout.release()
        if self._over_next and self.session.writes_in_place:
            self.over, self._over_next = self._over_next, frozenset()
            self._layouts.clear()

    def _check_room(self) -> None:
        storages = self.plan.step.tables
        check_room({name: (found, storages[name]) for name, found in self.plan.zeros.items()})

    def _relaid(self, kind: str, **changes: bool) -> CompiledProgram:
        """What runs for tables that are in another state than expected: see ``Setting``."""
        if kind not in self._variants:
            self._variants[kind] = CompiledProgram(self.plan.relaid(**changes), self.place)
        return self._variants[kind]

    def _set_rates(self, scope: Scope, rates: Mapping[str, RateSource]) -> None:
        for name in rates:
            rate = rates[name].current() if name in self.reads else None
            if rate is None:
                continue
            known = self._rates.get(name)
            if known is None or known[0] != rate:
                array = np.array(rate, self.reads[name].dtype)
                known = self._rates[name] = (rate, to_device(array, self.place))
            scope.values[name] = known[1]

    def _layout(self, scope: Scope) -> Buffers:
        """The binding for the buffers that the state lies in now."""
        values = scope.values
        current = tuple(map(values.get, self.held))
        layouts = self._layouts.get(scope)
        if layouts is None:
            layouts = self._layouts[scope] = []
        for layout in layouts:
            if layout.current == current:
                return layout
        if len(layouts) == LAYOUTS:
            layouts.clear()
        self._keep_apart(scope)
        state = {name: self._state(v, scope) for name, v in self.reads.items()}
        layout = Buffers(self, tuple(map(scope.values.get, self.held)), state, scope)
        layouts.append(layout)
        return layout

    def _keep_apart(self, scope: Scope) -> None:
        """See that what is written over is no other state's value too, and needs no spare."""
        holders = Counter(map(id, scope.values.values()))
        for name in self.over & scope.values.keys():
            scope.spares.pop(name, None)
            value = scope.values[name]
            if value is not None and holders[id(value)] > 1:
                scope.values[name] = to_device(to_numpy(value), self.place)

    def _state(self, v: Variable, scope: Scope) -> Value:
        value = scope.values.get(v.name)
        if value is None and v.name == COUNTER:
            return to_device(np.zeros((), np.int64), self.place)
        if value is None:
            raise uninitialized(v)
        if isinstance(value, (Rows, Factored)) or value.device_name() != self.place.memory.device:
            value = scope.values[v.name] = to_device(to_numpy(value), self.place)
        self.types[v.name].check(value)
        return value

    def _static_fetches(self) -> dict[str, Variable]:
        """The outputs that are no state and of one shape: they get a buffer that is kept."""
        if not self.session.writes_in_place:
            return {}
        return {
            name: v
            for name, v in zip(self.fetched, self.fetch, strict=True)
            if name not in self.state_of and v.tensor_type.is_static
        }

    def target(self, name: str, scope: Scope, taken: set[int]) -> Value | None:
        """The spare buffer that a next state is written to; None where a run must allocate it.

        Counts that are equal share one value, so a spare may be another state's: ``taken`` are the
        identities of those in use.
        """
        expected = self.types[name]
        if expected.shape is None or expected.variable.dtype.kind in STRINGS:
            return None
        spare = scope.spares.get(name)
        fits = spare is not None and spare.device_name() == self.place.memory.device
        if not fits or id(spare) in taken or not expected.fits(spare):
            spare = empty(expected.shape, expected.variable.dtype, self.place)
        taken.add(id(spare))
        return spare


def _session(lowered: Lowered, place: Place, in_order: bool) -> Session:
    if not place.shares_constants:
        return Session(lowered.model, place, in_order)
    return Session(lowered.bare, place, in_order, lowered.arrays)


def missing(name: str, declared: TensorType, where: Where) -> MissingFeedError:
    """What is raised where a variable that is needed is not fed."""
    return MissingFeedError(
        f"{name} is needed and not fed",
        operands=[(name, declared)],
        where=where,
        fix=f"add {name!r} to feed, or run a Program that does not need it "
        "(program.clone(for_test=True), or fetch less)",
    )
