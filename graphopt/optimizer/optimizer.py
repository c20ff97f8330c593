"""What all optimizers share: backward, clip, regularize, then one update op per parameter."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from graphopt.clip import ClipGradBase
from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.initializer import Constant, Initializer
from graphopt.ir.operator import Operator, Role
from graphopt.ir.program import Program
from graphopt.ir.tape import Tape
from graphopt.ir.types import TensorType, to_onnx_dtype
from graphopt.ir.variable import Parameter, Variable
from graphopt.ir.where import at
from graphopt.parameters import create_state
from graphopt.passes.backward import append_backward, check_variable
from graphopt.regularizer import WeightDecayRegularizer, as_regularizer
from graphopt.scoping import default_startup_program

ParamsGrads = list[tuple[Parameter, Variable]]
HALF = 2  # bytes of the dtypes that may train through a float32 master weight


class Optimizer:
    """Base of the optimizers.

    A subclass gives ``_update``: it records the update op of one parameter over its state.
    """

    def __init__(
        self,
        learning_rate: float,
        parameters: Sequence[Parameter] | None = None,
        weight_decay: float | WeightDecayRegularizer | None = None,
        grad_clip: ClipGradBase | None = None,
        multi_precision: bool = False,
        name: str | None = None,
    ) -> None:
        self._parameters = _checked_parameters(parameters)
        _check_learning_rate(learning_rate)
        if grad_clip is not None and not isinstance(grad_clip, ClipGradBase):
            raise ArgumentTypeError(
                f"grad_clip must be a clip object, not {type(grad_clip).__name__}",
                fix="e.g. nn.ClipGradByGlobalNorm(1.0)",
            )
        self._learning_rate = float(learning_rate)
        self._grad_clip = grad_clip
        self._multi_precision = multi_precision
        self._name = name
        self.regularization = as_regularizer(weight_decay)
        self._rates: dict[tuple[int, np.dtype], Variable] = {}

    def get_lr(self) -> float:
        """The learning rate."""
        return self._learning_rate

    def minimize(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameters: Sequence[Parameter | str] | None = None,
        no_grad_set: Iterable[Variable | str] | None = None,
    ) -> tuple[list[Operator], ParamsGrads]:
        """Append backward, clip, regularization and update ops to the loss's Program.

        ``parameters`` and ``no_grad_set`` take Variables or names. All or nothing: on an error both
        Programs are as before.

        Returns ``(optimize_ops, params_grads)``: the update ops, and (parameter, raw gradient)
        pairs. Passed in a ``fetch_list`` it prunes the run to these updates.

        Raises:
            LossError: the loss has more than one element.
            GradientError: an op between a parameter and the loss has no gradient.
        """
        check_variable(loss, "loss")
        startup = startup_program or default_startup_program()
        with loss.program.all_or_nothing(), startup.all_or_nothing():
            params_grads = self.backward(loss, startup, parameters, no_grad_set)
            return self.apply_gradients(params_grads, startup), params_grads

    def backward(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameters: Sequence[Parameter | str] | None = None,
        no_grad_set: Iterable[Variable | str] | None = None,
    ) -> ParamsGrads:
        """The first half of ``minimize``: (parameter, gradient) pairs."""
        check_variable(loss, "loss")
        program = loss.program
        chosen = _named(program, parameters) if parameters else self._parameters
        wanted = [p for p in program.all_parameters() if chosen is None or p.name in chosen]
        stopped = _named(program, no_grad_set or ())
        variables = program.global_block().vars
        no_grad = [variables[name] for name in stopped if name in variables]
        return append_backward(loss, wanted, no_grad)

    def apply_gradients(
        self,
        params_grads: Sequence[tuple[Parameter, Variable | None]],
        startup_program: Program | None = None,
    ) -> list[Operator]:
        """The second half of ``minimize``: clip, regularize, update; returns the update ops."""
        pairs = [(p, grad) for p, grad in params_grads if grad is not None]
        if not pairs:
            return []
        main = pairs[0][0].program
        startup = startup_program or default_startup_program()
        with main.all_or_nothing(), startup.all_or_nothing():
            if self._grad_clip is not None:
                pairs = self._grad_clip(pairs)
            regularized = self.append_regularization_ops(pairs, self.regularization)
            ops: list[Operator] = []
            for p, grad in sorted(regularized, key=lambda pair: pair[0].name):
                with at(p.where):
                    ops += self._update_parameter(main, startup, p, grad)
            return ops

    def append_regularization_ops(
        self,
        parameters_and_grads: Sequence[tuple[Parameter, Variable | None]],
        regularization: WeightDecayRegularizer | float | None = None,
    ) -> list[tuple[Parameter, Variable]]:
        """Pairs in the same order with the gradients of the penalties added.

        A parameter's own regularizer wins over ``regularization``; with neither the gradient is
        passed on as it is, and so is None.

        Raises:
            ArgumentTypeError: unknown regularization type.
        """
        default = as_regularizer(regularization)
        if default is not None and any(p.regularizer for p, _ in parameters_and_grads):
            logging.getLogger().info(
                "a parameter's own regularizer (ParamAttr) wins over the optimizer's %s", default
            )
        return [(p, _regularized(p, grad, default)) for p, grad in parameters_and_grads]  # type: ignore[misc]

    def _update_parameter(
        self, main: Program, startup: Program, p: Parameter, grad: Variable
    ) -> list[Operator]:
        block = main.global_block()
        start = len(block.ops)
        g = Tape(block, role=Role.UPDATE, made_by="update")
        if self._multi_precision and p.dtype.itemsize == HALF:
            self._update_master(g, startup, p, grad)
        else:
            self._update(State(self._name, g, startup, p), p, grad, self._rate(g, startup, p))
        return [op for op in block.ops[start:] if any(v.persistable for v in op.writes())]

    def _update_master(self, g: Tape, startup: Program, p: Parameter, grad: Variable) -> None:
        """Update a float32 copy of a half-precision parameter, then round it into the parameter."""
        wide = np.dtype("f4")
        name = g.program.unique_name(f"{p.name}_fp32_master")
        shape = p.tensor_type.shape
        master = create_state(g.program, startup, name, TensorType(wide, shape), _CopyOf(p))
        state = State(self._name, g, startup, master)
        self._update(state, master, g.cast(grad, wide), self._rate(g, startup, p))
        g.emit("Cast", master, to=to_onnx_dtype(p.dtype), into=[p])

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        """Record the op that updates ``w`` and its state."""
        raise NotImplementedError

    def _rate(self, g: Tape, startup: Program, p: Parameter) -> Variable:
        """The learning rate in force for a parameter: the global one times its own factor."""
        wide = np.dtype("f8") if p.dtype == np.float64 else np.dtype("f4")
        key = id(g.program), wide
        if key not in self._rates or self._rates[key].program is not g.program:
            name = g.program.unique_name("learning_rate")
            value = Constant(self._learning_rate)
            self._rates[key] = create_state(g.program, startup, name, TensorType(wide, ()), value)
        rate = self._rates[key]
        factor = p.optimize_attr["learning_rate"]
        return rate if factor == 1.0 else g.Mul(rate, factor)


class _CopyOf(Initializer):
    """The first value of another variable, cast."""

    def __init__(self, source: Variable) -> None:
        self.source = source

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Cast."""
        source = g.block.var(self.source.name)
        g.emit("Cast", source, to=to_onnx_dtype(w.dtype), into=[w])


