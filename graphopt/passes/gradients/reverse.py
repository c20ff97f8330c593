"""The engine of reverse mode: one pass over a list of ops, from the last to the first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from graphopt.errors import ArgumentTypeError, GradientError
from graphopt.ir.edit.function_body import expand, has_body
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import ContainerType
from graphopt.ir.types.where import at
from graphopt.ops.containers.sequence import add_sequences
from graphopt.ops.registry.registry import CARDS, DECOMPOSITIONS, ZERO, unranked
from graphopt.passes.gradients.unbroadcast import sum_to

Results: TypeAlias = Sequence["Variable | None"]
View: TypeAlias = Callable[[Operator, Results], Operator]


@dataclass(frozen=True)
class Refusal:
    """An op whose gradient is needed and does not exist, and the error that says why."""

    op: Operator
    error: GradientError


class Sweep:
    """The gradients found so far; ``run`` hands them from results to operands.

    ``view`` says what a rule sees of an op: over copies of what is assigned later, or over values
    that are computed again. ``refusals`` collects what has no gradient, for one error in the end.
    """

    def __init__(
        self,
        tape: Tape,
        refusals: list[Refusal],
        view: View = lambda op, results: op,
        stop: Iterable[Variable] = (),
    ) -> None:
        self.tape = tape
        self.refusals = refusals
        self.view = view
        self.stop = {id(v) for v in stop}
        self.partials: dict[int, list[Variable]] = {}
        self.totals: dict[int, Variable] = {}
        # What reached an input that is assigned in between, version by version.
        self.collected: dict[int, list[Variable]] = {}

    def add(self, variable: Variable, grad: Variable) -> None:
        """One more gradient has reached a variable."""
        self.partials.setdefault(id(variable), []).append(grad)
        self.totals.pop(id(variable), None)

    def total(self, variable: Variable) -> Variable | None:
        """The sum of the gradients that reached a variable, named after it in its own block."""
        if id(variable) in self.totals:
            return self.totals[id(variable)]
        parts = self.partials.get(id(variable))
        if parts is None:
            return None
        total = _sum(self.tape, parts)
        if not total.name and variable.name and variable.block is self.tape.block:
            total.name = self.tape.program.unused_name(variable.grad_name)
        self.totals[id(variable)] = total
        return total

    def run(self, ops: Sequence[Operator], active: set[int]) -> None:
        """Go through ``ops`` from the last to the first."""
        for op in reversed(ops):
            reached = any(id(v) in self.partials and id(v) in active for v in op.writes())
            with at(op.where):
                results = [None if v is None else self.total(v) for v in op.outputs]
                self._forget_assigned(op)
                if reached and op.role is not Role.UPDATE:
                    self._differentiate(op, results, active)

    def _forget_assigned(self, op: Operator) -> None:
        """Above its assignment a persistable variable has another value, with its own gradient."""
        for v in op.writes():
            if v.persistable and id(v) in self.partials:
                total = self.total(v)
                if id(v) in self.collected and total is not None:
                    self.collected[id(v)].append(total)
                self.partials.pop(id(v))
                self.totals.pop(id(v), None)

    def _differentiate(self, op: Operator, results: Results, active: set[int]) -> None:
        if op.type in ZERO or not any(id(v) in active for v in op.reads()):
            return
        view = self.view(op, results)
        try:
            if op.type in CONTROL_RULES:
                CONTROL_RULES[op.type](self, view, results, active)
            elif op.type in CARDS:
                self._by_rule(op, view, results, active)
            else:
                self._by_parts(op, view, results, active)
        except GradientError as error:
            self.refusals.append(Refusal(op, error))
        except ArgumentTypeError:  # a rule asked for a rank
            if all(v.tensor_type.shape is not None for v in (*op.reads(), *op.writes())):
                raise
            self.refusals.append(Refusal(op, unranked(op)))

    def _by_rule(self, op: Operator, view: Operator, results: Results, active: set[int]) -> None:
        grads = CARDS[op.type].gradients(self.tape, view, results)
        for operand, grad in zip(op.inputs, grads, strict=True):
            if operand is not None and grad is not None and id(operand) in active:
                whole = isinstance(operand.tensor_type, ContainerType)
                self.add(operand, grad if whole else sum_to(self.tape, grad, operand))

    def _by_parts(self, op: Operator, view: Operator, results: Results, active: set[int]) -> None:
        """Differentiate an op without a rule through its decomposition: ours, or onnx's."""
        assert self.tape.scratch is not None
        start = len(self.tape.scratch)
        if op.type in DECOMPOSITIONS:
            outputs = DECOMPOSITIONS[op.type].results(self.tape, view)
        elif has_body(op):
            outputs = expand(self.tape, view)
        else:
            raise GradientError(f"{op.type} has no gradient", where=op.where)
        parts = list(self.tape.scratch[start:])
        for output, grad in zip(outputs, results, strict=True):
            if output is not None and grad is not None:
                self.add(output, grad)
        self.run(parts, active_variables(parts, [v for v in op.reads() if id(v) in active]))


ControlRule: TypeAlias = Callable[[Sweep, Operator, Results, set[int]], None]
CONTROL_RULES: dict[str, ControlRule] = {}


def _sum(g: Tape, parts: Sequence[Variable]) -> Variable:
    total = parts[0]
    if isinstance(total.tensor_type, ContainerType):
        for part in parts[1:]:
            total = add_sequences(g, total, part)
    elif len(parts) == 2:
        total = g.Add(*parts)
    elif len(parts) > 2:
        total = g.Sum(*parts)
    return total


def active_variables(
    ops: Iterable[Operator], inputs: Iterable[Variable], stop: Iterable[int] = ()
) -> set[int]:
    """The float variables that depend on an input, not counting what lies behind a stop."""
    stops = set(stop)
    active = {id(v) for v in inputs if id(v) not in stops}
    for op in ops:
        if any(id(v) in active for v in op.reads()):
            active.update(
                id(v)
                for v in op.writes()
                if v.tensor_type.is_float and not v.stop_gradient and id(v) not in stops
            )
    return active
