"""What all optimizers share: backward, clip, regularize, then one update op per parameter."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphopt.clip import ClipGradBase
from graphopt.errors import ArgumentTypeError, StateError
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.types import to_onnx_dtype
from graphopt.ir.types.where import at
from graphopt.optimizer.groups import Group, as_groups
from graphopt.optimizer.lr import LRScheduler
from graphopt.optimizer.rate import LearningRate
from graphopt.optimizer.state import State, StateTable
from graphopt.passes.gradients.backward import append_backward, check_variable
from graphopt.passes.gradients.untrainable import check_trainable
from graphopt.regularizer import WeightDecayRegularizer, as_regularizer
from graphopt.runtime.state.scope import Scope, global_scope
from graphopt.scoping import default_startup_program

ParamsGrads = list[tuple[Parameter, Variable]]
Parameters = Sequence[Parameter] | Sequence[Mapping[str, Any]]
RateLike = float | LRScheduler
WeightDecay = float | WeightDecayRegularizer
HALF = 2  # bytes of the dtypes that may train through a float32 master weight
SCHEDULER_KEY, MASTER_KEY = "LR_Scheduler", "master_weights"


class Optimizer:
    """Base of the optimizers: ``minimize`` adds to a Program the ops that train it.

    A subclass gives ``_update``: it records the update op of one parameter over its state.

    Args:
        learning_rate: the rate of a step: a float, or a scheduler of ``optimizer.lr`` whose value
            each run uses.
        parameters: what to train; by default all trainable parameters of the loss's Program. Or
            groups: dicts with ``params`` and, for these, ``learning_rate`` (a factor on the rate),
            ``weight_decay`` and ``grad_clip``; they replace the parameters' own settings.
        weight_decay: a float (L2), L1Decay or L2Decay, added to the gradient; a parameter's own
            regularizer wins.
        grad_clip: one of nn.ClipGradByValue, ClipGradByNorm, ClipGradByGlobalNorm.
        multi_precision: train half-precision parameters through float32 copies.
        name: enters the names of the state variables.

    Raises:
        ArgumentError: ``learning_rate`` is None; a group has no ``params``, an unknown setting, or
            a parameter of another group.
        ArgumentTypeError: an argument or a setting has the wrong type; an int is no learning rate.
    """

    def __init__(
        self,
        learning_rate: RateLike,
        parameters: Parameters | None = None,
        weight_decay: WeightDecay | None = None,
        grad_clip: ClipGradBase | None = None,
        multi_precision: bool = False,
        name: str | None = None,
    ) -> None:
        self._rate = LearningRate(learning_rate)
        self.regularization = as_regularizer(weight_decay)
        self._groups = as_groups(parameters, self.regularization, grad_clip)
        self._grad_clip = grad_clip
        self._multi_precision = multi_precision
        self._state = StateTable(name)

    def get_lr(self) -> float:
        """The learning rate: the float, or the scheduler's current value."""
        return self._rate.value()

    def set_lr(self, value: float) -> None:
        """Use the learning rate ``value`` from the next run on.

        Raises:
            ArgumentTypeError: ``value`` is not an int or a float.
            StateError: a scheduler is in use.
        """
        self._rate.set(value)

    def set_lr_scheduler(self, scheduler: LRScheduler) -> None:
        """Use ``scheduler`` from the next run on, in place of the float or scheduler before.

        Raises:
            ArgumentTypeError: ``scheduler`` is not an LRScheduler.
        """
        self._rate.set_scheduler(scheduler)

    def minimize(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameters: Sequence[Parameter | str] | None = None,
        no_grad_set: Iterable[Variable | str] | None = None,
        checkpoints: Iterable[Variable | str] | None = None,
    ) -> tuple[list[Operator], ParamsGrads]:
        """Append backward, clip, regularization and update ops to the loss's Program.

        All or nothing: on an error both Programs are as before.

        Args:
            loss: one float, [] or [1].
            startup_program: gets the ops that set up the state; by default the default startup
                Program.
            parameters: Parameters or names to train now, in place of those of the optimizer.
            no_grad_set: Variables or names that no gradient flows to.
            checkpoints: Variables or names; the values between them are computed again instead of
                kept (see ``static.append_backward``).

        Returns:
            ``(optimize_ops, params_grads)``: the update ops, and (parameter, raw gradient) pairs.
            Passed in a ``fetch_list`` it prunes the run to these updates.

        Raises:
            ArgumentTypeError: ``loss`` is no Variable; a list has something that is no Variable or
                name.
            LossError: ``loss`` is not one float.
            GradientError: an op between a parameter and the loss has no gradient; or the model is
                quantized, and has nothing to train.
            UnknownVariableError: the Program has no variable of the name of a checkpoint.
            StateError, ShapeError: a state dict was loaded that does not fit the parameters.
        """
        check_variable(loss, "loss")
        startup = startup_program or default_startup_program()
        with loss.program.all_or_nothing(), startup.all_or_nothing():
            params_grads = self.backward(loss, startup, parameters, no_grad_set, checkpoints)
            return self.apply_gradients(params_grads, startup), params_grads

    def backward(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameters: Sequence[Parameter | str] | None = None,
        no_grad_set: Iterable[Variable | str] | None = None,
        checkpoints: Iterable[Variable | str] | None = None,
    ) -> ParamsGrads:
        """The first half of ``minimize``: append backward; returns (parameter, gradient) pairs.

        ``loss``, ``parameters``, ``no_grad_set`` and ``checkpoints`` are those of ``minimize``;
        ``startup_program`` is accepted as in Paddle and not used.

        Raises:
            ArgumentTypeError: ``loss`` is no Variable; a list has something that is no Variable or
                name.
            LossError: ``loss`` is not one float.
            GradientError: an op between a parameter and the loss has no gradient; or the model is
                quantized, and has nothing to train.
            UnknownVariableError: the Program has no variable of the name of a checkpoint.
        """
        program = check_variable(loss, "loss").program
        chosen = _named(parameters) if parameters else self._chosen()
        wanted = [p for p in program.all_parameters() if chosen is None or p.name in chosen]
        variables = program.global_block().vars
        stopped = [variables[n] for n in _named(no_grad_set or ()) if n in variables]
        kept = [program.global_block().var(n) for n in _named(checkpoints or ())]
        found = append_backward(loss, wanted, stopped, kept)
        if not found:
            check_trainable(loss)
        return found

    def _chosen(self) -> set[str] | None:
        names = [group.names for group in self._groups]
        return None if None in names else {n for group in names for n in group or ()}

    def apply_gradients(
        self,
        params_grads: Sequence[tuple[Parameter, Variable | None]],
        startup_program: Program | None = None,
    ) -> list[Operator]:
        """The second half of ``minimize``: clip, regularize, update; returns the update ops.

        ``params_grads`` are (parameter, gradient) pairs, of which those with None are dropped;
        ``startup_program`` gets the ops that set up the state, by default the default startup
        Program.

        Raises:
            StateError, ShapeError: a state dict was loaded that does not fit the parameters.
            ArgumentTypeError: a parameter has a regularizer of an unknown type.
        """
        pairs = [(p, grad) for p, grad in params_grads if grad is not None]
        if not pairs:
            return []
        main, startup = pairs[0][0].program, startup_program or default_startup_program()
        with main.all_or_nothing(), startup.all_or_nothing(), self._state.all_or_nothing():
            ready = [pair for group in self._groups for pair in self._prepared(group, pairs)]
            ops: list[Operator] = []
            for p, grad in sorted(ready, key=lambda pair: pair[0].name):
                with at(p.where):
                    ops += self._update_parameter(main, startup, p, grad)
            return ops

    def _prepared(self, group: Group, pairs: ParamsGrads) -> ParamsGrads:
        """The group's pairs, clipped together and regularized."""
        own = [(p, grad) for p, grad in pairs if group.names is None or p.name in group.names]
        if group.grad_clip is not None:
            own = group.grad_clip(own)
        return self.append_regularization_ops(own, group.regularization)

    def append_regularization_ops(
        self,
        parameters_and_grads: Sequence[tuple[Parameter, Any]],
        regularization: WeightDecay | None = None,
    ) -> list[tuple[Parameter, Any]]:
        """Pairs in the same order with the gradients of the penalties added.

        ``parameters_and_grads`` are (parameter, gradient) pairs. A parameter's own regularizer wins
        over ``regularization``, a float (L2), L1Decay or L2Decay; with neither the gradient is
        passed on as it is, and so is None.

        Raises:
            ArgumentTypeError: a regularizer is of an unknown type.
        """
        default = as_regularizer(regularization)
        if default is not None and any(p.regularizer for p, _ in parameters_and_grads):
            logging.getLogger().info(
                "a parameter's own regularizer (ParamAttr) wins over the optimizer's %s", default
            )
        return [(p, _regularized(p, grad, default)) for p, grad in parameters_and_grads]

    def state_dict(self, scope: Scope | None = None) -> dict[str, Any]:
        """The optimizer's state as numpy arrays by ``<parameter>_<state>_0``, whatever the Program.

        With a scheduler ``LR_Scheduler`` has its state; with float32 copies ``master_weights`` has
        them by parameter. Empty before ``minimize``, but for the scheduler.

        Args:
            scope: where the state is; by default the current scope.

        Raises:
            UninitializedError: the startup Program has not run in the scope.
        """
        scope = scope or global_scope()
        found: dict[str, Any] = self._state.values(scope)
        masters = self._state.masters(scope)
        if masters:
            found[MASTER_KEY] = masters
        if self._rate.scheduler is not None:
            found[SCHEDULER_KEY] = self._rate.scheduler.state_dict()
        return found

    def set_state_dict(self, state_dict: Mapping[str, Any], scope: Scope | None = None) -> None:
        """Take over the state of another optimizer of this class over parameters of these names.

        ``state_dict`` is what ``state_dict()`` gave. After the startup Program has run the values
        go to ``scope`` (by default the global one) at once. Before ``minimize`` they are kept, and
        the startup Program then starts from them.

        Raises:
            StateError: a state is missing, or has another shape; nothing is changed.
        """
        scheduler = self._rate.scheduler
        if scheduler is not None and SCHEDULER_KEY not in state_dict:
            raise StateError(
                f"the state dict has no {SCHEDULER_KEY!r}, and this optimizer has a scheduler",
                fix="save it from an optimizer with a scheduler",
            )
        arrays = {k: v for k, v in state_dict.items() if k not in (SCHEDULER_KEY, MASTER_KEY)}
        self._state.load(arrays, state_dict.get(MASTER_KEY, {}), scope or global_scope())
        if scheduler is not None:
            scheduler.set_state_dict(state_dict[SCHEDULER_KEY])

    load_state_dict = set_state_dict

    def _update_parameter(
        self, main: Program, startup: Program, p: Parameter, grad: Variable
    ) -> list[Operator]:
        block = main.global_block()
        start = len(block.ops)
        g = Tape(block, role=Role.UPDATE, made_by="update")
        lr = self._rate.of(g, startup, p)
        if self._multi_precision and p.dtype.itemsize == HALF:
            master = self._state.master(g, startup, p)
            state = State(self._state, g, startup, p, master)
            self._update(state, master, g.cast(grad, master.dtype), lr)
            g.Cast(master, to=to_onnx_dtype(p.dtype), into=[p])
        else:
            self._update(State(self._state, g, startup, p, p), p, grad, lr)
        return [op for op in block.ops[start:] if any(v.persistable for v in op.writes())]

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        """Record the op that updates ``w`` and its state."""
        raise NotImplementedError


def _regularized(p: Parameter, grad: Variable, default: WeightDecayRegularizer | None) -> Variable:
    regularizer = p.regularizer if p.regularizer is not None else default
    if grad is None or regularizer is None:
        return grad
    if not isinstance(regularizer, WeightDecayRegularizer):
        raise ArgumentTypeError(f"unknown regularization type {type(regularizer).__name__}")
    g = Tape(p.block, role=Role.REGULARIZE, made_by="regularize")
    with at(p.where):
        return g.Add(grad, regularizer.decay(g, p))


def _named(items: Iterable[Variable | str]) -> set[str]:
    if isinstance(items, (str, Variable)):
        raise ArgumentTypeError("a list of Variables or names is wanted, not a single one")
    for item in items:
        if not isinstance(item, (str, Variable)):
            kind = type(item).__name__
            raise ArgumentTypeError(f"a list of Variables or names is wanted, not a {kind} in it")
    return {item if isinstance(item, str) else item.name for item in items}