class State:
    """Makes the state variables of one parameter, named as Paddle does: ``w_d_0``."""

    def __init__(self, optimizer: str | None, g: Tape, startup: Program, p: Variable) -> None:
        self.g = g
        self.startup = startup
        self.prefix = p.name if optimizer is None else f"{p.name}_{optimizer}"

    def new(self, name: str, tensor_type: TensorType, value: float = 0.0) -> Variable:
        """A state variable that startup fills with ``value``."""
        full = self.g.program.unique_name(f"{self.prefix}_{name}")
        return create_state(self.g.program, self.startup, full, tensor_type, Constant(value))


def _regularized(
    p: Parameter, grad: Variable | None, default: WeightDecayRegularizer | None
) -> Variable | None:
    regularizer = p.regularizer if p.regularizer is not None else default
    if grad is None or regularizer is None:
        return grad
    if not isinstance(regularizer, WeightDecayRegularizer):
        raise ArgumentTypeError(f"unknown regularization type {type(regularizer).__name__}")
    g = Tape(p.block, role=Role.REGULARIZE, made_by="regularize")
    with at(p.where):
        total: Variable = g.Add(grad, regularizer.decay(g, p))
    return total


def _named(program: Program, items: Iterable[Variable | str]) -> set[str]:
    if isinstance(items, (str, Variable)):
        raise ArgumentTypeError("a list of Variables or names is wanted, not a single one")
    return {item if isinstance(item, str) else item.name for item in items}


def _checked_parameters(parameters: Sequence[Parameter] | None) -> set[str] | None:
    if parameters is None:
        return None
    if isinstance(parameters, (Variable, dict, str)):
        raise ArgumentTypeError(
            f"parameters must be a list of Parameters, not a {type(parameters).__name__}",
            fix="e.g. layer.parameters()",
        )
    names = set()
    for p in parameters:
        if not isinstance(p, Variable):
            raise ArgumentTypeError(f"parameters holds a {type(p).__name__}, not a Parameter")
        names.add(p.name)
    return names


def _check_learning_rate(learning_rate: object) -> None:
    if learning_rate is None:
        raise ArgumentError("learning_rate must not be None", fix="e.g. 0.001")
    if not isinstance(learning_rate, float):
        raise ArgumentTypeError(
            f"learning_rate must be a float, not {type(learning_rate).__name__}",
            fix="e.g. 0.1, or 1.0 for one",
        )
