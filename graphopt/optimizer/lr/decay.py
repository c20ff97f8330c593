"""Schedules that fall smoothly."""

from __future__ import annotations

import math
from collections.abc import Callable

from graphopt.optimizer.lr.base import Formula, LRScheduler, check, check_count, check_type, is_int
from graphopt.optimizer.lr.formula import Maths, N


class NoamDecay(Formula):
    """Rises in a line for ``warmup_steps`` epochs, then falls with the root of the epoch e.

    learning_rate / sqrt(d_model) * min(e^-1/2, e warmup_steps^-3/2), where ``d_model`` is the width
    of a transformer. ``learning_rate``, ``last_epoch`` and ``verbose`` are those of
    ``LRScheduler``, and so are their errors.

    Vaswani et al.: Attention Is All You Need, 2017.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.NoamDecay(d_model=64, warmup_steps=2)
    >>> for epoch in range(5):
    ...     print(f"{rate():.3f}", end=" ")
    ...     rate.step()
    0.000 0.044 0.088 0.072 0.062

    Raises:
        ArgumentError: ``d_model`` or ``warmup_steps`` is not positive.
    """

    def __init__(
        self,
        d_model: float,
        warmup_steps: float,
        learning_rate: float = 1.0,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        check(d_model > 0, "d_model", d_model, "positive")
        check(warmup_steps > 0, "warmup_steps", warmup_steps, "positive")
        self.d_model = d_model
        self.warmup_steps = warmup_steps
        super().__init__(learning_rate, last_epoch, verbose)

    def _rate(self, m: Maths[N], e: N) -> N:
        falling = m.power(m.greatest(e, 1), -0.5)  # below e = 1 the other is the smaller one anyway
        rising = e * math.pow(self.warmup_steps, -1.5)
        return self.base_lr / math.sqrt(self.d_model) * m.least(falling, rising)


class NaturalExpDecay(Formula):
    """The rate learning_rate exp(-gamma e), with e the epoch.

    ``gamma`` is positive. ``learning_rate``, ``last_epoch`` and ``verbose`` are those of
    ``LRScheduler``, and so are their errors.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.NaturalExpDecay(0.5, gamma=0.1)
    >>> for epoch in range(4):
    ...     print(f"{rate():.3f}", end=" ")
    ...     rate.step()
    0.500 0.452 0.409 0.370

    Raises:
        ArgumentError: ``gamma`` is not positive.
    """

    def __init__(
        self, learning_rate: float, gamma: float, last_epoch: int = -1, verbose: bool = False
    ) -> None:
        check(gamma > 0, "gamma", gamma, "positive")
        self.gamma = gamma
        super().__init__(learning_rate, last_epoch, verbose)

    def _rate(self, m: Maths[N], e: N) -> N:
        return self.base_lr * m.exp(-self.gamma * e)


class InverseTimeDecay(Formula):
    """The rate learning_rate / (1 + gamma e), with e the epoch.

    ``gamma`` is any number. ``learning_rate``, ``last_epoch`` and ``verbose`` are those of
    ``LRScheduler``, and so are their errors.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.InverseTimeDecay(0.5, gamma=0.25)
    >>> for epoch in range(4):
    ...     print(f"{rate():.3f}", end=" ")
    ...     rate.step()
    0.500 0.400 0.333 0.286
    """

    def __init__(
        self, learning_rate: float, gamma: float, last_epoch: int = -1, verbose: bool = False
    ) -> None:
        self.gamma = gamma
        super().__init__(learning_rate, last_epoch, verbose)

    def _rate(self, m: Maths[N], e: N) -> N:
        return self.base_lr / (1 + self.gamma * e)


class ExponentialDecay(Formula):
    """The rate learning_rate gamma^e, with e the epoch.

    ``gamma`` is between 0 and 1. ``learning_rate``, ``last_epoch`` and ``verbose`` are those of
    ``LRScheduler``, and so are their errors.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.ExponentialDecay(0.5, gamma=0.9)
    >>> for epoch in range(4):
    ...     print(f"{rate():.4f}", end=" ")
    ...     rate.step()
    0.5000 0.4500 0.4050 0.3645

    Raises:
        ArgumentError: ``gamma`` is not between 0 and 1.
    """

    def __init__(
        self, learning_rate: float, gamma: float, last_epoch: int = -1, verbose: bool = False
    ) -> None:
        check(0 < gamma < 1, "gamma", gamma, "between 0 and 1")
        self.gamma = gamma
        super().__init__(learning_rate, last_epoch, verbose)

    def _rate(self, m: Maths[N], e: N) -> N:
        return self.base_lr * m.power(self.gamma, e)


class PolynomialDecay(Formula):
    """The rate (learning_rate - end_lr) (1 - e / n)^power + end_lr, with e the epoch.

    n is ``decay_steps``, in epochs; from there on the rate is ``end_lr``. With ``cycle`` n is
    instead the next multiple of decay_steps, and the rate jumps up at each. ``power`` is the
    exponent. ``learning_rate``, ``last_epoch`` and ``verbose`` are those of ``LRScheduler``, and so
    are their errors.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.PolynomialDecay(0.5, decay_steps=4, end_lr=0.1)
    >>> for epoch in range(6):
    ...     print(f"{rate():.1f}", end=" ")
    ...     rate.step()
    0.5 0.4 0.3 0.2 0.1 0.1

    Raises:
        ArgumentError: ``decay_steps`` is not a positive int; ``power`` is not positive.
    """

    def __init__(
        self,
        learning_rate: float,
        decay_steps: int,
        end_lr: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        valid = is_int(decay_steps) and decay_steps > 0
        check(valid, "decay_steps", decay_steps, "a positive int")
        check(power > 0, "power", power, "positive")
        self.decay_steps = decay_steps
        self.end_lr = end_lr
        self.power = power
        self.cycle = cycle
        super().__init__(learning_rate, last_epoch, verbose)

    def _rate(self, m: Maths[N], e: N) -> N:
        left = m.power(1 - self._progress(m, e), self.power)
        return (self.base_lr - self.end_lr) * left + self.end_lr

    def _progress(self, m: Maths[N], e: N) -> N:
        """From 0 to 1."""
        if not self.cycle:
            return m.least(e, self.decay_steps) / self.decay_steps
        cycles = m.greatest(-(-e // self.decay_steps), 1)  # e / decay_steps, rounded up
        return e / (self.decay_steps * cycles)


class LinearLR(Formula):
    """A line from learning_rate start_factor to learning_rate end_factor in ``total_steps`` epochs.

    The rate is learning_rate (start_factor + (end_factor - start_factor) e / total_steps) at epoch
    e, up to total_steps, with ``start_factor`` in (0, 1] and ``end_factor`` in [0, 1].
    ``learning_rate``, ``last_epoch`` and ``verbose`` are those of ``LRScheduler``, and so are their
    errors.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.LinearLR(0.5, total_steps=4, start_factor=0.2)
    >>> for epoch in range(6):
    ...     print(f"{rate():.1f}", end=" ")
    ...     rate.step()
    0.1 0.2 0.3 0.4 0.5 0.5

    Raises:
        ArgumentTypeError: ``total_steps`` is not an int.
        ArgumentError: ``total_steps`` is not positive; a factor is out of its range.
    """

    def __init__(
        self,
        learning_rate: float,
        total_steps: int,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        check(0 < start_factor <= 1, "start_factor", start_factor, "in (0, 1]")
        check(0 <= end_factor <= 1, "end_factor", end_factor, "in [0, 1]")
        check_count("total_steps", total_steps)
        self.total_steps = total_steps
        self.start_factor = start_factor
        self.end_factor = end_factor
        super().__init__(learning_rate, last_epoch, verbose)

    def _rate(self, m: Maths[N], e: N) -> N:
        progress = m.least(e, self.total_steps) / self.total_steps
        change = self.end_factor - self.start_factor
        return self.base_lr * (self.start_factor + change * progress)


class LambdaDecay(LRScheduler):
    """The rate learning_rate lr_lambda(e), with e the epoch.

    ``lr_lambda`` is a function from an int to a number. ``learning_rate``, ``last_epoch`` and
    ``verbose`` are those of ``LRScheduler``, and so are their errors.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.LambdaDecay(0.5, lambda epoch: 0.9**epoch)
    >>> rate.step()
    >>> rate()
    0.45

    Raises:
        ArgumentTypeError: ``lr_lambda`` cannot be called.
    """

    def __init__(
        self,
        learning_rate: float,
        lr_lambda: Callable[[int], float],
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        check_type(callable(lr_lambda), "lr_lambda", lr_lambda, "a function")
        self.lr_lambda = lr_lambda
        super().__init__(learning_rate, last_epoch, verbose)

    def get_lr(self) -> float:
        """The rate at ``last_epoch``, computed."""
        return self.base_lr * self.lr_lambda(self.last_epoch)


class MultiplicativeDecay(LRScheduler):
    """The rate learning_rate lr_lambda(1) lr_lambda(2) … lr_lambda(e), with e the epoch.

    ``lr_lambda`` is a function from an int to a number. ``learning_rate``, ``last_epoch`` and
    ``verbose`` are those of ``LRScheduler``, and so are their errors.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.MultiplicativeDecay(0.8, lambda epoch: 0.5)
    >>> rate.step()
    >>> rate.step()
    >>> rate()
    0.2

    Raises:
        ArgumentTypeError: ``lr_lambda`` cannot be called.
    """

    def __init__(
        self,
        learning_rate: float,
        lr_lambda: Callable[[int], float],
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        check_type(callable(lr_lambda), "lr_lambda", lr_lambda, "a function")
        self.lr_lambda = lr_lambda
        self._product = 0, 1.0  # an epoch, and the product up to it: a step is one factor more
        super().__init__(learning_rate, last_epoch, verbose)

    def get_lr(self) -> float:
        """The rate at ``last_epoch``, computed."""
        done, product = self._product if self._product[0] <= self.last_epoch else (0, 1.0)
        for epoch in range(done + 1, self.last_epoch + 1):
            product *= self.lr_lambda(epoch)
        self._product = max(self.last_epoch, 0), product
        return self.base_lr * product
