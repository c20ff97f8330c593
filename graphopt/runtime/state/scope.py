"""Scope: the values of persistable variables by name, each where it was used last."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from graphopt.errors import UninitializedError
from graphopt.ir.model import current_scope
from graphopt.ir.types.context import Setting
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.providers.cpu import CPUPlace
from graphopt.runtime.ort.values import Value, to_device, to_numpy


class ScopeTensor:
    """The value of one variable in a Scope: ``numpy.array`` reads it, ``set`` replaces it.

    Args:
        scope: the scope.
        name: the variable.
    """

    def __init__(self, scope: Scope, name: str) -> None:
        self._scope = scope
        self._name = name

    def _value(self) -> Value:
        value = self._scope.values.get(self._name)
        if value is None:
            raise UninitializedError(
                f"{self._name} has no value yet",
                fix="run the startup Program first: exe.run(startup_program)",
            )
        return value

    def shape(self) -> list[int]:
        """The dims.

        Raises:
            UninitializedError: the variable has no value yet.
        """
        return list(self._value().shape())

    def set(self, array: np.ndarray, place: Place | None = None) -> None:
        """Replace the value; the next run checks its shape and dtype.

        Args:
            array: what is copied.
            place: where the copy is to lie; by default in host memory.
        """
        self._scope.values[self._name] = to_device(np.array(array), place or CPUPlace())
        self._scope.spares.pop(self._name, None)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        array = np.asarray(to_numpy(self._value()))
        return array if dtype is None else array.astype(dtype)

    def __repr__(self) -> str:
        return f"ScopeTensor({self._name}, {np.asarray(self)!r})"


class ScopeVariable:
    """A variable in a Scope.

    Args:
        scope: the scope.
        name: the variable's name.
    """

    def __init__(self, scope: Scope, name: str) -> None:
        self._scope = scope
        self.name = name

    def get_tensor(self) -> ScopeTensor:
        """The value: ``numpy.array`` reads it, ``set`` replaces it."""
        return ScopeTensor(self._scope, self.name)


class Scope:
    """Values of persistable variables by name. A run commits to it only when it has succeeded.

    >>> scope = Scope()
    >>> scope.var("w").get_tensor().set(np.ones(2, "float32"))
    >>> np.array(scope.find_var("w").get_tensor())
    array([1., 1.], dtype=float32)
    >>> scope.find_var("v") is None
    True
    """

    def __init__(self) -> None:
        self._held: tuple[dict[str, Value | None], dict[str, Value]] = {}, {}

    @property
    def values(self) -> dict[str, Value | None]:
        """The value of each variable."""
        return self._held[0]

    @property
    def spares(self) -> dict[str, Value]:
        """The other buffer of each variable that steps assign."""
        return self._held[1]

    def publish(
        self,
        values: Mapping[str, Value],
        spares: Mapping[str, Value],
        without_spare: Collection[str] = (),
    ) -> None:
        """Let ``values`` be the state from one moment on: whoever looks sees all or none.

        ``spares`` are the buffers that steps may write to next; variables named in
        ``without_spare`` have none any more.
        """
        kept = {**self._held[1], **spares}
        for name in without_spare:
            kept.pop(name, None)
        self._held = {**self._held[0], **values}, kept

    def var(self, name: str) -> ScopeVariable:
        """The variable called ``name``, made without a value if the scope has none."""
        self.values.setdefault(name, None)
        return ScopeVariable(self, name)

    def find_var(self, name: str) -> ScopeVariable | None:
        """The variable called ``name``; None if the scope has none."""
        return ScopeVariable(self, name) if name in self.values else None

    def local_var_names(self) -> list[str]:
        """The names of the variables in this scope."""
        return list(self.values)

    def get(self, name: str) -> np.ndarray | None:
        """A copy of the value of ``name``, in host memory; None if it has none."""
        value = self.values.get(name)
        return None if value is None else to_numpy(value)

    def put(self, name: str, value: np.ndarray) -> None:
        """Replace the value of ``name`` by a copy of ``value``."""
        self.var(name).get_tensor().set(value)

    def take(self, name: str, value: np.ndarray) -> None:
        """Replace the value of ``name`` by ``value`` itself, which nobody else may use then."""
        self.values[name] = to_device(value, CPUPlace())
        self.spares.pop(name, None)


current_scope.shared.append(Scope())


def global_scope() -> Scope:
    """The scope that runs use unless they are given one: the innermost guard's, else the process's.

    All threads share the process's, in which two Programs' variables of one name are one value.
    """
    scope = current_scope.current()
    assert isinstance(scope, Scope)
    return scope


@contextmanager
def scope_guard(scope: Scope) -> Iterator[None]:
    """Inside, and in this thread or asyncio task only, runs use ``scope`` unless given another."""
    with Setting(current_scope.inner, scope):
        yield
