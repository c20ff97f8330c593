"""What the variables and the open dims of a Program are called: no name and no symbol twice."""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.ir.model.undo import Journal
from graphopt.ir.types.types import Dim

LETTERS = "NMKLPQRSTUVW"


class Names:
    """The names of all variables, of whatever block: none shadows another."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}  # the number that a prefix is tried with next

    def __contains__(self, name: object) -> bool:
        return name in self._taken

    def take(self, name: str, journal: Journal | None = None) -> None:
        """A variable has this name from now on."""
        if journal is not None:
            journal.added(self._taken, [name])
        self._taken.add(name)

    def free(self, name: str) -> None:
        """No variable has this name any more."""
        self._taken.discard(name)

    def take_all(self, other: Names) -> None:
        """Avoid whatever names another Program has."""
        self._taken |= other._taken

    def unique(self, prefix: str, journal: Journal | None = None) -> str:
        """``prefix_0``, ``prefix_1``, …: the first that is free."""
        number = self._next.get(prefix, 0)
        while (name := f"{prefix}_{number}") in self._taken:
            number += 1
        if journal is not None:
            journal.entry(self._next, prefix)
        self._next[prefix] = number + 1
        return name

    def go_on_from(self, other: Names) -> None:
        """Number new names behind those of another Program."""
        self._next = dict(other._next)


class Symbols:
    """The symbols of open dims: those that the user chose, and those that were made up.

    >>> symbols = Symbols()
    >>> [symbols.fresh() for _ in range(3)]
    ['N', 'M', 'K']
    """

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._generated: set[str] = set()
        self._count = 0

    def note(self, dims: Iterable[Dim], journal: Journal | None = None) -> None:
        """These dims occur, so fresh symbols differ from theirs."""
        found = [d for d in dims if isinstance(d, str)]
        if not found:
            return
        if journal is not None:
            journal.added(self._used, found)
        self._used.update(found)

    def is_generated(self, symbol: str) -> bool:
        """Whether the symbol was made up, so that a user's of this name takes its place."""
        return symbol in self._generated

    def claim(self, symbol: str, journal: Journal | None = None) -> None:
        """The user chose this symbol."""
        if symbol in self._generated:
            if journal is not None:
                journal.on_undo(lambda: self._generated.add(symbol))
            self._generated.discard(symbol)
        self.note([symbol], journal)

    def fresh(self, journal: Journal | None = None) -> str:
        """A symbol for a dim nothing is known of: N, M and so on, then d12, d13 and so on."""
        if journal is not None:
            journal.field(self, "_count")
        symbol = ""
        while not symbol or symbol in self._used:
            number = self._count
            self._count += 1
            symbol = LETTERS[number] if number < len(LETTERS) else f"d{number}"
        self.note([symbol], journal)
        if journal is not None:
            journal.added(self._generated, [symbol])
        self._generated.add(symbol)
        return symbol

    def go_on_from(self, other: Symbols) -> None:
        """Know the symbols of another Program, and go on counting where it is."""
        self._used, self._generated = set(other._used), set(other._generated)
        self._count = other._count
