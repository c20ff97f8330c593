"""The inputs and outputs of a session, set once and run many times."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np

from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.values import Value, to_device


class Binding(Protocol):
    """The inputs and outputs of a session, set once and run many times."""

    def input(self, name: str, value: Value) -> None:
        """Read an input from a value, from the next run on."""

    def feed(self, name: str, array: Any) -> bool:  # noqa: ANN401 - an array, a list or None
        """Read an input from a fed array; whether it is the array's own memory that is read."""

    def output(self, name: str, value: Value | None) -> None:
        """Write an output into a value; None lets the next run allocate it."""

    def run(self) -> None:
        """Run once."""

    def outputs(self) -> list[Value]:
        """The results of the last run, in the order in which the outputs were first set."""


class Bound:
    """A binding in onnxruntime's own terms: no value is touched by Python.

    It goes past the Python around onnxruntime's C functions, a quarter of the time of a small step.
    ``run`` is the C function itself. Python looks for an interrupt only behind it, so a
    KeyboardInterrupt that it raises means that the run is complete.
    """

    def __init__(self, session: Any, place: Place) -> None:  # noqa: ANN401 - untyped
        self._binding, self._place = session.io_binding(), place
        self._c = self._binding._iobinding
        self.run = partial(session._sess.run_with_iobinding, self._c, None)
        self._memory = place.memory
        self._read: dict[str, Any] = {}  # what is bound stays in memory
        self._written: dict[str, Value] = {}

    def input(self, name: str, value: Value) -> None:
        """Read an input from a value, from the next run on."""
        self._c.bind_ortvalue_input(name, value._ortvalue)
        self._read[name] = value

    def feed(self, name: str, array: Any) -> bool:  # noqa: ANN401 - always an array here
        """Read an input from a fed array; whether it is the array's own memory that is read."""
        is_own = array.flags.c_contiguous and array.dtype.isbuiltin == 1 and self._memory.in_view
        if is_own:
            self._c.bind_input(name, array)  # the shorter way to the same
            self._read[name] = array
        else:
            self.input(name, to_device(array, self._place))
        return bool(is_own)

    def output(self, name: str, value: Value | None) -> None:
        """Write an output into a value; None lets the next run allocate it."""
        if value is None:
            self._binding.bind_output(name, self._memory.device, self._memory.index)
            self._written.pop(name, None)
        else:
            self._c.bind_ortvalue_output(name, value._ortvalue)
            self._written[name] = value

    def outputs(self) -> list[Value]:
        """The results of the last run, in the order in which the outputs were first set."""
        return list(self._binding.get_outputs())


class Unbound:
    """The same where a value is no numeric tensor, through Python's own objects."""

    def __init__(self, session: Any, place: Place) -> None:  # noqa: ANN401 - untyped
        self._session, self._place = session, place
        self._inputs: dict[str, Value] = {}
        self._outputs: dict[str, None] = {}
        self._found: list[Value] = []

    def input(self, name: str, value: Value) -> None:
        """Read an input from a value, from the next run on."""
        self._inputs[name] = value

    def feed(self, name: str, array: Any) -> bool:  # noqa: ANN401 - an array, a list or None
        """Read an input from a fed value; its memory is never read in place."""
        self._inputs[name] = to_device(array, self._place)
        return False

    def output(self, name: str, value: Value | None) -> None:
        """Write an output into a value; None lets the next run allocate it."""
        self._outputs[name] = None

    def run(self) -> None:
        """Run once."""
        feeds = {name: value.numpy() for name, value in self._inputs.items()}
        found = self._session.run(list(self._outputs), feeds)
        self._found = [
            to_device(np.asarray(v) if isinstance(v, np.generic) else v, self._place) for v in found
        ]

    def outputs(self) -> list[Value]:
        """The results of the last run, in the order in which the outputs were first set."""
        return self._found
