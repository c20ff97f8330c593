"""The inputs and outputs of a session, set once and run many times."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np

from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.values import HostValue, Value, overwrite, to_device


class Binding(Protocol):
    """The inputs and outputs of a session, set once and run many times."""

    def input(self, name: str, value: Value) -> None:
        """Read an input from a value, from the next run on.

        Args:
            name: the input.
            value: on the session's place, of the input's type.
        """

    def feed(self, name: str, array: Any) -> bool:  # noqa: ANN401 - an array, a list or None
        """Read an input from what the user fed, from the next run on.

        Args:
            name: the input.
            array: of the input's type; for a sequence or an optional a list or None.

        Returns:
            Whether runs read the array's own memory, so that it need not be fed again.
        """

    def output(self, name: str, value: Value | None) -> None:
        """Write an output into a value, from the next run on.

        Args:
            name: the output.
            value: on the session's place, of as many bytes; None to let each run allocate one.
        """

    def run(self) -> None:
        """Run once; if it fails, no value has been written to."""

    def outputs(self) -> list[Value]:
        """The results of the last run, in the order in which the outputs were first set."""


class Bound:
    """A binding by onnxruntime's IOBinding: it reads and writes the values where they lie.

    It goes past the Python around onnxruntime's C functions, a quarter of the time of a small step.
    ``run`` is the C function itself. Python looks for an interrupt only behind it, so a
    KeyboardInterrupt that it raises means that the run is complete.

    Args:
        session: onnxruntime's InferenceSession.
        place: where it runs.
    """

    def __init__(self, session: Any, place: Place) -> None:  # noqa: ANN401 - untyped
        self._binding, self._place = session.io_binding(), place
        self._c = self._binding._iobinding
        self.run = partial(session._sess.run_with_iobinding, self._c, None)
        self._memory = place.memory
        self._read: dict[str, Any] = {}  # what is bound stays in memory
        self._written: dict[str, Value] = {}

    def input(self, name: str, value: Value) -> None:
        """Read the input ``name`` from ``value``, from the next run on."""
        self._c.bind_ortvalue_input(name, value._ortvalue)
        self._read[name] = value

    def feed(self, name: str, array: Any) -> bool:  # noqa: ANN401 - always an array here
        """Read the input ``name`` from ``array``; whether it is the array's own memory."""
        is_own = array.flags.c_contiguous and array.dtype.isbuiltin == 1 and self._memory.in_view
        if is_own:
            self._c.bind_input(name, array)  # quicker than an OrtValue of it
            self._read[name] = array
        else:
            self.input(name, to_device(array, self._place))
        return bool(is_own)

    def output(self, name: str, value: Value | None) -> None:
        """Write the output ``name`` into ``value``; None lets each run allocate it."""
        if value is None:
            self._binding.bind_output(name, self._memory.device, self._memory.index)
            self._written.pop(name, None)
        else:
            self._c.bind_ortvalue_output(name, value._ortvalue)
            self._written[name] = value

    def outputs(self) -> list[Value]:
        """The results of the last run, in the order in which the outputs were first set."""
        return list(self._binding.get_outputs())


class Passed:
    """A binding that passes values at each run: for providers not known to keep an IOBinding.

    Results are new values of the run; those that have a value to go to are copied there.

    Args:
        session: onnxruntime's InferenceSession.
        place: where it runs.
    """

    def __init__(self, session: Any, place: Place) -> None:  # noqa: ANN401 - untyped
        self._session, self._place = session, place
        self._inputs: dict[str, Value] = {}
        self._targets: dict[str, Value | None] = {}
        self._results: list[Value] = []

    def input(self, name: str, value: Value) -> None:
        """Read the input ``name`` from ``value``, from the next run on."""
        self._inputs[name] = value

    def feed(self, name: str, array: Any) -> bool:  # noqa: ANN401 - an array, a list or None
        """Read the input ``name`` from ``array``; False, so that it is fed anew for each run."""
        self._inputs[name] = to_device(array, self._place)
        return False

    def output(self, name: str, value: Value | None) -> None:
        """Copy the output ``name`` into ``value`` after each run; None leaves it where it is."""
        self._targets[name] = value

    def run(self) -> None:
        """Run once, then copy what has a value to go to."""
        self._results = self._run()
        for result, target in zip(self._results, self._targets.values(), strict=False):
            if target is not None:
                overwrite(target, result)

    def _run(self) -> list[Value]:
        found: list[Value] = self._session.run_with_ort_values([*self._targets], self._inputs)
        return found

    def outputs(self) -> list[Value]:
        """The results of the last run, in the order in which the outputs were first set."""
        return self._results


class PassedObjects(Passed):
    """A binding for models with strings, sequences or optionals; no OrtValue holds these."""

    def _run(self) -> list[Value]:
        feeds = {n: v.value if isinstance(v, HostValue) else v for n, v in self._inputs.items()}
        found = self._session.run([*self._targets], feeds)
        return [
            to_device(np.asarray(v) if isinstance(v, np.generic) else v, self._place) for v in found
        ]
