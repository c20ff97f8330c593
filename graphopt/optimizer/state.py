"""The state variables of an optimizer: made once per parameter, saved and loaded by parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphopt.errors import StateError
from graphopt.initializer import Assign, Constant, Initializer
from graphopt.ir.model.current_scope import uninitialized
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType, to_onnx_dtype
from graphopt.parameters import create_state
from graphopt.runtime.state.scope import Scope


class StateTable:
    """All state variables of one optimizer.

    ``variables`` maps (parameter, state) names to variables. A state dict's key is
    ``<parameter>_<state>_0``: variables of a second optimizer have other numbers, their keys not.
    """

    def __init__(self, optimizer: str | None) -> None:
        self.optimizer = optimizer
        self.variables: dict[tuple[str, str], Variable] = {}
        self.copies: dict[str, Variable] = {}
        self.pending: dict[str, np.ndarray] | None = None
        self.pending_copies: Mapping[str, np.ndarray] = {}

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """If the body raises, the table is as it was before."""
        saved = dict(self.variables), dict(self.copies)
        try:
            yield
        except BaseException:
            self.variables, self.copies = saved
            raise

    def master(self, g: Tape, startup: Program, p: Variable) -> Variable:
        """The float32 copy of a half-precision parameter."""
        wide = TensorType(np.dtype("f4"), p.tensor_type.shape)
        name = g.program.unique_name(f"{p.name}_fp32_master")
        pending = self.pending_copies.get(p.name)
        first: Initializer = _CopyOf(p) if pending is None else Assign(pending)
        self.copies[p.name] = create_state(g.program, startup, name, wide, first)
        return self.copies[p.name]

    def initializer(self, key: str, value: float) -> Initializer:
        """The first value of a state: the loaded one, if a state dict was loaded.

        Raises:
            StateError: the state dict lacks it.
        """
        if self.pending is None:
            return Constant(value)
        if key not in self.pending:
            raise _missing([key], self.pending)
        return Assign(self.pending[key])

    def values(self, scope: Scope) -> dict[str, np.ndarray]:
        """Every state's value by key: all of one kind, then all of the next.

        Raises:
            StateError: a state has no value in the scope.
        """
        if not self.variables and self.pending is not None:
            return dict(self.pending)
        kinds = list(dict.fromkeys(kind for _, kind in self.variables))
        ordered = sorted(self.variables.items(), key=lambda item: kinds.index(item[0][1]))
        return {key_of(*name): _read(scope, v) for name, v in ordered}

    def masters(self, scope: Scope) -> dict[str, np.ndarray]:
        """The float32 copies by parameter.

        Raises:
            StateError: a copy has no value in the scope.
        """
        return {name: _read(scope, v) for name, v in self.copies.items()}

    def load(self, arrays: Mapping[str, Any], copies: Mapping[str, Any], scope: Scope) -> None:
        """Check all values, then set them; before there are variables, keep them.

        Raises:
            StateError: a state is missing, or has another shape; nothing is changed.
        """
        found = {k: np.asarray(v) for k, v in arrays.items()}
        if not self.variables and not self.copies:
            self.pending, self.pending_copies = found or None, copies
            return
        targets = {key_of(*name): v for name, v in self.variables.items()}
        missing = [key for key in targets if key not in found]
        if missing:
            raise _missing(missing, found)
        new = [(v, found[key]) for key, v in targets.items()]
        new += [(v, np.asarray(copies[n])) for n, v in self.copies.items() if n in copies]
        for v, value in new:
            if value.shape != v.shape:
                raise StateError(
                    f"the state dict has {v.name} with another shape",
                    operands=[(v.name, v.tensor_type), ("given", list(value.shape))],
                )
        for v, value in new:
            scope.var(v.name).get_tensor().set(value.astype(v.dtype))


def key_of(parameter: str, kind: str) -> str:
    """A state's key in a state dict."""
    return f"{parameter}_{kind}_0"


def _missing(keys: list[str], found: Mapping[str, Any]) -> StateError:
    return StateError(
        f"the state dict lacks {', '.join(keys[:4])}{' …' if len(keys) > 4 else ''}",
        operands=[("it has", ", ".join(sorted(found)[:8]) or "nothing")],
        fix="load the state of an optimizer of this class over parameters of these names",
    )


def _read(scope: Scope, v: Variable) -> np.ndarray:
    if scope.values.get(v.name) is None:
        raise uninitialized(v)
    return np.array(scope.var(v.name).get_tensor())


class State:
    """Makes the state variables of one parameter, named as Paddle does: ``w_d_0``."""

    def __init__(
        self, table: StateTable, g: Tape, startup: Program, parameter: Variable, w: Variable
    ) -> None:
        self.table = table
        self.g = g
        self.startup = startup
        self.parameter = parameter
        self.prefix = w.name if table.optimizer is None else f"{w.name}_{table.optimizer}"

    def new(self, kind: str, tensor_type: TensorType, value: float = 0.0) -> Variable:
        """A state variable that startup fills with ``value``."""
        first = self.table.initializer(key_of(self.parameter.name, kind), value)
        name = self.g.program.unique_name(f"{self.prefix}_{kind}")
        variable = create_state(self.g.program, self.startup, name, tensor_type, first)
        self.table.variables[self.parameter.name, kind] = variable
        return variable

    def scalar(self, kind: str, w: Variable, value: float) -> Variable:
        """A state of shape [1] and w's dtype."""
        return self.new(kind, TensorType(w.dtype, (1,)), value)


class _CopyOf(Initializer):
    """The first value of another variable, cast."""

    def __init__(self, source: Variable) -> None:
        self.source = source

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Cast the other variable."""
        g.Cast(g.block.var(self.source.name), to=to_onnx_dtype(w.dtype), into=[w])
