"""Executor: prunes a Program by feed and fetch, compiles it once, and runs it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError, DeviceError, StepError
from graphopt.ir.model.program import Program
from graphopt.ir.model.step import Step
from graphopt.runtime.front.cache import Cache
from graphopt.runtime.front.compiler import ChangePipeline, Compiler
from graphopt.runtime.front.prepared import PreparedStep
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.providers.names import as_place
from graphopt.runtime.ort.values import FetchedTensor
from graphopt.runtime.plan.plan import select_step
from graphopt.runtime.request.feeds import Feed, as_feed, as_steps
from graphopt.runtime.request.fetches import as_request
from graphopt.runtime.run.compiled import CompiledProgram
from graphopt.runtime.run.many_steps import count_steps
from graphopt.runtime.state.scope import Scope, global_scope
from graphopt.scoping import default_main_program


class Executor:
    """Runs Programs on one place; compiled Programs are cached until the Program changes.

    Args:
        place: ``CPUPlace()``, ``CUDAPlace(0)``, a ``Place`` of any other provider of onnxruntime,
            or a name such as 'cpu' or 'gpu:1'. By default the processor.
        passes: changes the pipelines that this Executor compiles with: a function that gets each
            of ``passes.pipelines.STEP`` (one step) and ``STEPS`` (many in a call) and returns what
            is run in its place.

    Raises:
        ArgumentError: there is no place of this name, or ``passes`` names no pass.
        DeviceError: the place cannot be used: no such device, or onnxruntime lacks the provider.

    >>> exe = Executor(passes=lambda pipeline: pipeline.without("Fuse", "Schedule"))
    """

    def __init__(
        self, place: Place | str | None = None, passes: ChangePipeline | None = None
    ) -> None:
        self.place = as_place(place)
        self.place.check()
        self._compiler = Compiler(self.place, passes)
        self._cache: WeakKeyDictionary[Program, Cache] = WeakKeyDictionary()
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
        """Run ``program`` once and return the fetched values, in the order they were asked for.

        An ordinary run executes what the fetches need and everything that assigns state. With what
        ``minimize`` returned in ``fetch_list`` (the pair, or its list of ops) only those updates
        run, and nothing is returned for it. With (parameter, gradient) pairs and no update ops
        nothing is assigned at all. Losses are from before the update, parameters from after it.

        The Program is by default the default main Program, the scope the global one. State is
        committed to the scope only when the whole run has succeeded. Values are arrays; with
        ``return_numpy=False`` they stay on the device. ``use_prune``, ``use_program_cache``,
        ``feed_var_name`` and ``fetch_var_name`` are accepted as in Paddle; runs are always pruned
        and cached.

        Raises:
            FeedError: a feed is missing, unknown, or of a wrong dtype or shape.
            UnknownVariableError: a fetched name is not in the Program.
            UninitializedError: the startup Program has not run in this scope.
            StepError: onnxruntime failed; it is the ``__cause__``.
            ArgumentTypeError: ``program`` is not a Program, ``feed`` not a dict, or ``fetch_list``
                holds what cannot be fetched.
            ArgumentError: ``fetch_list`` holds an op of another Program.
            DeviceError: the Executor is closed.
        """
        if self._closed:
            raise DeviceError("the Executor is closed", fix="make a new Executor")
        program = self._checked(program)
        scope = global_scope() if scope is None else scope
        entry = self._requests(program).asked(feed, fetch_list)
        compiled = None if entry is None else entry.known(feed or {})  # type: ignore[arg-type]
        if compiled is None:
            compiled, arrays = self._compiled(program, feed, fetch_list)
        else:
            arrays = cast("dict[str, np.ndarray]", feed or {})
        if compiled is None:
            warnings.warn("the Program has no ops: nothing is run", stacklevel=2)
            return []
        try:
            found = compiled.run(arrays, scope, program.rates, on_device=not return_numpy)
        except StepError:
            compiled = self._own(program, compiled, arrays, fetch_list)
            found = compiled.run(arrays, scope, program.rates, on_device=not return_numpy)
        return found if return_numpy else [FetchedTensor(value) for value in found]

    def prepare(
        self,
        program: Program | None = None,
        feed: Feed | None = None,
        fetch_list: object = None,
        scope: Scope | None = None,
    ) -> PreparedStep:
        """Compile a run and return it as a function, for loops where every microsecond counts.

        ``step(feed)`` is what ``run(program, feed, fetch_list)`` is, for feeds of the names, dtypes
        and shapes given here; ``step()`` runs again with the arrays fed last, as they are then.
        Its state is in ``scope``, by default the global one.

        >>> import graphopt as go
        >>> main, startup = go.static.Program(), go.static.Program()
        >>> with go.static.program_guard(main, startup):
        ...     x = go.static.data("x", [None, 3])
        ...     loss = go.mean(go.static.nn.fc(x, 1))
        ...     _ = go.optimizer.SGD(0.1).minimize(loss)
        >>> exe, batch = go.static.Executor(), {"x": np.ones((2, 3), "f4")}
        >>> _ = exe.run(startup)
        >>> step = exe.prepare(main, batch, [loss])
        >>> losses = [float(step(batch)[0]) for _ in range(3)]
        >>> losses[0] > losses[1] > losses[2]
        True

        Raises:
            FeedError: as ``run`` does; ``step`` raises it for a feed of another shape or dtype.
            ArgumentError: the Program has no ops.
        """
        program = self._checked(program)
        compiled, arrays = self._compiled(program, feed, fetch_list)
        if compiled is None:
            raise ArgumentError("the Program has no ops to run", fix="record some, or fetch one")
        scope = global_scope() if scope is None else scope
        own = partial(self._own, program, compiled, arrays, fetch_list)
        return PreparedStep(compiled, arrays, program, scope, own)

    def run_steps(
        self,
        program: Program | None = None,
        feed: Feed | None = None,
        fetch_list: object = None,
        scope: Scope | None = None,
        *,
        steps: int | None = None,
        step_schedulers: bool = True,
    ) -> list[np.ndarray]:
        """Run ``program`` once for each slice of the feeds, in as few onnxruntime calls as can be.

        ``feed``, ``fetch_list`` and ``scope`` are those of ``run``, but every fed array has one dim
        more in front than its variable: the steps. Each fetched value comes back with that dim, its
        values after each step. The result and the state afterwards are
        those of as many ``run`` calls, with a step of every learning-rate scheduler after each:
        ``step_schedulers=False`` holds the rates still. ``steps`` is how many, for a Program that
        is fed nothing.

        A feed of more than 256 MiB is cut into several calls; where ASGD's table is large, so are
        more steps than it has rows. Each call is a transaction: if one fails, the steps of those
        before it are done. A memory-mapped feed is read piece by piece.

        >>> import graphopt as go
        >>> main, startup = go.static.Program(), go.static.Program()
        >>> with go.static.program_guard(main, startup):
        ...     x = go.static.data("x", [None, 3])
        ...     loss = go.mean(go.static.nn.fc(x, 1))
        ...     _ = go.optimizer.ASGD(0.1, batch_num=4).minimize(loss)
        >>> exe = go.static.Executor()
        >>> _ = exe.run(startup)
        >>> (losses,) = exe.run_steps(main, {"x": np.ones((8, 2, 3), "f4")}, [loss])
        >>> losses.shape, bool(losses[0] > losses[-1])
        ((8,), True)

        Raises:
            FeedError: as ``run`` does; or the arrays do not share one first dim.
            ArgumentError: no feed, and no ``steps``.
            StateError: a scheduler cannot go on by itself (ReduceOnPlateau).
        """
        program = self._checked(program)
        count = count_steps(feed or {}, steps)
        arrays = as_steps(program, feed or {})
        request = as_request(program, fetch_list)
        rates = {n: r.upcoming(count) for n, r in program.rates.items() if step_schedulers}
        varying = {name: values for name, values in rates.items() if values is not None}
        compiled = self._requests(program).steps(
            program, request, arrays, tuple(varying), count, self._compiler
        )
        scope = global_scope() if scope is None else scope
        found = compiled.run(arrays, count, scope, program.rates, varying)
        for rate in {id(program.rates[name]): program.rates[name] for name in varying}.values():
            rate.advance(count)
        for name, values in varying.items():
            if scope.find_var(name) is not None:
                scope.put(name, np.array(values[-1], program.global_block().var(name).dtype))
        return found

    def _checked(self, program: Program | None) -> Program:
        if self._closed:
            raise DeviceError("the Executor is closed", fix="make a new Executor")
        program = default_main_program() if program is None else program
        if not isinstance(program, Program):
            raise ArgumentTypeError(
                f"Executor.run takes a Program, not {type(program).__name__}",
                fix="exe.run(program, feed={…}, fetch_list=[…])",
            )
        if isinstance(program, Step) and program.next_state:
            raise ArgumentTypeError(
                "this is the Step that a run of a Program comes to, which assigns no state itself",
                fix="run the Program that it was made of",
            )
        return program

    def _requests(self, program: Program) -> Cache:
        """The compiled requests of a Program as it is now."""
        cache = self._cache.get(program)
        if cache is None or cache.version != program.version:
            cache = self._cache[program] = Cache(program.version)
        return cache

    def _compiled(
        self, program: Program, feed: object, fetch_list: object
    ) -> tuple[CompiledProgram | None, dict[str, np.ndarray]]:
        """What runs a request, None if there is nothing to run; and the feeds as arrays."""
        arrays = as_feed(program, feed)
        request = as_request(program, fetch_list)
        if not program.global_block().ops and not request.fetch:
            return None, arrays
        cache = self._requests(program)
        entry = cache.entry(program, request, tuple(arrays))
        compiled = entry.compiled(program, request, arrays, self._compiler)
        # A Program that reads nothing runs once: keeping its session would only hold memory.
        if compiled.plan.inputs:
            cache.keep(entry, program, feed, fetch_list)
        return compiled, arrays

    def _own(
        self,
        program: Program,
        compiled: CompiledProgram,
        arrays: Mapping[str, np.ndarray],
        fetch_list: object,
    ) -> CompiledProgram:
        """Where a run has failed: what is compiled for this Program alone, to fail with its lines.

        Raises:
            StepError: the failure, if it is of this Program's own.
        """
        if compiled.plan.step.family is program.family:
            raise
        request = as_request(program, fetch_list)
        shapes = {name: a.shape for name, a in arrays.items() if isinstance(a, np.ndarray)}
        selected = select_step(program, request, tuple(arrays), self.place, shapes)
        return self._compiler.own(selected)

    def close(self) -> None:
        """Drop every compiled Program; a later run raises."""
        self._cache.clear()
        self._closed = True
