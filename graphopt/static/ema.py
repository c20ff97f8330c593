"""Exponential moving averages of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from graphopt.errors import ArgumentError, StateError
from graphopt.initializer import Constant
from graphopt.ir.model.operator import Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import number
from graphopt.ir.types.types import TensorType
from graphopt.ir.types.where import at
from graphopt.parameters import create_state
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.state.scope import Scope
from graphopt.scoping import default_main_program, default_startup_program


class ExponentialMovingAverage:
    """e ← δ e + (1 - δ) w for every trainable parameter w; evaluation uses e / (1 - δ^t).

    t is the number of steps, δ the ``decay``. With ``thres_steps``, an integer Variable s, the
    decay of a step is min(δ, (1 + s) / (10 + s)), and the correction uses the product of the steps'
    decays. ``name`` is part of the names of the averages.

    Made under a ``program_guard``, behind ``minimize``; ``update`` records the averaging there.

    >>> import graphopt as go
    >>> main, startup = go.static.Program(), go.static.Program()
    >>> with go.static.program_guard(main, startup):
    ...     w = go.create_parameter([2], "float32", name="w")
    ...     _ = go.optimizer.SGD(0.1).minimize(go.sum(w * w))
    ...     ema = go.static.ExponentialMovingAverage(0.9)
    ...     ema.update()
    >>> exe = go.static.Executor()
    >>> _ = exe.run(startup)
    >>> trained = [exe.run(main, fetch_list=[w])[0] for _ in range(3)]
    >>> with ema.apply(exe):
    ...     mean = w.get_value()
    >>> bool((w.get_value() == trained[-1]).all())
    True

    Raises:
        ArgumentTypeError: the decay is not a number.
        ArgumentError: the decay is not in [0, 1), or there is nothing to average.
    """

    def __init__(
        self,
        decay: float = 0.999,
        thres_steps: Variable | None = None,
        name: str | None = None,
    ) -> None:
        if not 0 <= number("the decay", decay) < 1:
            raise ArgumentError(f"the decay must be in [0, 1), not {decay}")
        main = default_main_program()
        parameters = [p for p in main.all_parameters() if p.trainable]
        if not parameters:
            raise ArgumentError("the Program has no trainable parameter to average")
        self._decay = decay
        self._steps = thres_steps
        self._main = main
        prefix = f"{name}_" if name else ""
        self._product = _state(main, f"{prefix}ema_decay_pow", TensorType(np.dtype("f8"), ()), 1.0)
        self._means = [
            (p, _state(main, f"{p.name}_{prefix}ema", p.tensor_type, 0.0)) for p in parameters
        ]
        self._apply, self._restore = Program(), Program()
        self._record_swap()

    def update(self) -> None:
        """Record one step of averaging at this place of the Program."""
        g = Tape(self._main.global_block(), role=Role.UPDATE, made_by="ema")
        decay = self._decay_now(g)  # f64[]
        g.Mul(self._product, decay, into=[self._product])
        for p, mean in self._means:
            with at(p.where):
                share = g.cast(g.Sub(1.0, decay), p.dtype)
                g.Add(mean, g.Mul(g.Sub(p, mean), share), into=[mean])

    def _decay_now(self, g: Tape) -> Variable:
        if self._steps is None:
            return g.const(np.array(self._decay))
        s = g.Squeeze(g.cast(self._steps, np.dtype("f8")))
        return g.Min(g.Div(g.Add(s, 1.0), g.Add(s, 10.0)), self._decay)

    def _record_swap(self) -> None:
        """Record two Programs: w → backup, corrected mean → w; and backup → w."""
        forth, back = Tape(self._apply.global_block()), Tape(self._restore.global_block())
        product = _twin(self._apply, self._product)
        correction = forth.Sub(1.0, product)
        for p, mean in self._means:
            w, saved = _twin(self._apply, p), _twin(self._apply, p, f"{p.name}_ema_backup")
            forth.Identity(w, into=[saved])
            corrected = forth.Div(_twin(self._apply, mean), forth.cast(correction, p.dtype))
            forth.Identity(corrected, into=[w])
            source = _twin(self._restore, p, saved.name)
            back.Identity(source, into=[_twin(self._restore, p)])

    @contextmanager
    def apply(
        self, executor: Executor, need_restore: bool = True, scope: Scope | None = None
    ) -> Iterator[None]:
        """While the ``with`` block runs, the parameters in ``scope`` are their averages.

        ``scope`` is the current one by default; ``executor`` runs what puts the averages there.
        Without ``need_restore`` they stay behind the block too, until ``restore``.

        Raises:
            StateError: no step has been averaged yet.
            UninitializedError: the startup Program has not run in the scope.
        """
        if self._product.get_value(scope) == 1.0:
            raise StateError("no step has been averaged yet", fix="run the Program first")
        executor.run(self._apply, scope=scope)
        try:
            yield
        finally:
            if need_restore:
                self.restore(executor, scope)

    def restore(self, executor: Executor, scope: Scope | None = None) -> None:
        """Put back the parameters that ``apply`` with ``need_restore=False`` replaced.

        ``executor`` and ``scope`` are those of ``apply``.
        """
        executor.run(self._restore, scope=scope)


def _state(main: Program, prefix: str, tensor_type: TensorType, value: float) -> Variable:
    name = main.unique_name(prefix)
    return create_state(main, default_startup_program(), name, tensor_type, Constant(value))


def _twin(program: Program, v: Variable, name: str | None = None) -> Variable:
    """The variable of the same name and type in another Program."""
    found = program.global_block().vars.get(name or v.name)
    if found is not None:
        return found
    shape = v.tensor_type.shape or ()
    return program.global_block().create_var(name or v.name, shape, v.dtype, persistable=True)
