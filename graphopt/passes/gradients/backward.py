"""Reverse-mode differentiation: gradients are ops of the same Program."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError, GradientError, LossError, ShapeError
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.where import at
from graphopt.passes.gradients import control_flow  # noqa: F401 - registers its rules
from graphopt.passes.gradients.recompute import Recompute
from graphopt.passes.gradients.reverse import Refusal, Results, Sweep, active_variables
from graphopt.passes.gradients.snapshot import Snapshots

ParamGrads = list[tuple[Parameter, Variable | None]]


def append_backward(
    loss: Variable,
    parameters: Sequence[Parameter] | None = None,
    no_grad: Collection[Variable] = (),
    checkpoints: Sequence[Variable] = (),
) -> list[tuple[Parameter, Variable]]:
    """Append the gradients of a scalar loss for the trainable parameters it depends on.

    With ``checkpoints`` the values between them are computed again instead of kept. Returns
    (parameter, gradient) pairs in the order the parameters were made.

    Raises:
        LossError: the loss has more than one element.
        GradientError: an op on the way has no gradient.
    """
    check_scalar(loss)
    stop = {id(v) for v in no_grad}
    wanted = [
        p
        for p in (loss.program.all_parameters() if parameters is None else parameters)
        if p.trainable and not p.stop_gradient and id(p) not in stop
    ]
    found = gradients([loss], wanted, no_grad=no_grad, checkpoints=checkpoints)
    return [(p, grad) for p, grad in zip(wanted, found, strict=True) if grad is not None]


def check_scalar(loss: Variable) -> None:
    """Raise LossError unless the loss has exactly one element."""
    shape = loss.tensor_type.shape
    if shape is None or any(d != 1 for d in shape) or not loss.tensor_type.is_float:
        raise LossError(
            "the loss must be one float",
            operands=[(loss.name, loss.tensor_type)],
            where=loss.where,
            fix=f"reduce it first, e.g. go.mean({loss.name})",
        )


def gradients(
    targets: Sequence[Variable],
    inputs: Sequence[Variable],
    target_gradients: Sequence[Variable | None] | None = None,
    no_grad: Collection[Variable] = (),
    checkpoints: Sequence[Variable] = (),
) -> list[Variable | None]:
    """Append d(sum of targets)/d(input) for each input; None where no target depends on it.

    ``target_gradients`` weights each target: same shape, ones by default. All or nothing: on an
    error the Program is as before.
    """
    if not targets:
        raise ArgumentError("gradients needs at least one target")
    block = targets[0].block
    for v in (*targets, *inputs):
        if v.block.program is not block.program:
            raise ArgumentError(f"{v.name} belongs to another Program", where=v.where)
    seeds = list(target_gradients or [None] * len(targets))
    if len(seeds) != len(targets):
        raise ArgumentError(f"{len(targets)} targets have {len(seeds)} target_gradients")
    with block.program.all_or_nothing():
        return _Backward(block, targets, inputs, no_grad, checkpoints).run(seeds)


class _Backward:
    """One call of ``gradients``: which variables matter, and the gradients found so far."""

    def __init__(
        self,
        block: Block,
        targets: Sequence[Variable],
        inputs: Sequence[Variable],
        no_grad: Collection[Variable],
        checkpoints: Sequence[Variable],
    ) -> None:
        self.block = block
        self.targets = targets
        self.inputs = inputs
        self.tape = Tape(block, role=Role.BACKWARD, scratch=True, made_by="backward")
        self.snapshots = Snapshots(block)
        self.recompute = Recompute(block.ops, checkpoints)
        self.sweep = Sweep(self.tape, [], self._view, no_grad)
        self.sweep.collected = {id(v): [] for v in inputs if v.persistable}

    def run(self, seeds: Sequence[Variable | None]) -> list[Variable | None]:
        ops = _ops_before(self.block)
        active = active_variables(ops, self.inputs, self.sweep.stop)
        for target, seed in zip(self.targets, seeds, strict=True):
            self.sweep.add(target, self._seed(target, seed))
        self.sweep.run(ops, active)
        if self.sweep.refusals:
            raise self._refused(self.sweep.refusals)
        found = [self._input_gradient(v) for v in self.inputs]
        kept = self.tape.splice([v for v in found if v is not None])
        self.snapshots.insert(kept)
        return found

    def _view(self, op: Operator, results: Results) -> Operator:
        frozen = self.snapshots.before(op)
        return self.recompute.of(self.tape, op, results) if frozen is op else frozen

    def _seed(self, target: Variable, seed: Variable | None) -> Variable:
        if seed is None:
            if target.tensor_type.is_static:
                return self.tape.const(np.ones(target.shape, target.dtype))
            one = self.tape.const(np.ones((), target.dtype))
            return self.tape.expand_like(one, target)
        if seed.dtype != target.dtype or seed.tensor_type.rank != target.tensor_type.rank:
            raise ShapeError(
                f"the target gradient of {target.name} has another type",
                operands=[(target.name, target.tensor_type), (seed.name, seed.tensor_type)],
                where=seed.where,
            )
        return seed

    def _input_gradient(self, variable: Variable) -> Variable | None:
        """The total under its own name, so that it can be fetched as ``x@GRAD``."""
        for part in self.sweep.collected.get(id(variable), ()):
            self.sweep.add(variable, part)
        total = self.sweep.total(variable)
        if total is None or total.name.startswith(variable.grad_name):
            return total
        with at(variable.where):
            copy: Variable = self.tape.Identity(total)
        copy.name = self.block.program.unused_name(variable.grad_name)
        self.sweep.totals[id(variable)] = copy
        return copy

    def _refused(self, refusals: Sequence[Refusal]) -> GradientError:
        """One error for all ops that have no gradient."""
        names = " or ".join(sorted({t.name for t in self.targets}))
        if len(refusals) == 1:
            return self._no_gradient(names, refusals[0])
        types = ", ".join(sorted({r.op.type for r in refusals}))
        return GradientError(
            f"the gradient of {names} needs those of {len(refusals)} ops that have none: {types}",
            operands=[(_label(r.op), f"{r.error.what}, {r.op.where}") for r in refusals],
            where=refusals[-1].op.where,
            fix="set stop_gradient=True on their results, or add cards (docs/adding-an-op.md)",
            all_operands=True,
        )

    def _no_gradient(self, names: str, refusal: Refusal) -> GradientError:
        op = refusal.op
        if refusal.error.fix:
            return refusal.error
        fix = (
            f"set stop_gradient=True on a result of {op.type}, or add a card (docs/adding-an-op.md)"
        )
        return GradientError(
            f"the gradient of {names} needs the gradient of {op.type}, which has none",
            operands=[("path", " <- ".join(self._path(op)))],
            where=op.where,
            fix=fix,
        )

    def _path(self, op: Operator) -> list[str]:
        """Names from a target down to ``op`` and on to an input it depends on."""
        above: list[str] = []
        reader = _reader(op)
        while reader is not None and len(above) < 20:
            above.insert(0, reader.type)
            reader = _reader(reader)
        inputs = {id(v) for v in self.inputs}
        below = [op.type]
        here: Operator | None = op
        while here is not None and len(below) < 20:
            operand = next((v for v in here.reads() if id(v) in inputs), next(here.reads(), None))
            here = None
            if operand is not None and operand.name not in below:
                below.append(operand.name)
                here = None if id(operand) in inputs else operand.maker
        return [self.targets[0].name, *above, *below]


def _reader(op: Operator) -> Operator | None:
    """The first op that reads the op's first result."""
    return next((user for user in next(op.writes()).uses if isinstance(user, Operator)), None)


def _ops_before(block: Block) -> list[Operator]:
    """The block's ops, behind those of the blocks around it: what a target in it depends on."""
    return [*(_ops_before(block.parent) if block.parent else ()), *block.ops]


def _label(op: Operator) -> str:
    return next((f"{op.type} {v.name}" for v in op.writes() if v.name), op.type)


def check_variable(value: object, what: str) -> Variable:
    """The value if it is a Variable.

    Raises:
        ArgumentTypeError: it is not.
    """
    if isinstance(value, Variable):
        return value
    raise ArgumentTypeError(f"{what} must be a Variable, not {type(value).__name__}")
