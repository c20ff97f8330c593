"""``append_backward`` and ``gradients`` with Paddle's arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.passes.gradients import backward
from graphopt.passes.gradients.backward import check_variable


def append_backward(
    loss: Variable,
    parameter_list: Sequence[Parameter | str] | None = None,
    no_grad_set: Iterable[Variable | str] | None = None,
    callbacks: None = None,
    checkpoints: Iterable[Variable | str] | None = None,
) -> list[tuple[Parameter, Variable]]:
    """Append the gradients of a scalar ``loss`` to its Program.

    Returns (parameter, gradient) pairs of the parameters that the loss depends on.

    Args:
        loss: a Variable of one element.
        parameter_list: Parameters or their names; all that are trainable by default.
        no_grad_set: Variables or names through which no gradient flows.
        callbacks: accepted as in Paddle; changes nothing.
        checkpoints: Variables or names, results of layers for instance. The backward pass keeps
            these, and computes what is between them again: less memory for more time.

    >>> import graphopt as go
    >>> loss = go.mean(go.static.nn.fc(x, 1))
    >>> [(p.name, gradient.name) for p, gradient in append_backward(loss)]
    [('fc_0.w_0', 'fc_0.w_0@GRAD'), ('fc_0.b_0', 'fc_0.b_0@GRAD')]

    Raises:
        LossError: the loss has more than one element.
        GradientError: an op on the way has no gradient.
        ArgumentTypeError: the loss is not a Variable, or ``parameter_list`` holds what is not a
            Parameter.
        UnknownVariableError: a name is not in the Program.
    """
    program = check_variable(loss, "loss").program
    chosen = None
    if parameter_list is not None:
        chosen = [_parameter(v) for v in _variables(program, parameter_list)]
    stop, kept = (_variables(program, items or ()) for items in (no_grad_set, checkpoints))
    return backward.append_backward(loss, chosen, stop, kept)


def gradients(
    targets: Variable | Sequence[Variable],
    inputs: Variable | Sequence[Variable],
    target_gradients: Variable | Sequence[Variable | None] | None = None,
    no_grad_set: Iterable[Variable | str] | None = None,
) -> list[Variable | None]:
    """Append the gradients of the sum of ``targets`` for each of ``inputs``.

    The result has one entry per input, None where no target depends on it or it is in
    ``no_grad_set``, which holds Variables or names through which no gradient flows.
    ``target_gradients`` weights the elements of each target: ones by default, each of its target's
    type. The gradients are ordinary variables: gradients of gradients work.

    >>> import graphopt as go
    >>> with go.static.program_guard(go.static.Program()):
    ...     x = go.static.data("x", [None, 3])
    ...     (dx,) = go.static.gradients(x * x * x, x)
    ...     (ddx,) = go.static.gradients(dx, x)
    >>> print(dx, ddx)
    <Variable x@GRAD : f32[N, 3]> <Variable x@GRAD_0 : f32[N, 3]>

    Raises:
        GradientError: an op on the way has no gradient.
        ShapeError: a target gradient does not have its target's type.
        ArgumentTypeError: a target or an input is not a Variable.
        ArgumentError: there is no target.
        UnknownVariableError: a name in ``no_grad_set`` is not in the Program.
    """
    targets, inputs = _listed(targets, "targets"), _listed(inputs, "inputs")
    if isinstance(target_gradients, Variable):
        target_gradients = [target_gradients]
    if not targets:
        raise ArgumentError("gradients needs at least one target")
    stop = _variables(targets[0].program, no_grad_set or ())
    return backward.gradients(targets, inputs, target_gradients, stop)


def _listed(value: Variable | Sequence[Variable], what: str) -> list[Variable]:
    values = list(value) if isinstance(value, (list, tuple, set)) else [value]
    return [check_variable(v, what) for v in values]


def _variables(program: Program, items: Iterable[Variable | str]) -> list[Variable]:
    listed = items if isinstance(items, (list, tuple, set, frozenset)) else [items]
    return [
        program.global_block().var(v) if isinstance(v, str) else check_variable(v, "an entry")
        for v in listed
    ]


def _parameter(variable: Variable) -> Parameter:
    if isinstance(variable, Parameter):
        return variable
    raise ArgumentTypeError(
        f"{variable.name} is not a Parameter",
        operands=[(variable.name, variable.tensor_type)],
        where=variable.where,
        fix="use static.gradients for the gradients of other variables",
    )
