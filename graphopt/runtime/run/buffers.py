"""Where one way of a compiled Step reads and writes its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from graphopt.ir.model.variable import Variable
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.session import Session
from graphopt.runtime.ort.values import Value, empty, host_view, reshaped, to_device, to_numpy
from graphopt.runtime.state.scope import Scope


class Layout(Protocol):
    """What buffers ask of the compiled Step that they belong to."""

    session: Session
    place: Place
    held: tuple[str, ...]
    outputs: dict[str, int]
    state_of: dict[str, str]
    aliases: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    static: dict[str, Variable]
    over: frozenset[str]

    def target(self, name: str, scope: Scope, taken: set[int]) -> Value | None:
        """The spare buffer that a next state is written to; None where a run must allocate it."""


class Buffers:
    """One set of buffers that the state is read from, and the one that it is written to."""

    def __init__(
        self,
        compiled: Layout,
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

    def _bind_output(self, output: str, compiled: Layout, scope: Scope, taken: set[int]) -> None:
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

    def _next(self, name: str, compiled: Layout, scope: Scope, taken: set[int]) -> Value | None:
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

    def written(self) -> dict[str, Value]:
        """The next state, by name; what it replaces is ``before``."""
        values = dict(self.after)
        for output in self.allocated:
            if output in self.state_of:
                values[self.state_of[output]] = self._results()[self.positions[output]]
        return values

    def release(self) -> None:
        """Let go of what the run allocated, or the next one would write to it."""
        for output in self.allocated:
            self.binding.output(output, None)
        self._found = []
