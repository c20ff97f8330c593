"""What puts a Program back as it was, if what is being recorded fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

ABSENT = object()


class Journal:
    """The changes since it was begun, each with what undoes it; the last is undone first.

    >>> journal, numbers = Journal(), {"a": 1}
    >>> journal.entry(numbers, "a")
    >>> numbers["a"] = 2
    >>> journal.undo()
    >>> numbers
    {'a': 1}
    """

    def __init__(self) -> None:
        self._actions: list[Callable[[], object]] = []

    def on_undo(self, action: Callable[[], object]) -> None:
        """Call ``action`` where the changes are undone."""
        self._actions.append(action)

    def field(self, owner: object, name: str) -> None:
        """An attribute is about to be set."""
        self._actions.append(partial(setattr, owner, name, getattr(owner, name)))

    def entry(self, mapping: dict[Any, Any], key: object) -> None:
        """An entry of a dict is about to be set or removed."""
        self._actions.append(partial(_restore, mapping, key, mapping.get(key, ABSENT)))

    def whole(self, mapping: dict[Any, Any]) -> None:
        """A dict is about to be changed, and has to come back in the order that it has."""
        self._actions.append(partial(_refill, mapping, dict(mapping)))

    def added(self, members: set[Any], new: Iterable[object]) -> None:
        """These are about to be added to a set."""
        fresh = [item for item in new if item not in members]
        if fresh:
            self._actions.append(partial(members.difference_update, fresh))

    def undo(self) -> None:
        """Undo all changes."""
        while self._actions:
            self._actions.pop()()


def _restore(mapping: dict[Any, Any], key: object, value: object) -> None:
    if value is ABSENT:
        mapping.pop(key, None)
    else:
        mapping[key] = value


def _refill(mapping: dict[Any, Any], content: dict[Any, Any]) -> None:
    mapping.clear()
    mapping.update(content)
