"""A line that leads to another schedule."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.errors import StateError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.optimizer.lr.base import LRScheduler, check, check_type, is_int, is_number
from graphopt.optimizer.lr.formula import OnTape, Traced
from graphopt.optimizer.lr.plateau import ReduceOnPlateau

INNER = "LinearWarmup_LR"


class LinearWarmup(LRScheduler):
    """A line from ``start_lr`` to ``end_lr`` in ``warmup_steps`` epochs, then ``learning_rate``.

    ``learning_rate`` is a number or a schedule, whose epoch 0 is the one after the line. It is
    stepped along, except a ReduceOnPlateau, which is yours to step: only you have its metric.
    ``last_epoch`` and ``verbose`` are those of ``LRScheduler``.

    Goyal et al.: Accurate, Large Minibatch SGD, 2017.

    >>> from graphopt.optimizer import lr
    >>> rate = lr.LinearWarmup(lr.ExponentialDecay(0.4, 0.5), 2, start_lr=0.0, end_lr=0.4)
    >>> for epoch in range(5):
    ...     print(rate(), end=" ")
    ...     rate.step()
    0.0 0.2 0.4 0.2 0.1

    Raises:
        ArgumentTypeError: ``learning_rate`` is neither a number nor a schedule; ``start_lr`` is not
            a number.
        ArgumentError: ``warmup_steps`` is not a positive int; ``start_lr`` is negative; ``end_lr``
            is not above it.
    """

    def __init__(
        self,
        learning_rate: float | LRScheduler,
        warmup_steps: int,
        start_lr: float,
        end_lr: float,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        valid = is_number(learning_rate) or isinstance(learning_rate, LRScheduler)
        check_type(valid, "learning_rate", learning_rate, "a number or a schedule")
        positive = is_int(warmup_steps) and warmup_steps > 0
        check(positive, "warmup_steps", warmup_steps, "a positive int")
        check(end_lr > start_lr, "end_lr", end_lr, f"above start_lr ({start_lr})")
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.start_lr = start_lr
        self.end_lr = end_lr
        super().__init__(start_lr, last_epoch, verbose)

    def get_lr(self) -> float:
        """The rate at ``last_epoch``, computed; takes the inner schedule there."""
        after = self.last_epoch - self.warmup_steps
        if after < 0:
            change = self.end_lr - self.start_lr
            return self.start_lr + change * (self.last_epoch / self.warmup_steps)
        if not isinstance(self.learning_rate, LRScheduler):
            return self.learning_rate
        if not isinstance(self.learning_rate, ReduceOnPlateau):
            self.learning_rate.step(after)
        return self.learning_rate()

    def state_dict(self) -> dict[str, object]:
        """The state as plain numbers; that of an inner schedule is a dict in it."""
        state = super().state_dict()
        if isinstance(self.learning_rate, LRScheduler):
            state[INNER] = self.learning_rate.state_dict()
        return state

    def set_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Take over a ``state_dict`` that a schedule gave, and the inner schedule's in it.

        Raises:
            StateError: an entry is missing.
        """
        own = dict(state_dict)
        if not isinstance(self.learning_rate, LRScheduler):
            super().set_state_dict(own)
            return
        inner = own.pop(INNER, None)
        if not isinstance(inner, Mapping):
            raise StateError(f"the state of LinearWarmup lacks {INNER!r}, the inner schedule's")
        super().set_state_dict(own)
        self.learning_rate.set_state_dict(inner)

    def _expression(self, g: Tape, e: Variable) -> Variable | None:
        after = self._after(g, g.Max(g.Sub(e, self.warmup_steps), 0.0))
        if after is None:
            return None
        epoch = Traced(g, e)
        rising = self.start_lr + (self.end_lr - self.start_lr) * (epoch / self.warmup_steps)
        return OnTape(g).where(epoch < self.warmup_steps, rising, Traced(g, after)).variable

    def _after(self, g: Tape, e: Variable) -> Variable | None:
        """The rate e epochs after the warm-up."""
        if isinstance(self.learning_rate, LRScheduler):
            return self.learning_rate.expression(g, e)
        return g.const(self.learning_rate, e.dtype)
