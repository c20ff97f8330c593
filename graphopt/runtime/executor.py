"""Executor: prunes a Program by feed and fetch, compiles it once, and runs it."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from graphopt.errors import ArgumentTypeError, DeviceError
from graphopt.ir.program import Program
from graphopt.ir.variable import Constant
from graphopt.runtime.compile import CompiledProgram, Plan
from graphopt.runtime.place import Place, as_place
from graphopt.runtime.request import Feed, Request, as_feed, as_request
from graphopt.runtime.scope import Scope, global_scope
from graphopt.runtime.session import FetchedTensor, check_place, to_numpy
from graphopt.scoping import default_main_program

MAX_COMPILED = 64  # of one Program: as many combinations of feeds and fetches


class Executor:
    """Runs Programs on one place; compiled Programs are cached until the Program changes.

    Raises:
        DeviceError: the place cannot be used (CUDA without a device, driver or provider).
    """

    def __init__(self, place: Place | str | None = None) -> None:
        self.place = as_place(place)
        check_place(self.place)
        self._cache: WeakKeyDictionary[Program, dict[Any, CompiledProgram]] = WeakKeyDictionary()
        self._closed = False

    def run(
        self,
        program: Program | None = None,
        feed: Feed | list[Feed] | None = None,
        fetch_list: object = None,
        feed_var_name: str = "feed",
        fetch_var_name: str = "fetch",
        scope: Scope | None = None,
        return_numpy: bool = True,
        use_program_cache: bool = True,
        use_prune: bool = False,
    ) -> list[Any]:
        """Run a Program once and return the fetched values, in the order they were asked for.

        An ordinary run executes what the fetches need and everything that assigns state. With what
        ``minimize`` returned in ``fetch_list`` (the pair, or its list of ops) only those updates
        run, and nothing is returned for it. With (parameter, gradient) pairs and no update ops
        nothing is assigned at all. Losses are from before the update, parameters from after it.

        State is committed to the scope only when the whole run has succeeded. ``use_prune``,
        ``use_program_cache`` and the two ``…_var_name`` are accepted as in Paddle; runs are always
        pruned and cached.

        Raises:
            FeedError: a feed is missing, unknown, or of a wrong dtype or shape.
            UnknownVariableError: a fetched name is not in the Program.
            UninitializedError: the startup Program has not run in this scope.
            StepError: onnxruntime failed; it is the ``__cause__``.
        """
        if self._closed:
            raise DeviceError("the Executor is closed", fix="make a new Executor")
        program = default_main_program() if program is None else program
        if not isinstance(program, Program):
            raise ArgumentTypeError(
                f"Executor.run takes a Program, not {type(program).__name__}",
                fix="exe.run(program, feed={…}, fetch_list=[…])",
            )
        arrays = as_feed(program, feed)
        request = as_request(program, fetch_list)
        if not program.global_block().ops and not request.fetch:
            warnings.warn("the Program has no ops: nothing is run", stacklevel=2)
            return []
        compiled = self._compiled(program, request, arrays)
        scope = global_scope() if scope is None else scope
        found = compiled.run(arrays, scope, program.rates)
        if return_numpy:
            return [to_numpy(value) for value in found]
        return [FetchedTensor(value) for value in found]

    def _compiled(
        self, program: Program, request: Request, feeds: dict[str, np.ndarray]
    ) -> CompiledProgram:
        cache = self._cache.setdefault(program, {})
        for stale in [key for key in cache if key[0] != program.version]:
            del cache[stale]
        key = (
            program.version,
            tuple(sorted(feeds)),
            # clones number their constants anew
            tuple(id(v) if isinstance(v, Constant) else v.name for v in request.fetch),
            tuple(id(op) for op in request.roots),
            request.updates,
        )
        if key in cache:
            return cache[key]
        compiled = CompiledProgram(Plan(program, request, tuple(feeds)), self.place)
        # A Program that reads nothing runs once: keeping its session would only hold memory.
        if compiled.plan.inputs:
            while len(cache) >= MAX_COMPILED:
                del cache[next(iter(cache))]
            cache[key] = compiled
        return compiled

    def close(self) -> None:
        """Drop every compiled Program; a later run raises."""
        self._cache.clear()
        self._closed = True
