"""GradientMerge: gradients of several micro-batches are summed before the optimizer steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.initializer import Constant
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.types import TensorType
from graphopt.ir.types.where import at
from graphopt.optimizer.optimizer import Optimizer, ParamsGrads
from graphopt.parameters import create_state
from graphopt.passes.gradients.backward import check_variable
from graphopt.runtime.state.scope import Scope
from graphopt.scoping import default_startup_program


class GradientMerge:
    """Steps ``inner`` once every ``k_steps`` runs, with the mean of their gradients.

    Without ``avg`` it is their sum. The runs between leave parameters and the inner optimizer's
    state as they are. Clipping and weight decay see the merged gradient. All of it is ops of the
    Program: sums are kept in ``<parameter>_merged_0``, the count in ``gradient_merge_0``.

    >>> import graphopt as go
    >>> main, startup = go.static.Program(), go.static.Program()
    >>> with go.static.program_guard(main, startup):
    ...     x = go.static.data("x", [None, 3])
    ...     loss = go.mean(go.static.nn.fc(x, 1))
    ...     inner = go.optimizer.ASGD(0.1, batch_num=4)
    ...     ops, pairs = go.optimizer.GradientMerge(inner, k_steps=2).minimize(loss)
    >>> sorted({op.type for op in ops})
    ['ASGD', 'Add', 'Mod', 'Where']

    Raises:
        ArgumentTypeError: ``inner`` is not an Optimizer, or ``k_steps`` not an int.
        ArgumentError: ``k_steps`` is not positive.
    """

    def __init__(self, inner: Optimizer, k_steps: int = 1, avg: bool = True) -> None:
        if not isinstance(inner, Optimizer):
            raise ArgumentTypeError(f"inner must be an Optimizer, not {type(inner).__name__}")
        if isinstance(k_steps, bool) or not isinstance(k_steps, (int, np.integer)):
            raise ArgumentTypeError(f"k_steps must be an int, not {type(k_steps).__name__}")
        if k_steps <= 0:
            raise ArgumentError(f"k_steps must be positive, not {k_steps}")
        self.inner = inner
        self.k_steps = int(k_steps)
        self.avg = avg

    def get_lr(self) -> float:
        """The inner optimizer's learning rate."""
        return self.inner.get_lr()

    def set_lr(self, value: float) -> None:
        """Use the learning rate ``value`` in the inner optimizer, from the next run on.

        Raises:
            ArgumentTypeError: ``value`` is not an int or a float.
            StateError: the inner optimizer follows a scheduler.
        """
        self.inner.set_lr(value)

    def state_dict(self, scope: Scope | None = None) -> dict[str, Any]:
        """The inner optimizer's state, read from ``scope`` (by default the global one).

        The sums are not in it; ``static.save`` keeps them too.

        Raises:
            StateError: a state has no value in the scope.
        """
        return self.inner.state_dict(scope)

    def set_state_dict(self, state_dict: Mapping[str, Any], scope: Scope | None = None) -> None:
        """Set the inner optimizer's state to that of ``state_dict``.

        It goes to ``scope``, by default the global one.

        Raises:
            StateError: a state is missing, or has another shape; nothing is changed.
        """
        self.inner.set_state_dict(state_dict, scope)

    def minimize(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameters: Sequence[Parameter | str] | None = None,
        no_grad_set: Iterable[Variable | str] | None = None,
    ) -> tuple[list[Operator], ParamsGrads]:
        """As ``Optimizer.minimize``; the gradients returned are those of one micro-batch.

        ``loss`` is that of one micro-batch; ``startup_program``, ``parameters`` and ``no_grad_set``
        are those of ``Optimizer.minimize``.

        Raises:
            ArgumentTypeError, LossError, GradientError, StateError, ShapeError: as
                ``Optimizer.minimize``.
        """
        check_variable(loss, "loss")
        startup = startup_program or default_startup_program()
        with loss.program.all_or_nothing(), startup.all_or_nothing():
            pairs = self.inner.backward(loss, startup, parameters, no_grad_set)
            return self.apply_gradients(pairs, startup), pairs

    def apply_gradients(
        self, params_grads: ParamsGrads, startup_program: Program | None = None
    ) -> list[Operator]:
        """Merge, step on every k-th run, and set the sums to zero then; returns all update ops.

        ``params_grads`` are (parameter, gradient) pairs; ``startup_program`` gets the ops that set
        up the state, by default the default startup Program.

        Raises:
            StateError, ShapeError: a state dict was loaded that does not fit the parameters.
        """
        if not params_grads:
            return []
        main, startup = params_grads[0][0].program, startup_program or default_startup_program()
        block = main.global_block()
        with main.all_or_nothing(), startup.all_or_nothing():
            start = len(block.ops)
            g = Tape(block, role=Role.UPDATE, made_by="gradient_merge")
            due = self._due(g, startup)
            sums = [(p, self._sum(g, startup, p, grad)) for p, grad in params_grads]
            merged = [(p, self._mean(g, p, total)) for p, total in sums]
            self._guarded(g, due, startup, merged)
            for p, total in sums:
                with at(p.where):
                    g.Where(due, g.full(0.0, total), total, into=[total])
            return [op for op in block.ops[start:] if any(v.persistable for v in op.writes())]

    def _due(self, g: Tape, startup: Program) -> Variable:
        """Whether ``k_steps`` runs have passed since the last step: bool[]."""
        name = g.program.unique_name("gradient_merge")
        scalar = TensorType(np.dtype("i8"), ())
        count = create_state(g.program, startup, name, scalar, Constant(0))
        g.Mod(g.Add(count, 1), self.k_steps, into=[count])
        return g.Equal(count, 0)

    def _sum(self, g: Tape, startup: Program, p: Parameter, grad: Variable) -> Variable:
        name = g.program.unique_name(f"{p.name}_merged")
        with at(p.where):
            total = create_state(g.program, startup, name, p.tensor_type, Constant(0.0))
            g.Add(total, grad, into=[total])
        return total

    def _mean(self, g: Tape, p: Parameter, total: Variable) -> Variable:
        with at(p.where):
            return g.Mul(total, 1.0 / self.k_steps) if self.avg else g.Identity(total)

    def _guarded(self, g: Tape, due: Variable, startup: Program, pairs: ParamsGrads) -> None:
        """The inner step, whose assignments hold only where ``due``."""
        block = g.block
        start = len(block.ops)
        self.inner.apply_gradients(pairs, startup)
        assigned = {id(v): v for op in block.ops[start:] for v in op.writes() if v.persistable}
        for v in assigned.values():
            with at(v.where):
                old = g.Identity(v)
                # the copy is of the value before the inner step
                block.move(block.ops[-1], start)
                g.Where(due, v, old, into=[v])
