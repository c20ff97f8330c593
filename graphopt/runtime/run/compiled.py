"""A plan loaded into onnxruntime, and what a step does: as little Python as there can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.errors import DeviceError, MissingFeedError
from graphopt.ir.model.current_scope import uninitialized
from graphopt.ir.model.program import Rate
from graphopt.ir.model.seeds import COUNTER
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import STRINGS
from graphopt.ir.types.types import TensorType
from graphopt.onnxio.ort_order import loads_slowly
from graphopt.onnxio.write import Lowered
from graphopt.runtime.ort.explain import explained
from graphopt.runtime.ort.library import failures
from graphopt.runtime.ort.missing_kernels import without_kernel
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.session import Session
from graphopt.runtime.ort.value_types import StateType
from graphopt.runtime.ort.values import Value, empty, host_view, reshaped, to_device, to_numpy
from graphopt.runtime.plan.plan import StepPlan
from graphopt.runtime.state.factored import Factored
from graphopt.runtime.state.room import check_room
from graphopt.runtime.state.rows import Rows
from graphopt.runtime.state.scope import Scope
from graphopt.runtime.state.storages import rows_of
from graphopt.runtime.state.tables import Tables

LAYOUTS = 2  # of one compiled Program: steps alternate between two buffers of each state


class CompiledProgram:
    """A plan loaded into onnxruntime, ready to run many times.

    A step writes large states over where they lie, if the plan says so, from the second run on: the
    first may lack memory, and must not have changed anything then. All other state is read from
    one set of buffers and written to another, so the next step goes the other way: both ways are
    bound once, and a step only has to see which one it is.
    """

    def __init__(self, plan: StepPlan, place: Place) -> None:
        self.plan = plan
        self.place = place
        lowered = plan.lower(place.detours)
        self.fetched = lowered.fetched[: len(plan.fetch)]
        behind = len(plan.fetch) + len(plan.new_rows)
        self.new_rows = lowered.fetched[len(plan.fetch) : behind]
        self.aliases = dict(zip(lowered.fetched[behind:], plan.aliases.values(), strict=True))
        self.shapes = dict(zip(self.aliases, (v.shape for v in plan.aliasing), strict=True))
        self.tables = Tables(plan.tables, plan.program, plan.storages, place)
        self.state_of = {output: name for name, output in lowered.next_state.items()}
        others = {*self.new_rows, *self.aliases}
        outputs = (o.name for o in lowered.bare.graph.output if o.name not in others)
        self.outputs = {name: position for position, name in enumerate(outputs)}
        self.types = {v.name: StateType(v) for v in (*plan.inputs, *plan.state) if v.persistable}
        moved = {name for t in plan.tables for name in (t.row, t.seen)}
        self.feeds = [
            v
            for v in plan.inputs
            if v.name not in moved and (not v.persistable or v.name in plan.fed)
        ]
        self.reads = {v.name: v for v in plan.inputs if v.persistable and v.name not in plan.fed}
        self.held = tuple(dict.fromkeys([*self.reads, *lowered.next_state]))
        self.ops = lowered.ops
        self.over: frozenset[str] = frozenset()  # states and rows that runs write over
        self._over_next = plan.over.names - {*plan.fed}  # the same, once a run has succeeded
        self._layouts: list[_Layout] = []
        self._rates: dict[str, tuple[float, Value]] = {}
        self._variants: dict[str, CompiledProgram] = {}
        try:
            # Whoever recomputes wants the memory.
            lean = any(op.made_by == "recompute" for op in self.ops.values())
            in_order = lean or (plan.scheduled and not loads_slowly(lowered.bare))
            self.session = _session(lowered, place, in_order)
        except DeviceError:
            raise
        except failures() as error:
            lacking = without_kernel(error, lowered, place)
            raise lacking or explained(error, self.ops, {}, "loading") from error
        self.static = self._static_fetches()

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        scope: Scope,
        rates: Mapping[str, Rate],
        on_device: bool = False,
    ) -> list[Any]:
        """The fetched values; the scope gets the new state only if the run has succeeded.

        Variables named in ``rates`` are first set to what these say now. The values are arrays, or
        with ``on_device`` what the runtime holds.
        """
        if self.plan.zeros:
            self._check_room()
        if not self.tables.agree(scope):
            return self._variant("apart").run(feeds, scope, rates, on_device)
        if not self.tables.takes(scope):
            return self._variant("laid_out").run(feeds, scope, rates, on_device)
        self._set_rates(scope, rates)
        layout = self._layout(scope)
        moved = self.tables.bind(layout.binding, self.new_rows, layout.seen, scope, self.over)
        for v in self.feeds:
            if v.name not in feeds:
                raise missing(v, self.plan.declared[v.name])
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

    def _commit(self, layout: _Layout, moved: Sequence[Rows], scope: Scope) -> None:
        layout.commit(scope)
        self.tables.commit(moved, scope)
        for name, tensor_type in self.plan.zeros.items():
            scope.spares.pop(name, None)
            scope.values[name] = rows_of(tensor_type, self.plan.storages[name], self.place)
        if self._over_next and self.session.writes_in_place:
            self.over, self._over_next = self._over_next, frozenset()
            self._layouts.clear()

    def _check_room(self) -> None:
        storages = self.plan.storages
        check_room({name: (found, storages[name]) for name, found in self.plan.zeros.items()})

    def _variant(self, kind: str) -> CompiledProgram:
        """This step, compiled for tables in another state than expected: see ``StepPlan``."""
        if kind not in self._variants:
            plan: StepPlan = getattr(self.plan, kind)()
            self._variants[kind] = CompiledProgram(plan, self.place)
        return self._variants[kind]

    def _set_rates(self, scope: Scope, rates: Mapping[str, Rate]) -> None:
        for name in rates:
            rate = rates[name].current() if name in self.reads else None
            if rate is None:
                continue
            known = self._rates.get(name)
            if known is None or known[0] != rate:
                array = np.array(rate, self.reads[name].dtype)
                known = self._rates[name] = (rate, to_device(array, self.place))
            scope.values[name] = known[1]

    def _layout(self, scope: Scope) -> _Layout:
        """The binding for the buffers that the state lies in now."""
        current = tuple(map(scope.values.get, self.held))
        for layout in self._layouts:
            if layout.current == current:
                return layout
        if len(self._layouts) == LAYOUTS:
            self._layouts.clear()
        self._keep_apart(scope)
        state = {name: self._state(v, scope) for name, v in self.reads.items()}
        layout = _Layout(self, tuple(map(scope.values.get, self.held)), state, scope)
        self._layouts.append(layout)
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
            for name, v in zip(self.fetched, self.plan.fetch, strict=True)
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


class _Layout:
    """One set of buffers that the state is read from, and the one that it is written to."""

    def __init__(
        self,
        compiled: CompiledProgram,
        current: tuple[Value | None, ...],
        state: Mapping[str, Value],
        scope: Scope,
    ) -> None:
        self.current = current
        self.binding = compiled.session.bind()
        self.run = self.binding.run
        self.place = compiled.place
        self.positions = compiled.outputs
        self.state_of = compiled.state_of
        assigned = {*compiled.state_of.values(), *compiled.aliases.values()} - compiled.over
        self.before = {n: v for n, v in zip(compiled.held, current, strict=True)
                       if v is not None and n in assigned}  # fmt: skip
        self.after: dict[str, Value] = {}
        self.allocated: list[str] = []
        self.buffers: dict[str, Value] = {}
        self.views: dict[str, np.ndarray] = {}
        self.seen: dict[str, Value] = {}
        self._fed: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {}
        self._found: list[Value] = []
        for name, value in state.items():
            self.binding.input(name, value)
        taken = {id(value) for value in scope.values.values()}
        for output in compiled.outputs:
            self._bind_output(output, compiled, scope, taken)
        for output, name in compiled.aliases.items():
            if name not in self.after:
                self.after[name] = self._next(name, compiled, scope, taken)
            value = self.after[name]
            self.binding.output(output, reshaped(value, compiled.shapes[output]))

    def _bind_output(
        self, output: str, compiled: CompiledProgram, scope: Scope, taken: set[int]
    ) -> None:
        value: Value | None = None
        if output in compiled.state_of:
            name = compiled.state_of[output]
            value = self._next(name, compiled, scope, taken)
            if value is not None:
                self.after[name] = self.buffers[output] = value
        elif output in compiled.static:
            v = compiled.static[output]
            value = self.buffers[output] = empty(v.shape, v.dtype, self.place)
            view = host_view(value)
            if view is not None:
                self.views[output] = view
        if value is None:
            self.allocated.append(output)
        self.binding.output(output, value)

    def _next(
        self, name: str, compiled: CompiledProgram, scope: Scope, taken: set[int]
    ) -> Value | None:
        """What the next value of a state is to be written to."""
        if name in compiled.over:
            return scope.values[name]
        return compiled.target(name, scope, taken)

    def feed(self, name: str, array: Any) -> None:  # noqa: ANN401 - an array, a list or None
        """Bind a fed array without copying it; what is bound already stays as it is."""
        known = self._fed.get(name)
        if known is not None and known[0] is array and known[1] == array.shape:
            return
        if self.binding.feed(name, array):
            self._fed[name] = (array, array.shape)
        else:
            self._fed.pop(name, None)

    def array(self, output: str) -> Any:  # noqa: ANN401 - of no tensor what it holds
        """The last run's value in host memory, which later steps do not write to."""
        view = self.views.get(output)
        return to_numpy(self._written(output)) if view is None else view.copy()

    def value(self, output: str) -> Value:
        """The last run's value on its device, which later steps do not write to."""
        value = self._written(output)
        is_ours = output in self.buffers or output in self.state_of
        return to_device(to_numpy(value), self.place) if is_ours else value

    def _written(self, output: str) -> Value:
        if output in self.buffers:
            return self.buffers[output]
        return self._results()[self.positions[output]]

    def _results(self) -> list[Value]:
        if not self._found:
            self._found = self.binding.outputs()
        return self._found

    def commit(self, scope: Scope) -> None:
        """Make what was written the state; what it replaces becomes the spare buffer."""
        scope.spares.update(self.before)
        scope.values.update(self.after)
        for output in self.allocated:
            if output in self.state_of:
                scope.values[self.state_of[output]] = self._results()[self.positions[output]]
            self.binding.output(output, None)  # or the next run would write to what this one gave
        self._found = []


def _session(lowered: Lowered, place: Place, in_order: bool) -> Session:
    if not place.shares_constants:
        return Session(lowered.model, place, in_order)
    return Session(lowered.bare, place, in_order, lowered.arrays)


def missing(v: Variable, declared: TensorType) -> MissingFeedError:
    """What is raised where a variable that is needed is not fed."""
    return MissingFeedError(
        f"{v.name} is needed and not fed",
        operands=[(v.name, declared)],
        where=v.where,
        fix=f"add {v.name!r} to feed, or run a Program that does not need it "
        "(program.clone(for_test=True), or fetch less)",
    )
