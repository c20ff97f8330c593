"""Schedules that fall along a cosine."""

from __future__ import annotations

from graphopt.optimizer.lr.base import Formula, check, check_count, check_type, is_int, is_number
from graphopt.optimizer.lr.formula import Maths, N, OnFloats

HORIZON = 2**40  # epochs: restarts after this one are not listed


class CosineAnnealingDecay(Formula):
    """Falls along a cosine from ``learning_rate`` to ``eta_min`` in ``T_max`` epochs, then rises.

    eta_min + (learning_rate - eta_min) (1 + cos(pi e / T_max)) / 2, with e the epoch.
    ``last_epoch`` and ``verbose`` are those of ``LRScheduler``, as are the errors of
    ``learning_rate``.

    Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, 2017 (no restarts).

    >>> from graphopt.optimizer import lr
    >>> rate = lr.CosineAnnealingDecay(0.5, T_max=4)
    >>> for epoch in range(6):
    ...     print(f"{rate():.3f}", end=" ")
    ...     rate.step()
    0.500 0.427 0.250 0.073 0.000 0.073

    Raises:
        ArgumentTypeError: ``T_max`` is not an int; ``eta_min`` is not a number.
        ArgumentError: ``T_max`` is not positive.
    """

    def __init__(
        self,
        learning_rate: float,
        T_max: int,  # noqa: N803 - Paddle's name
        eta_min: float = 0,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        check_count("T_max", T_max)
        check_type(is_number(eta_min), "eta_min", eta_min, "an int or a float")
        self.T_max = T_max
        self.eta_min = float(eta_min)
        super().__init__(learning_rate, last_epoch, verbose)

    def _rate(self, m: Maths[N], e: N) -> N:
        return self.eta_min + (self.base_lr - self.eta_min) * m.wave(e / self.T_max)


class CosineAnnealingWarmRestarts(Formula):
    """Falls along a cosine from ``learning_rate`` to ``eta_min`` and starts over, again and again.

    eta_min + (learning_rate - eta_min) (1 + cos(pi T_cur / T_i)) / 2. T_cur counts the epochs since
    the last start, T_i is the length of this run: ``T_0`` epochs first, then ``T_mult`` times the
    one before. ``last_epoch`` and ``verbose`` are those of ``LRScheduler``, as are the errors of
    ``learning_rate``.

    Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, 2017.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.CosineAnnealingWarmRestarts(0.5, T_0=2, T_mult=2)
    >>> for epoch in range(7):
    ...     print(f"{rate():.3f}", end=" ")
    ...     rate.step()
    0.500 0.250 0.500 0.427 0.250 0.073 0.500

    Raises:
        ArgumentError: ``T_0`` or ``T_mult`` is not a positive int; a step to a negative epoch.
    """

    def __init__(
        self,
        learning_rate: float,
        T_0: int,  # noqa: N803 - Paddle's name
        T_mult: int = 1,  # noqa: N803 - Paddle's name
        eta_min: float = 0,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        check(is_int(T_0) and T_0 > 0, "T_0", T_0, "a positive int")
        check(is_int(T_mult) and T_mult > 0, "T_mult", T_mult, "a positive int")
        self.T_0 = T_0
        self.T_mult = T_mult
        self.eta_min = float(eta_min)
        self._starts, self._lengths = _runs(T_0, T_mult)
        super().__init__(learning_rate, last_epoch, verbose)

    @property
    def T_cur(self) -> float:  # noqa: N802 - Paddle's name
        """The epochs since the last start."""
        return self._run(OnFloats(), self.last_epoch)[0]

    @property
    def T_i(self) -> float:  # noqa: N802 - Paddle's name
        """The length of this run, in epochs."""
        return self._run(OnFloats(), self.last_epoch)[1]

    def _check_epoch(self, epoch: int) -> None:
        check(epoch >= 0, "epoch", epoch, "at least 0")

    def _rate(self, m: Maths[N], e: N) -> N:
        since, length = self._run(m, e)
        return self.eta_min + (self.base_lr - self.eta_min) * m.wave(since / length)

    def _run(self, m: Maths[N], e: N) -> tuple[N, N | float]:
        """T_cur and T_i."""
        if self.T_mult == 1:
            return e % self.T_0, self.T_0
        k = m.count(self._starts[1:], e)
        return e - m.pick(self._starts, k), m.pick(self._lengths, k)


def _runs(first: int, factor: int) -> tuple[list[int], list[int]]:
    """Where each run starts, and how long it is, in epochs."""
    starts, lengths = [0], [first]
    while factor > 1 and starts[-1] < HORIZON:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(lengths[-1] * factor)
    return starts, lengths
