"""Schedules that fall in steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from graphopt.errors import ArgumentError
from graphopt.optimizer.lr.base import Formula, check, check_count, check_type
from graphopt.optimizer.lr.formula import Maths, N


class PiecewiseDecay(Formula):
    """The rate ``values[k]`` for the first k whose ``boundaries[k]`` is above the epoch.

    From the last boundary on it is the last value. ``last_epoch`` and ``verbose`` are those of
    ``LRScheduler``.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.PiecewiseDecay([2, 3], [0.5, 0.1, 0.01])
    >>> for epoch in range(5):
    ...     print(rate(), end=" ")
    ...     rate.step()
    0.5 0.5 0.1 0.01 0.01

    Raises:
        ArgumentError: there are no ``boundaries``, or not more ``values`` than boundaries.
    """

    def __init__(
        self,
        boundaries: Sequence[float],
        values: Sequence[float],
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        if not len(boundaries):
            raise ArgumentError("boundaries must not be empty")
        if len(values) <= len(boundaries):
            raise ArgumentError(
                f"{len(boundaries)} boundaries need at least {len(boundaries) + 1} values, "
                f"{len(values)} were given"
            )
        self.boundaries = boundaries
        self.values = values
        super().__init__(last_epoch=last_epoch, verbose=verbose)

    def _rate(self, m: Maths[N], e: N) -> N:
        # A boundary below an earlier one is never the first that e is below.
        k = m.count([*accumulate(self.boundaries, max)], e)
        return m.pick([*self.values[: len(self.boundaries)], self.values[-1]], k)


class MultiStepDecay(Formula):
    """The rate learning_rate gamma^k, with k the number of ``milestones`` up to this epoch.

    ``milestones`` are epochs, ``gamma`` is below 1. ``learning_rate``, ``last_epoch`` and
    ``verbose`` are those of ``LRScheduler``, and so are their errors.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.MultiStepDecay(0.5, milestones=[2, 3])
    >>> for epoch in range(5):
    ...     print(f"{rate():.3f}", end=" ")
    ...     rate.step()
    0.500 0.500 0.050 0.005 0.005

    Raises:
        ArgumentTypeError: ``milestones`` is not a list or a tuple.
        ArgumentError: ``milestones`` do not increase; ``gamma`` is 1 or more.
    """

    def __init__(
        self,
        learning_rate: float,
        milestones: Sequence[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        check_type(isinstance(milestones, (list, tuple)), "milestones", milestones, "a list")
        check(all(a < b for a, b in pairwise(milestones)), "milestones", milestones, "increasing")
        check(gamma < 1, "gamma", gamma, "less than 1")
        self.milestones = milestones
        self.gamma = gamma
        super().__init__(learning_rate, last_epoch, verbose)

    def _rate(self, m: Maths[N], e: N) -> N:
        return self.base_lr * m.power(self.gamma, m.count(self.milestones, e))


class StepDecay(Formula):
    """The rate learning_rate gamma^(e // step_size), with e the epoch.

    ``step_size`` is in epochs, ``gamma`` below 1. ``learning_rate``, ``last_epoch`` and ``verbose``
    are those of ``LRScheduler``, and so are their errors.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.StepDecay(0.5, step_size=2)
    >>> for epoch in range(5):
    ...     print(f"{rate():.3f}", end=" ")
    ...     rate.step()
    0.500 0.500 0.050 0.050 0.005

    Raises:
        ArgumentTypeError: ``step_size`` is not an int.
        ArgumentError: ``step_size`` is not positive; ``gamma`` is 1 or more.
    """

    def __init__(
        self,
        learning_rate: float,
        step_size: int,
        gamma: float = 0.1,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        check_count("step_size", step_size)
        check(gamma < 1, "gamma", gamma, "less than 1")
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(learning_rate, last_epoch, verbose)

    def _rate(self, m: Maths[N], e: N) -> N:
        return self.base_lr * m.power(self.gamma, e // self.step_size)
