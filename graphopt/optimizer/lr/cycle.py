"""Schedules that go up and down."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.optimizer.lr.base import (
    Formula,
    check,
    check_count,
    check_rate,
    check_type,
    is_number,
)
from graphopt.optimizer.lr.formula import Maths, N, OnFloats


class OneCycleLR(Formula):
    """Up from ``max_learning_rate`` / ``divide_factor`` to the maximum, then down to the end rate.

    All within ``total_steps``, of which the way up takes the share ``phase_pct``. With
    ``three_phase`` the way down to where it began takes as many, and the rest leads on to
    ``end_learning_rate``. ``anneal_strategy`` is "cos" for half a cosine each way, "linear" for a
    line. ``last_epoch`` and ``verbose`` are those of ``LRScheduler``.

    Smith, Topin: Super-Convergence, 2017.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.OneCycleLR(0.8, total_steps=6, divide_factor=4.0, phase_pct=0.5)
    >>> for epoch in range(6):
    ...     print(f"{rate():.3f}", end=" ")
    ...     rate.step()
    0.200 0.500 0.800 0.600 0.200 0.000

    Raises:
        ArgumentTypeError: an argument has the wrong type; ``phase_pct`` must be a float.
        ArgumentError: an argument is out of range, or there is no such strategy; a step past
            ``total_steps``.
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        divide_factor: float = 25.0,
        end_learning_rate: float = 0.0001,
        phase_pct: float = 0.3,
        anneal_strategy: str = "cos",
        three_phase: bool = False,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        check_rate("max_learning_rate", max_learning_rate)
        check_count("total_steps", total_steps)
        check_type(is_number(divide_factor), "divide_factor", divide_factor, "an int or a float")
        check(divide_factor > 0, "divide_factor", divide_factor, "positive")
        check_rate("end_learning_rate", end_learning_rate)
        check_type(isinstance(phase_pct, float), "phase_pct", phase_pct, "a float")
        check(0 <= phase_pct <= 1, "phase_pct", phase_pct, "in [0, 1]")
        check(not three_phase or phase_pct < 0.5, "phase_pct", phase_pct, "less than 0.5")
        check(anneal_strategy in ("cos", "linear"), "anneal_strategy", anneal_strategy, COS_LINEAR)
        self.total_steps = total_steps
        self.max_lr = float(max_learning_rate)
        self.initial_lr = self.max_lr / divide_factor
        self.end_lr = float(end_learning_rate)
        self.anneal_strategy = anneal_strategy
        top, last = phase_pct * total_steps - 1, total_steps - 1
        self._knots: list[float] = [0, top, 2 * top, last] if three_phase else [0, top, last]
        self._widths = [(right - left) or 1.0 for left, right in pairwise(self._knots)]
        middle = [self.initial_lr] * three_phase
        self._values = [self.initial_lr, self.max_lr, *middle, self.end_lr]
        super().__init__(self.initial_lr, last_epoch, verbose)

    def _check_epoch(self, epoch: int) -> None:
        check(epoch <= self.total_steps, "epoch", epoch, f"at most {self.total_steps}")

    def _rate(self, m: Maths[N], e: N) -> N:
        k = m.count(self._knots[1:-1], e)  # the leg
        progress = (e - m.pick(self._knots, k)) / m.pick(self._widths, k)
        start = m.pick(self._values, k)
        end = m.pick(self._values[1:], k)
        if self.anneal_strategy == "cos":
            return end + (start - end) * m.wave(progress)
        return start + (end - start) * progress

    def _expression(self, g: Tape, e: Variable) -> Variable | None:
        return super()._expression(g, g.Min(e, self.total_steps))  # where Python would raise


COS_LINEAR = "'cos' or 'linear'"
MODES = ("triangular", "triangular2", "exp_range")


class CyclicLR(Formula):
    """Up from ``base_learning_rate`` to ``max_learning_rate`` and down again, over and over.

    The way up takes ``step_size_up`` steps, the way down ``step_size_down``, by default as many.
    The rate is base + (max - base) h s, with h the height, from 0 to 1, and s a scale, by ``mode``:
    1 for "triangular", 2^-k for "triangular2", ``exp_gamma``^e for "exp_range", where e is the
    epoch and k the cycles that are over. ``scale_fn`` takes the place of the mode: a function of e,
    or of k + 1, where ``scale_mode`` is "iterations", or "cycle". ``last_epoch`` and ``verbose``
    are those of ``LRScheduler``.

    Smith: Cyclical Learning Rates for Training Neural Networks, 2017.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.CyclicLR(0.1, 0.5, step_size_up=2, mode="triangular2")
    >>> for epoch in range(8):
    ...     print(f"{rate():.1f}", end=" ")
    ...     rate.step()
    0.1 0.3 0.5 0.3 0.1 0.2 0.3 0.2

    Raises:
        ArgumentTypeError: an argument has the wrong type; ``exp_gamma`` must be a float.
        ArgumentError: an argument is out of range, or there is no such mode.
    """

    def __init__(
        self,
        base_learning_rate: float,
        max_learning_rate: float,
        step_size_up: int,
        step_size_down: int | None = None,
        mode: str = "triangular",
        exp_gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        check_rate("max_learning_rate", max_learning_rate)
        check_count("step_size_up", step_size_up)
        if step_size_down is not None:
            check_count("step_size_down", step_size_down)
        check_type(isinstance(exp_gamma, float), "exp_gamma", exp_gamma, "a float")
        check(scale_fn is not None or mode in MODES, "mode", mode, f"one of {MODES}")
        check(scale_mode in ("cycle", "iterations"), "scale_mode", scale_mode, CYCLE_ITERATIONS)
        self.max_lr = float(max_learning_rate)
        self.step_size_up = step_size_up
        self.step_size_down = step_size_up if step_size_down is None else step_size_down
        self.mode = mode
        self.exp_gamma = exp_gamma
        self.scale_fn = scale_fn
        self.scale_mode = scale_mode
        super().__init__(base_learning_rate, last_epoch, verbose)

    @property
    def cycle_size(self) -> int:
        """The steps of a cycle."""
        return self.step_size_up + self.step_size_down

    def get_lr(self) -> float:
        """The rate at ``last_epoch``, computed."""
        if self.scale_fn is None:
            return super().get_lr()
        e = self.last_epoch
        argument = e if self.scale_mode == "iterations" else 1 + e // self.cycle_size
        return self.base_lr + self._height(OnFloats(), e) * self.scale_fn(argument)

    def _rate(self, m: Maths[N], e: N) -> N:
        height = self._height(m, e)
        if self.mode == "triangular2":
            height = height * m.power(0.5, e // self.cycle_size)
        if self.mode == "exp_range":
            height = height * m.power(self.exp_gamma, e)
        return self.base_lr + height

    def _height(self, m: Maths[N], e: N) -> N:
        """How far the rate is above the base, before it is scaled."""
        position = e % self.cycle_size
        up = position / self.step_size_up
        down = (self.cycle_size - position) / self.step_size_down
        return (self.max_lr - self.base_lr) * m.least(up, down)

    def _expression(self, g: Tape, e: Variable) -> Variable | None:
        return super()._expression(g, e) if self.scale_fn is None else None


CYCLE_ITERATIONS = "'cycle' or 'iterations'"
