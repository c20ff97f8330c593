"""What all schedules share: the epoch, the rate in force, their state."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from graphopt.errors import ArgumentError, ArgumentTypeError, StateError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.optimizer.lr.formula import F64, Maths, N, OnFloats, OnTape, Traced


class LRScheduler:
    """Base of the schedules: a learning rate that changes with the epoch.

    ``rate()`` is the rate in force; ``rate.step()`` goes to the next epoch. An epoch is whatever
    the caller takes one step for: a pass over the data, or a batch. Subclasses give ``get_lr``.

    Attributes:
        base_lr: the rate that was given.
        last_epoch: the epoch the rate is for: 0 after construction.
        last_lr: the rate.
        keys: what ``state_dict`` holds; see ``state_keys``.

    >>> from graphopt.optimizer.lr import LRScheduler
    >>> class Halving(LRScheduler):
    ...     def get_lr(self):
    ...         return self.base_lr / 2**self.last_epoch
    >>> rate = Halving(0.8)
    >>> rate.step()
    >>> rate(), rate.state_dict()
    (0.4, {'last_epoch': 1, 'last_lr': 0.4})

    Args:
        learning_rate: the base rate.
        last_epoch: the epoch before the first one; -1 is a fresh start.
        verbose: print the rate at every step.

    Raises:
        ArgumentTypeError: ``learning_rate`` is not an int or a float.
        ArgumentError: ``learning_rate`` is negative.
    """

    def __init__(
        self, learning_rate: float = 0.1, last_epoch: int = -1, verbose: bool = False
    ) -> None:
        check_rate("learning_rate", learning_rate)
        self.base_lr = float(learning_rate)
        self.last_lr = self.base_lr
        self.last_epoch = last_epoch
        self.verbose = verbose
        self.step()

    def __call__(self) -> float:
        """The rate in force."""
        return self.last_lr

    def get_lr(self) -> float:
        """The rate at ``last_epoch``, computed."""
        raise NotImplementedError

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch, or to ``epoch`` if it is given.

        Raises:
            ArgumentError: the schedule has no rate at this epoch.
        """
        epoch = self.last_epoch + 1 if epoch is None else epoch
        self._check_epoch(epoch)
        self.last_epoch = epoch
        self._set(self.get_lr())

    def _check_epoch(self, epoch: int) -> None:
        """Raise if the schedule has no rate at this epoch."""

    def _set(self, rate: float) -> None:
        self.last_lr = float(rate)
        if self.verbose:
            name = type(self).__name__
            print(f"Epoch {self.last_epoch}: {name} set learning rate to {self.last_lr}.")  # noqa: T201

    def state_keys(self) -> None:
        """Set ``keys``, the attributes that are the state. For subclasses with more state."""
        self.keys = ["last_epoch", "last_lr"]

    def state_dict(self) -> dict[str, object]:
        """The state as plain numbers."""
        self.state_keys()
        return {key: self.__dict__[key] for key in self.keys if key in self.__dict__}

    def set_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Take over a ``state_dict`` that a schedule gave; the rate is restored, not computed.

        Entries that the schedule does not know are a warning.

        Raises:
            StateError: an entry is missing.
        """
        self.state_keys()
        name = type(self).__name__
        for key in self.keys:
            if key not in state_dict:
                raise StateError(
                    f"the state of {name} lacks {key!r}", fix=f"it needs {', '.join(self.keys)}"
                )
        unused = [key for key in state_dict if key not in self.keys]
        if unused:
            warnings.warn(f"{name} does not use these of its state: {unused}", stacklevel=2)
        self.__dict__.update({key: state_dict[key] for key in self.keys})

    def set_dict(self, state_dict: Mapping[str, object]) -> None:
        """An older name of ``set_state_dict``; ``state_dict`` is what it takes over.

        Raises:
            StateError: an entry is missing.
        """
        self.set_state_dict(state_dict)

    def expression(self, g: Tape, step: Variable) -> Variable | None:
        """The rate as ops that ``g`` records: f64[], in terms of ``step``, a counter of epochs.

        ``step`` is [], of any integer or float dtype, and 0 where the schedule began afresh
        (``last_epoch=-1``). None where the rate is not a formula of the epoch: it depends on a
        metric, or on Python code of the user.
        """
        return self._expression(g, g.cast(step, F64)) if self._is_ours() else None

    def _expression(self, g: Tape, e: Variable) -> Variable | None:
        return None

    def _is_ours(self) -> bool:
        """Whether graphopt's own code computes the rate, not a subclass of the user's."""
        methods = [getattr(type(self), name) for name in ("__call__", "get_lr", "step")]
        return all(method.__module__.startswith("graphopt.") for method in methods)


class Formula(LRScheduler):
    """A schedule whose rate is a formula of the epoch."""

    def get_lr(self) -> float:
        """The rate at ``last_epoch``, computed."""
        return self._rate(OnFloats(), self.last_epoch)

    def _rate(self, m: Maths[N], e: N) -> N:
        """The formula."""
        raise NotImplementedError

    def _expression(self, g: Tape, e: Variable) -> Variable | None:
        return self._rate(OnTape(g), Traced(g, e)).variable


def is_number(value: object) -> bool:
    """Whether a value is an int or a float, as Python sees it."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_int(value: object) -> bool:
    """Whether a value is an int."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_type(ok: bool, name: str, value: object, wanted: str) -> None:
    """Raise unless ``ok``.

    Raises:
        ArgumentTypeError: ``value`` is not ``wanted``.
    """
    if not ok:
        raise ArgumentTypeError(f"{name} must be {wanted}, not {type(value).__name__}")


def check(ok: bool, name: str, value: object, wanted: str) -> None:
    """Raise unless ``ok``.

    Raises:
        ArgumentError: ``value`` is not ``wanted``.
    """
    if not ok:
        raise ArgumentError(f"{name} must be {wanted}, not {value!r}")


def check_rate(name: str, value: float) -> None:
    """Raise unless a value is an int or float of at least 0.

    Raises:
        ArgumentTypeError: it is of another type.
        ArgumentError: it is negative.
    """
    check_type(is_number(value), name, value, "an int or a float")
    check(value >= 0, name, value, "at least 0")


def check_count(name: str, value: int) -> None:
    """Raise unless a value is a positive int.

    Raises:
        ArgumentTypeError: it is of another type.
        ArgumentError: it is not positive.
    """
    check_type(is_int(value), name, value, "an int")
    check(value > 0, name, value, "positive")
