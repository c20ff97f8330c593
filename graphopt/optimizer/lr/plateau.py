"""The schedule that follows a metric."""

from __future__ import annotations

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.optimizer.lr.base import LRScheduler, check, check_rate

BETTER = {"min": -1, "max": 1}


class ReduceOnPlateau(LRScheduler):
    """Multiplies the rate by ``factor`` when a metric has stopped getting better.

    A metric is better if it is below best - best * ``threshold`` (``threshold_mode`` "rel"), or
    below best - threshold ("abs"); with ``mode="max"`` if it is above, with + for -. When more than
    ``patience`` metrics in a row were not better the rate is reduced, down to ``min_lr``, unless
    that changes it by no more than ``epsilon``; the next ``cooldown`` metrics are then not looked
    at. The first rate is ``learning_rate``; ``verbose`` prints the rate when it changes.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.ReduceOnPlateau(0.8, factor=0.5, patience=1)
    >>> for loss in [3.0, 2.0, 2.5, 2.5, 1.0]:
    ...     rate.step(loss)
    ...     print(rate(), end=" ")
    0.8 0.8 0.8 0.4 0.4

    Raises:
        ArgumentTypeError: ``learning_rate`` is not an int or a float.
        ArgumentError: ``learning_rate`` is negative; there is no such ``mode`` or
            ``threshold_mode``; ``factor`` is 1 or more.
    """

    def __init__(
        self,
        learning_rate: float,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0,
        epsilon: float = 1e-8,
        verbose: bool = False,
    ) -> None:
        mode, threshold_mode = str(mode).lower(), str(threshold_mode).lower()
        check(mode in BETTER, "mode", mode, "'min' or 'max'")
        check(factor < 1, "factor", factor, "less than 1")
        check(threshold_mode in ("rel", "abs"), "threshold_mode", threshold_mode, "'rel' or 'abs'")
        check_rate("learning_rate", learning_rate)
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.min_lr = min_lr
        self.epsilon = epsilon
        self.verbose = verbose
        self.base_lr = self.last_lr = float(learning_rate)
        self.last_epoch = 0
        self.cooldown_counter = 0
        self.best: float | None = None
        self.num_bad_epochs = 0

    def get_lr(self) -> float:
        """The rate in force: it is not a formula of the epoch."""
        return self.last_lr

    def step(self, metrics: float | np.ndarray, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take the metric of one epoch: ``metrics`` is a number, or an array of one.

        ``epoch`` is its number, by default the next one.

        Raises:
            ArgumentTypeError: ``metrics`` is no number, or a Variable, which has no value yet.
            ArgumentError: ``metrics`` has more than one element, or none.
        """
        metric = _as_number(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            return
        if self._is_better(metric):
            self.best, self.num_bad_epochs = metric, 0
        else:
            self.num_bad_epochs += 1
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
            self._reduce()

    def _is_better(self, metric: float) -> bool:
        if self.best is None:
            return True
        relative = self.threshold_mode == "rel"
        margin = self.best * self.threshold if relative else self.threshold
        sign = BETTER[self.mode]
        return sign * metric > sign * (self.best + sign * margin)

    def _reduce(self) -> None:
        reduced = max(self.last_lr * self.factor, self.min_lr)
        if self.last_lr - reduced > self.epsilon:
            self._set(reduced)

    def state_keys(self) -> None:
        """Set ``keys``: the counters too are state."""
        self.keys = ["cooldown_counter", "best", "num_bad_epochs", "last_epoch", "last_lr"]


def _as_number(metric: object) -> float:
    if not isinstance(metric, (int, float)) and not hasattr(metric, "__array__"):
        raise ArgumentTypeError(f"a metric is a number, not {type(metric).__name__}")
    array = np.asarray(metric)
    if array.size != 1:
        raise ArgumentError(f"a metric has one element, not {array.size}")
    return float(array.reshape(()))
