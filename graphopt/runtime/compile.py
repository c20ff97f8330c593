"""A request compiled: the pruned Program, its session, and what goes in and comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphopt.errors import FeedError, MissingFeedError, UninitializedError
from graphopt.ir.program import Program, Rate
from graphopt.ir.seeds import COUNTER
from graphopt.ir.types import fits
from graphopt.ir.variable import Constant, Variable
from graphopt.onnxio.ort_gaps import UNKNOWN_OPS
from graphopt.onnxio.write import Lowered, lower
from graphopt.passes.base import Pipeline
from graphopt.passes.decompose import Decompose
from graphopt.passes.prune import Prune, assigns_state, free_variables, needed_ops
from graphopt.passes.streams import Streams, advances, is_stream
from graphopt.runtime.explain import explained
from graphopt.runtime.kernels import without_kernel
from graphopt.runtime.place import Place
from graphopt.runtime.request import Request
from graphopt.runtime.scope import Scope
from graphopt.runtime.session import Session, Value, empty, failures, to_device, to_numpy


class Plan:
    """What a request needs: the pruned Program, its inputs, and the state it assigns."""

    def __init__(self, program: Program, request: Request, fed: Sequence[str]) -> None:
        self.fed = frozenset(fed)
        names = tuple(v.name for v in request.fetch)
        counter, roots = _roots(program, request, names, fed)
        prune = Prune(fetch=names, feed=tuple(fed), roots=roots)
        self.program = Pipeline("step", prune, Streams(counter), Decompose(UNKNOWN_OPS)).run(
            program
        )
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


class CompiledProgram:
    """A plan loaded into onnxruntime, ready to run many times."""

    def __init__(self, plan: Plan, place: Place) -> None:
        self.plan = plan
        self.place = place
        lowered = plan.lower(place.device)
        self.fetched = lowered.fetched
        self.next_state = lowered.next_state
        self.outputs = tuple(o.name for o in lowered.model.graph.output)
        self.state_of = {output: name for name, output in self.next_state.items()}
        self.types = {v.name: StateType(v) for v in (*plan.inputs, *plan.state) if v.persistable}
        self.feeds = [v for v in plan.inputs if not v.persistable or v.name in plan.fed]
        self.reads = [v for v in plan.inputs if v.persistable and v.name not in plan.fed]
        self.ops = lowered.ops
        try:
            self.session = Session(lowered.model, place)
        except failures() as error:
            missing = without_kernel(error, lowered, place)
            raise missing or explained(error, self.ops, {}, "loading") from error

    def run(
        self, feeds: Mapping[str, np.ndarray], scope: Scope, rates: Mapping[str, Rate]
    ) -> list[Value]:
        """The fetched values; the scope gets the new state only if the run has succeeded.

        Variables named in ``rates`` are first set to what these say now.
        """
        for v in self.reads:
            rate = rates[v.name].current() if v.name in rates else None
            if rate is not None:
                scope.values[v.name] = to_device(np.array(rate, v.dtype), self.place)
        inputs = {v.name: self._fed(v, feeds) for v in self.feeds}
        inputs.update((v.name, self._state(v, scope)) for v in self.reads)
        targets = {name: self._target(name, scope) for name in self.outputs}
        try:
            found = self.session.run(inputs, targets)
        except failures() as error:
            raise explained(error, self.ops, feeds, "running") from error
        # Keep our own handle of a buffer that we gave: it holds the array behind it.
        by_output = {
            name: value if targets[name] is None else targets[name]
            for name, value in zip(self.outputs, found, strict=True)
        }
        fetched = [self._own(name, by_output[name]) for name in self.fetched]
        scope.commit({name: by_output[out] for name, out in self.next_state.items()})
        return fetched

    def _own(self, output: str, value: Value) -> Value:
        """A fetched value that later steps do not write to."""
        return to_device(to_numpy(value), self.place) if output in self.state_of else value

    def _fed(self, v: Variable, feeds: Mapping[str, np.ndarray]) -> Value:
        if v.name not in feeds:
            raise MissingFeedError(
                f"{v.name} is needed and not fed",
                operands=[(v.name, v.tensor_type)],
                where=v.where,
                fix=f"add {v.name!r} to feed, or run a Program that does not need it "
                "(program.clone(for_test=True), or fetch less)",
            )
        return to_device(feeds[v.name], self.place)

    def _state(self, v: Variable, scope: Scope) -> Value:
        value = scope.values.get(v.name)
        if value is None and v.name == COUNTER:
            return to_device(np.zeros((), np.int64), self.place)
        if value is None:
            raise UninitializedError(
                f"{v.name} has no value yet",
                operands=[(v.name, v.tensor_type)],
                where=v.where,
                fix="run the startup Program first: exe.run(startup_program)",
            )
        if value.device_name() != self.place.device:
            value = scope.values[v.name] = to_device(to_numpy(value), self.place)
        self.types[v.name].check(value)
        return value

    def _target(self, output: str, scope: Scope) -> Value | None:
        """The spare buffer that a next state is written to."""
        name = self.state_of.get(output)
        if name is None:
            return None
        expected = self.types[name]
        if expected.shape is None:
            return None
        spare = scope.spares.pop(name, None)
        if spare is not None and spare.device_name() == self.place.device and expected.fits(spare):
            return spare
        return empty(expected.shape, expected.variable.dtype, self.place)


class StateType:
    """The type of a persistable variable in onnxruntime's words, made once: checks are per step."""

    def __init__(self, variable: Variable) -> None:
        self.variable = variable
        name = variable.dtype.name
        self.data_type = f"tensor({_ORT_NAMES.get(name, name)})"
        self.shape = list(variable.shape) if variable.tensor_type.is_static else None

    def fits(self, value: Value) -> bool:
        """Whether a value has this type."""
        if self.data_type != value.data_type():
            return False
        if self.shape is not None:
            return bool(value.shape() == self.shape)
        return fits(value.shape(), self.variable.tensor_type.shape)

    def check(self, value: Value) -> None:
        """Raise FeedError if the scope holds a value of another type."""
        if self.fits(value):
            return
        v, held = self.variable, f"{value.data_type()} {value.shape()}"
        raise FeedError(
            f"the scope holds {v.name} with another type than the Program's",
            operands=[
                ("declared", v.tensor_type),
                ("in the scope", held),
            ],
            where=v.where,
            fix=f"set it to an array of type {v.tensor_type}",
        )


_ORT_NAMES = {"float32": "float", "float64": "double"}
