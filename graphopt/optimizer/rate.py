"""The learning rate: a float or a scheduler, as a persistable variable that runs read."""

from __future__ import annotations

from copy import deepcopy

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError, StateError
from graphopt.initializer import Constant
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.types import TensorType
from graphopt.optimizer.lr import LRScheduler, ReduceOnPlateau
from graphopt.parameters import create_state


class LearningRate:
    """One optimizer's learning rate and the variables that hold it, one per Program and dtype.

    Raises:
        ArgumentError: the rate is None.
        ArgumentTypeError: the rate is neither a float nor a scheduler.
    """

    def __init__(self, learning_rate: float | LRScheduler) -> None:
        if learning_rate is None:
            raise ArgumentError("learning_rate must not be None", fix="e.g. 0.001")
        if not isinstance(learning_rate, (float, LRScheduler)):
            raise ArgumentTypeError(
                f"learning_rate must be a float, not {type(learning_rate).__name__}",
                fix="e.g. 0.1, or 1.0 for one, or a scheduler of optimizer.lr",
            )
        self.scheduler = learning_rate if isinstance(learning_rate, LRScheduler) else None
        self._constant = learning_rate if isinstance(learning_rate, float) else 0.0
        self._variables: list[Variable] = []
        self._was_set = False

    def current(self) -> float | None:
        """What the next run is to use; None while the first, constant rate stands."""
        return self.value() if self._was_set or self.scheduler is not None else None

    def upcoming(self, steps: int) -> list[float] | None:
        """The rates of the next steps, with the scheduler going on after each; None without one.

        Raises:
            StateError: the scheduler waits for a metric.
        """
        if self.scheduler is None:
            return None
        if isinstance(self.scheduler, ReduceOnPlateau):
            raise StateError(
                "ReduceOnPlateau needs a metric after each step, so it cannot go on by itself",
                fix="run_steps(…, step_schedulers=False), then call its step",
            )
        ahead, rates = deepcopy(self.scheduler), []
        ahead.verbose = False
        for _ in range(steps):
            rates.append(float(ahead()))
            ahead.step()
        return rates

    def advance(self, steps: int) -> None:
        """Let the scheduler go on by so many steps."""
        if self.scheduler is not None:
            for _ in range(steps):
                self.scheduler.step()

    def value(self) -> float:
        """The rate now."""
        return float(self._constant if self.scheduler is None else self.scheduler())

    def set(self, value: float) -> None:
        """Use another constant rate from the next run on.

        Raises:
            ArgumentTypeError: ``value`` is not an int or a float.
            StateError: a scheduler is in use.
        """
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ArgumentTypeError(
                f"set_lr takes an int or float, not {type(value).__name__}", fix="e.g. 0.1"
            )
        if self.scheduler is not None:
            raise StateError(
                "set_lr: the learning rate follows a scheduler",
                fix="use set_lr_scheduler, or build the optimizer with a float",
            )
        self._constant = float(value)
        self._was_set = True

    def set_scheduler(self, scheduler: LRScheduler) -> None:
        """Use a scheduler from the next run on.

        Raises:
            ArgumentTypeError: ``scheduler`` is not an LRScheduler.
        """
        if not isinstance(scheduler, LRScheduler):
            raise ArgumentTypeError(
                f"set_lr_scheduler takes an LRScheduler, not {type(scheduler).__name__}"
            )
        self.scheduler = scheduler

    def of(self, g: Tape, startup: Program, p: Parameter) -> Variable:
        """The rate in force for a parameter: the global one times its own factor, as []."""
        rate = self._variable(g.program, startup, np.dtype("f8" if p.dtype == "f8" else "f4"))
        factor = p.optimize_attr["learning_rate"]
        return rate if factor == 1.0 else g.Mul(rate, factor)

    def _variable(self, program: Program, startup: Program, dtype: np.dtype) -> Variable:
        for v in self._variables:
            if v.program is program and v.dtype == dtype and program.has_var(v.name):
                return v
        variable = create_state(
            program,
            startup,
            program.unique_name("learning_rate"),
            TensorType(dtype, ()),
            Constant(self.value()),
        )
        self._variables.append(variable)
        program.rates[variable.name] = self
        return variable
