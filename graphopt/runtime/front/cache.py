"""The Executor's cache: requests of one Program, each compiled for the shapes that are fed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np

from graphopt.errors import ShapeError, StepError
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Constant, Variable
from graphopt.runtime.front.compiler import Compiler
from graphopt.runtime.plan.plan import select_step, select_steps
from graphopt.runtime.request.fetches import Request
from graphopt.runtime.run.compiled import CompiledProgram
from graphopt.runtime.run.many_steps import FEW_ROWS, CompiledSteps

T = TypeVar("T")
Shapes: TypeAlias = tuple[tuple[int, ...], ...]
MAX_COMPILED = 64  # of one Program: as many combinations of feeds and fetches
MAX_SPECIALISED = 4  # shapes compiled for themselves; all others share one open Program
MAX_CHECKED = 64  # shapes whose check is remembered


class Entry:
    """What one combination of feeds and fetches is compiled to."""

    def __init__(self, program: Program, meaning: object, fed: tuple[str, ...]) -> None:
        self.meaning = meaning
        self.fed = fed
        types = {name: program.global_block().vars[name].tensor_type for name in fed}
        self.dtypes = [(name, found.dtype) for name, found in types.items()]
        self.is_open = any(not found.is_static for found in types.values())
        self._known: dict[Shapes, CompiledProgram] = {}
        self._for_all: CompiledProgram | None = None

    def known(self, feed: Mapping[str, Any]) -> CompiledProgram | None:
        """What runs a feed of arrays, if its shapes were checked before."""
        for name, dtype in self.dtypes:
            array = feed[name]
            if type(array) is not np.ndarray or array.dtype != dtype:
                return None
        return self._known.get(tuple([feed[name].shape for name in self.fed]))

    def compiled(
        self, program: Program, request: Request, feeds: Mapping[str, Any], compiler: Compiler
    ) -> CompiledProgram:
        """What runs checked feeds; compiled now if it has to be."""
        shapes = tuple([getattr(feeds[name], "shape", ()) for name in self.fed])
        if shapes in self._known:
            return self._known[shapes]
        if self.is_open and len(self._known) < MAX_SPECIALISED:
            found = self._special(program, request, shapes, compiler)
        else:
            found = self._open(program, request, compiler)
        if len(self._known) < MAX_CHECKED:
            self._known[shapes] = found
        return found

    def _special(
        self, program: Program, request: Request, shapes: Shapes, compiler: Compiler
    ) -> CompiledProgram:
        known = dict(zip(self.fed, shapes, strict=True))
        try:
            return compiler.one(select_step(program, request, self.fed, compiler.place, known))
        except (StepError, ShapeError):  # operands that do not fit: a run can say it better
            return self._open(program, request, compiler)

    def _open(self, program: Program, request: Request, compiler: Compiler) -> CompiledProgram:
        if self._for_all is None:
            selected = select_step(program, request, self.fed, compiler.place, {})
            self._for_all = compiler.one(selected)
        return self._for_all


class Cache:
    """The entries of one Program at one version.

    An entry is found by what was asked, or faster by the very objects that it was asked with. It
    holds names and identities only: a cache does not keep its Program alive.
    """

    def __init__(self, version: int) -> None:
        self.version = version
        self._entries: dict[object, Entry] = {}
        self._aliases: dict[object, Entry] = {}
        self._steps: dict[object, CompiledSteps] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def asked(self, feed: object, fetch_list: object) -> Entry | None:
        """The entry that these objects were remembered for."""
        return self._aliases.get(_identity(feed, fetch_list)) if _is_plain(feed) else None

    def entry(self, program: Program, request: Request, fed: tuple[str, ...]) -> Entry:
        """The entry of a request; a new one, not yet kept, if there is none."""
        meaning = _meaning(request, fed)
        return self._entries.get(meaning) or Entry(program, meaning, fed)

    def keep(self, entry: Entry, program: Program, feed: object, fetch_list: object) -> None:
        """Remember an entry, and the objects that it was asked with; forget the oldest."""
        _put(self._entries, entry.meaning, entry)
        if _is_plain(feed) and all(_lives_in(program, leaf) for leaf in _leaves(fetch_list)):
            _put(self._aliases, _identity(feed, fetch_list), entry)

    def steps(
        self,
        program: Program,
        request: Request,
        feeds: Mapping[str, np.ndarray],
        varying: tuple[str, ...],
        count: int,
        compiler: Compiler,
    ) -> CompiledSteps:
        """What runs ``count`` steps of a request; compiled now if it has to be."""
        shapes = {name: array.shape[1:] for name, array in feeds.items()}
        rows = [int(program.global_block().var(name).shape[0]) for name in program.tables
                if program.global_block().has_var(name)]  # fmt: skip
        by_rows = count <= min(rows, default=0) or min(rows, default=0) >= FEW_ROWS
        key = _meaning(request, tuple(feeds)), tuple(shapes.items()), varying, by_rows
        if key not in self._steps:
            selected = select_steps(
                program, request, tuple(feeds), compiler.place, shapes, varying, by_rows
            )
            _put(self._steps, key, compiler.many(selected), MAX_SPECIALISED)
        return self._steps[key]


def _put(kept: dict[object, T], key: object, entry: T, limit: int = MAX_COMPILED) -> None:
    while len(kept) >= limit and key not in kept:
        del kept[next(iter(kept))]
    kept[key] = entry


def _lives_in(program: Program, item: object) -> bool:
    """Whether nothing else can come to have the identity of ``item`` while the Program stands."""
    if isinstance(item, Operator):
        return item.block is not None and item.block.program is program
    return isinstance(item, str) or (isinstance(item, Variable) and item.program is program)


def _meaning(request: Request, fed: tuple[str, ...]) -> object:
    return (
        tuple(sorted(fed)),
        # clones number their constants anew
        tuple(id(v) if isinstance(v, Constant) else v.name for v in request.fetch),
        tuple(id(op) for op in request.roots),
        request.updates,
    )


def _is_plain(feed: object) -> bool:
    return feed is None or isinstance(feed, dict)


def _identity(feed: object, fetch_list: object) -> object:
    names = tuple(feed) if isinstance(feed, dict) else ()
    return names, _identities(fetch_list)


def _identities(item: object) -> object:
    if isinstance(item, (list, tuple)):
        return (type(item), *map(_identities, item))
    return item if isinstance(item, str) else id(item)


def _leaves(item: object) -> Iterator[object]:
    if isinstance(item, (list, tuple)):
        for part in item:
            yield from _leaves(part)
    else:
        yield item
