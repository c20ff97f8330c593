"""A run prepared once, for tight loops: what ``Executor.prepare`` returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphopt.errors import FeedError, StepError
from graphopt.ir.model.program import Program
from graphopt.ir.types.types import TensorType
from graphopt.runtime.run.compiled import CompiledProgram
from graphopt.runtime.state.scope import Scope


class PreparedStep:
    """A compiled run as a function of the feed; it returns the fetched arrays.

    Attributes:
        program: what runs: the Program pruned, optimised, and written for these shapes and place.
    """

    def __init__(
        self,
        compiled: CompiledProgram,
        feed: Mapping[str, np.ndarray],
        program: Program,
        scope: Scope,
        own: Callable[[], CompiledProgram],
    ) -> None:
        self.program = compiled.plan.step
        self._run = compiled.run
        self._own = own
        self._feed = dict(feed)
        self._types = [(name, array.dtype, array.shape) for name, array in feed.items()]
        self._rates = program.rates
        self._scope = scope

    def __call__(self, feed: Mapping[str, np.ndarray] | None = None) -> list[Any]:
        """Run once, with the arrays of ``feed`` or those of the run before.

        Raises:
            FeedError: an array is missing, or of another dtype or shape than was prepared for.
        """
        if feed is not None:
            for name, dtype, shape in self._types:
                array = feed.get(name)
                if type(array) is not np.ndarray or array.dtype != dtype or array.shape != shape:
                    raise _misfit(name, dtype, shape, array)
            self._feed = dict(feed)
        try:
            return self._run(self._feed, self._scope, self._rates)
        except StepError:
            self._run = self._own().run
            return self._run(self._feed, self._scope, self._rates)


def _misfit(name: str, dtype: np.dtype, shape: tuple[int, ...], found: object) -> FeedError:
    given = TensorType(found.dtype, found.shape) if isinstance(found, np.ndarray) else repr(found)
    return FeedError(
        f"{name} is not what the step was prepared for",
        operands=[("prepared", TensorType(dtype, shape)), ("fed", given)],
        fix=f"feed an array of type {TensorType(dtype, shape)}, or use exe.run",
    )
