"""The values that variables hold between runs, as far as the IR needs to know them.

The scopes themselves are the runtime's: they put values on devices. Here is only which of them is
the current one, and reading and checking by variable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graphopt.errors import StateError, UninitializedError
from graphopt.ir.types.types import fits

if TYPE_CHECKING:
    from graphopt.ir.model.variable import Variable


class Holder(Protocol):
    """A scope."""

    def get(self, name: str) -> np.ndarray | None:
        """A copy of the value, or None."""

    def put(self, name: str, value: np.ndarray) -> None:
        """Replace the value by a copy of the array."""


shared: list[Holder] = []  # the process's own scope: the runtime makes it
inner: ContextVar[Holder | None] = ContextVar("graphopt_scope", default=None)


def current() -> Holder:
    """The innermost guard's scope, else the process's own."""
    scope = inner.get()
    return shared[0] if scope is None else scope


def read(variables: Iterable[Variable], scope: Holder | None) -> dict[str, np.ndarray]:
    """The values of variables by name.

    Raises:
        UninitializedError: some have no value; all are named.
    """
    holder = current() if scope is None else scope
    known = list(variables)
    found = {v.name: holder.get(v.name) for v in known}
    empty = [v for v in known if found[v.name] is None]
    if empty:
        raise uninitialized(*empty)
    return {name: value for name, value in found.items() if value is not None}


def uninitialized(*variables: Variable) -> UninitializedError:
    """What is raised where variables have no value in a scope.

    Args:
        variables: one or more, all that have none.
    """
    names = ", ".join(v.name for v in variables[:8])
    return UninitializedError(
        f"{names} {'has' if len(variables) == 1 else 'have'} no value yet",
        operands=[(v.name, v.tensor_type) for v in variables],
        where=variables[0].where,
        fix="run the startup Program first: exe.run(startup_program)",
    )


def write(
    variables: Mapping[str, Variable], values: Mapping[str, Any], scope: Holder | None
) -> None:
    """Set values by name: all of them, or on an error none.

    Raises:
        StateError: a name is unknown, or a value has another shape or dtype; all are named.
    """
    arrays = {name: np.asarray(value) for name, value in values.items()}
    problems = [(name, _problem(variables.get(name), value)) for name, value in arrays.items()]
    wrong = [(name, problem) for name, problem in problems if problem]
    if wrong:
        raise StateError("the values do not fit the Program; nothing is changed", operands=wrong)
    holder = current() if scope is None else scope
    for name, value in arrays.items():
        holder.put(name, value)


def _problem(variable: Variable | None, value: np.ndarray) -> str:
    if variable is None:
        return "the Program has no such variable"
    declared = variable.tensor_type
    if value.dtype != declared.dtype or not fits(value.shape, declared.shape):
        return f"declared {declared}, given {value.dtype.name}{list(value.shape)}"
    return ""
