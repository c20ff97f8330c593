"""Reverse-mode differentiation: gradients are ops of the same Program."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError, GradientError, LossError, ShapeError
from graphopt.ir.block import Block
from graphopt.ir.function_body import expand, has_body
from graphopt.ir.operator import Operator, Role
from graphopt.ir.tape import Tape
from graphopt.ir.variable import Parameter, Variable
from graphopt.ir.where import at
from graphopt.ops.registry import CARDS, DECOMPOSITIONS, ZERO
from graphopt.passes.broadcast import sum_to
from graphopt.passes.recompute import Recompute
from graphopt.passes.snapshot import Snapshots

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
        self.stop = {id(v) for v in no_grad}
        self.tape = Tape(block, role=Role.BACKWARD, scratch=True, made_by="backward")
        self.partials: dict[int, list[Variable]] = {}
        self.totals: dict[int, Variable] = {}
        # What reached an input that is assigned in between, version by version.
        self.collected: dict[int, list[Variable]] = {id(v): [] for v in inputs if v.persistable}
        self.snapshots = Snapshots(block)
        self.recompute = Recompute(block.ops, checkpoints)

    def run(self, seeds: Sequence[Variable | None]) -> list[Variable | None]:
        ops = list(self.block.ops)
        active = active_variables(ops, self.inputs, self.stop)
        for target, seed in zip(self.targets, seeds, strict=True):
            self._add(target, self._seed(target, seed))
        self._sweep(ops, active)
        found = [self._input_gradient(v) for v in self.inputs]
        kept = self.tape.splice([v for v in found if v is not None])
        self.snapshots.insert(kept)
        return found

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

    def _sweep(self, ops: Sequence[Operator], active: set[int]) -> None:
        """Go through ``ops`` from the last to the first, handing gradients to their operands."""
        for op in reversed(ops):
            reached = any(id(v) in self.partials and id(v) in active for v in op.writes())
            with at(op.where):
                results = [None if v is None else self._total(v) for v in op.outputs]
                self._forget_assigned(op)
                if reached and op.role is not Role.UPDATE:
                    self._differentiate(op, results, active)

    def _forget_assigned(self, op: Operator) -> None:
        """Above its assignment a persistable variable has another value, with its own gradient."""
        for v in op.writes():
            if v.persistable and id(v) in self.partials:
                total = self._total(v)
                if id(v) in self.collected and total is not None:
                    self.collected[id(v)].append(total)
                self.partials.pop(id(v))
                self.totals.pop(id(v), None)

    def _differentiate(
        self, op: Operator, results: Sequence[Variable | None], active: set[int]
    ) -> None:
        if not any(id(v) in active for v in op.reads()) or op.type in ZERO:
            return
        frozen = self.snapshots.before(op)
        if frozen is op:
            frozen = self.recompute.of(self.tape, op, results)
        card = CARDS.get(op.type)
        if card is None:
            self._expand(frozen, op, results, active)
            return
        grads = card.gradients(self.tape, frozen, results)
        for operand, grad in zip(op.inputs, grads, strict=True):
            if operand is not None and grad is not None and id(operand) in active:
                self._add(operand, sum_to(self.tape, grad, operand))

    def _expand(
        self,
        frozen: Operator,
        op: Operator,
        results: Sequence[Variable | None],
        active: set[int],
    ) -> None:
        """Differentiate an op without a rule through its decomposition: ours, or onnx's."""
        assert self.tape.scratch is not None
        start = len(self.tape.scratch)
        if op.type in DECOMPOSITIONS:
            outputs = DECOMPOSITIONS[op.type].results(self.tape, frozen)
        elif has_body(op):
            outputs = expand(self.tape, frozen)
        else:
            raise self._no_gradient(op)
        body = list(self.tape.scratch[start:])
        for output, grad in zip(outputs, results, strict=True):
            if output is not None and grad is not None:
                self._add(output, grad)
        self._sweep(body, active_variables(body, [v for v in op.reads() if id(v) in active], set()))

    def _add(self, variable: Variable, grad: Variable) -> None:
        self.partials.setdefault(id(variable), []).append(grad)

    def _total(self, variable: Variable) -> Variable | None:
        """The sum of the gradients that reached a variable, named after it."""
        if id(variable) in self.totals:
            return self.totals[id(variable)]
        parts = self.partials.get(id(variable))
        if parts is None:
            return None
        total = parts[0]
        if len(parts) == 2:
            total = self.tape.Add(*parts)
        elif len(parts) > 2:
            total = self.tape.Sum(*parts)
        if not total.name and variable.name:
            total.name = self.block.program.unused_name(variable.grad_name)
        self.totals[id(variable)] = total
        return total

    def _input_gradient(self, variable: Variable) -> Variable | None:
        """The total under its own name, so that it can be fetched as ``x@GRAD``."""
        for part in self.collected.get(id(variable), ()):
            self._add(variable, part)
            self.totals.pop(id(variable), None)
        total = self._total(variable)
        if total is None or total.name.startswith(variable.grad_name):
            return total
        with at(variable.where):
            copy: Variable = self.tape.Identity(total)
        copy.name = self.block.program.unused_name(variable.grad_name)
        self.totals[id(variable)] = copy
        return copy

    def _no_gradient(self, op: Operator) -> GradientError:
        names = " or ".join(sorted({t.name for t in self.targets}))
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
        consumers = {id(v): o for o in reversed(self.block.ops) for v in o.reads()}
        producers = {id(v): o for o in self.block.ops for v in o.writes()}
        above: list[str] = []
        step: Operator | None = consumers.get(id(next(op.writes())))
        while step is not None and len(above) < 20:
            above.insert(0, step.type)
            step = consumers.get(id(next(step.writes())))
        inputs = {id(v) for v in self.inputs}
        below = [op.type]
        here: Operator | None = op
        while here is not None and len(below) < 20:
            operand = next((v for v in here.reads() if id(v) in inputs), next(here.reads(), None))
            here = None
            if operand is not None and operand.name not in below:
                below.append(operand.name)
                here = None if id(operand) in inputs else producers.get(id(operand))
        return [self.targets[0].name, *above, *below]


def active_variables(
    ops: Iterable[Operator], inputs: Iterable[Variable], stop: set[int]
) -> set[int]:
    """The float variables that depend on an input, not counting what lies behind a stop."""
    active = {id(v) for v in inputs if id(v) not in stop}
    for op in ops:
        if any(id(v) in active for v in op.reads()):
            active.update(
                id(v)
                for v in op.writes()
                if v.tensor_type.is_float and not v.stop_gradient and id(v) not in stop
            )
    return active


def check_variable(value: object, what: str) -> Variable:
    """The value if it is a Variable.

    Raises:
        ArgumentTypeError: it is not.
    """
    if isinstance(value, Variable):
        return value
    raise ArgumentTypeError(f"{what} must be a Variable, not {type(value).__name__}")
