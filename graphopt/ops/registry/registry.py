"""The registry of cards: gradients, zero gradients and composites, keyed by onnx's own names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphopt.errors import GradientError, VerifyError
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.schema import Attr, AttrDef, Formal, Infer, OpDef, op_def, register_composite
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import Inferred, TensorType, inferred
from graphopt.ir.types.where import UNKNOWN
from graphopt.ops.registry.cases import Case

Grad: TypeAlias = Variable | None
Grads: TypeAlias = Mapping[str, "Grad | list[Grad]"]
Updates: TypeAlias = Mapping[str, Variable]
GradientRule: TypeAlias = Callable[..., Grads]


@dataclass(frozen=True)
class Card:
    """A primitive's gradient.

    ``rule(g, op, dY, …)`` gets one gradient per formal output (None where the loss does not depend
    on it) and returns one per differentiable formal input. ``twice`` is False where a second
    derivative has no meaning at the sample points.
    """

    type: str
    rule: GradientRule
    cases: tuple[Case, ...]
    nondiff: frozenset[str]
    twice: bool

    def gradients(self, g: Tape, op: Operator, results: Sequence[Grad]) -> list[Grad]:
        """One gradient per operand of ``op``, in order; None where there is none."""
        found = self.rule(g, op, *self._arguments(results))
        names = {f.name for f in op.definition.inputs}
        if set(found) | self.nondiff != names:
            raise VerifyError(
                f"the gradient rule of {self.type} returns {sorted(found)}, "
                f"its differentiable inputs are {sorted(names - self.nondiff)}",
                where=op.where,
                fix="this is a bug in the card: please report it",
            )
        return _aligned(op, found)

    def _arguments(self, results: Sequence[Grad]) -> Sequence[Grad]:
        count = _gradients_read(self.rule)
        return results if count is None else [*results, *[None] * count][:count]


@functools.cache
def _gradients_read(rule: GradientRule) -> int | None:
    """The number of results whose gradients a rule takes; None for any number."""
    parameters = list(inspect.signature(rule).parameters.values())[2:]
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_POSITIONAL:
        return None
    return len(parameters)


def _aligned(op: Operator, found: Grads) -> list[Grad]:
    grads: list[Grad] = []
    for name, operands in op.definition.slots(op.inputs).items():
        value = found.get(name)
        grads += value if isinstance(value, list) else [value] * bool(operands)
    return grads


Parts: TypeAlias = "Variable | Sequence[Grad]"


@dataclass(frozen=True)
class Decomposition:
    """A primitive in terms of others, through which it is differentiated.

    ``build(g, op)`` records ops that compute the op's results from its operands and returns them,
    one per formal output (fewer where the last are never differentiated). The op itself still runs
    as it is: only what the gradient needs of the decomposition is recorded.
    """

    type: str
    build: Callable[[Tape, Operator], Parts]
    cases: tuple[Case, ...]
    nondiff: frozenset[str]
    twice: bool

    def results(self, g: Tape, op: Operator) -> list[Grad]:
        """What stands for each result of ``op``; None for one that is not made."""
        made = self.build(g, op)
        parts = [made] if isinstance(made, Variable) else list(made)
        return [*parts, *[None] * len(op.outputs)][: len(op.outputs)]


CARDS: dict[str, Card] = {}
DECOMPOSITIONS: dict[str, Decomposition] = {}
ZERO: dict[str, str] = {}


def gradient(
    type: str, *, cases: Sequence[Case], nondiff: Sequence[str] = (), twice: bool = True
) -> Callable[[GradientRule], GradientRule]:
    """Register the gradient rule of an ONNX op, with sample shapes that test it."""
    formals = {f.name for f in op_def(type).inputs}
    for case in cases:
        _check_names(type, set(case.inputs) - formals, "case")
    _check_names(type, set(nondiff) - formals, "nondiff")

    def register(rule: GradientRule) -> GradientRule:
        CARDS[type] = Card(type, rule, tuple(cases), frozenset(nondiff), twice)
        return rule

    return register


Build: TypeAlias = Callable[[Tape, Operator], Parts]


def decomposition(
    type: str, *, cases: Sequence[Case], nondiff: Sequence[str] = (), twice: bool = True
) -> Callable[[Build], Build]:
    """Register how an ONNX op is made of others, with sample shapes that test it."""
    formals = {f.name for f in op_def(type).inputs}
    for case in cases:
        _check_names(type, set(case.inputs) - formals, "case")
    _check_names(type, set(nondiff) - formals, "nondiff")

    def register(build: Build) -> Build:
        DECOMPOSITIONS[type] = Decomposition(type, build, tuple(cases), frozenset(nondiff), twice)
        return build

    return register


def _check_names(type: str, unknown: set[str], what: str) -> None:
    if unknown:
        raise VerifyError(f"{type} has no formal inputs {sorted(unknown)} (in {what})")


def zero_gradient(reason: str, *types: str) -> None:
    """Ops whose derivative is zero, or whose results are not numbers that vary smoothly."""
    for type in types:
        op_def(type)
        ZERO[type] = reason


def unranked(op: Operator) -> GradientError:
    """What a rule raises that has to know how many dims an operand has."""
    values = [*op.reads(), *op.writes()]
    return GradientError(
        f"the gradient of {op.type} needs operands of known rank",
        operands=[(v.name, v.tensor_type) for v in values if v.tensor_type.shape is None],
        where=op.where,
        fix="give them a shape, by a Reshape to dims of which one may be -1",
    )


Body: TypeAlias = Callable[..., Updates]


@dataclass(frozen=True)
class Composite:
    """An op of graphopt's own: one traced body gives its types, its lowering and its text.

    The body's parameters after the tape are the formal inputs; keyword-only ones are attributes.
    """

    type: str
    body: Body
    cases: tuple[Case, ...]
    updates: tuple[str, ...]

    def trace(
        self, types: Sequence[TensorType | None], attrs: Mapping[str, Attr], opset: int = 0
    ) -> tuple[Program, list[Variable | None], list[Variable]]:
        """The body recorded on a Program of its own: the Program, its inputs and its results.

        ``opset`` is the least version of its ops; a function is inlined only into its own.
        """
        program = Program()
        program.opset = max(program.opset, opset)
        block = program.global_block()
        inputs: list[Variable | None] = []
        for name, found in zip(self.input_names, types, strict=True):
            if found is None:
                inputs.append(None)
                continue
            variable = Variable(name, found, block=block, where=UNKNOWN, is_data=True)
            block.add_var(variable)
            inputs.append(variable)
        results = self.body(Tape(block, role=Role.UPDATE), *inputs, **attrs)
        return program, inputs, [results[name] for name in self.updates if name in results]

    @property
    def input_names(self) -> list[str]:
        """The formal inputs."""
        return [p.name for p in _positional(self.body)]

    @property
    def output_names(self) -> list[str]:
        """What the results are called in a function."""
        return [f"{name}_next" for name in self.updates]


class Formula(Composite):
    """An op of graphopt's own whose one result the runtime may work out in another way."""

    @property
    def output_names(self) -> list[str]:
        """The one result."""
        return [RESULT]


RESULT = "result"
COMPOSITES: dict[str, Composite] = {}
FORMULAS: dict[str, Formula] = {}


def composite_of(type: str) -> Composite:
    """The card of an op of graphopt's own."""
    return COMPOSITES.get(type) or FORMULAS[type]


def composite(
    type: str, *, updates: Sequence[str], cases: Sequence[Case]
) -> Callable[[Body], Body]:
    """Register a composite. ``updates``: the inputs it replaces, in the order of its results."""

    def register(body: Body) -> Body:
        card = Composite(type, body, tuple(cases), tuple(updates))
        COMPOSITES[type] = card

        def infer(types: Sequence[TensorType | None], attrs: Mapping[str, Attr]) -> list[Inferred]:
            padded = [*types, *[None] * (len(card.input_names) - len(types))]
            return [inferred(v.tensor_type) for v in card.trace(padded, attrs)[2]]

        register_composite(_definition(type, body, updates, infer))
        return body

    return register


def formula(type: str, *, like: str, cases: Sequence[Case]) -> Callable[[Formed], Formed]:
    """Register an op for which one formulation is portable and others are quicker in places.

    The body is the portable one: it is what files hold, what the reference evaluator runs, and what
    further derivatives go through. ``like`` names the operand whose type the result has.
    """

    def register(body: Formed) -> Formed:
        @functools.wraps(body)
        def named(*operands: Any, **attrs: Any) -> Updates:  # noqa: ANN401 - as body says
            return {RESULT: body(*operands, **attrs)}

        card = FORMULAS[type] = Formula(type, named, tuple(cases), (RESULT,))
        position = card.input_names.index(like)

        def infer(types: Sequence[TensorType | None], attrs: Mapping[str, Attr]) -> list[Inferred]:
            found = types[position]
            assert found is not None
            return [inferred(found)]

        @functools.wraps(body)
        def build(g: Tape, op: Operator) -> Variable:
            return body(g, *op.inputs, **op.attrs)

        register_composite(_definition(type, body, (RESULT,), infer))
        DECOMPOSITIONS[type] = Decomposition(type, build, tuple(cases), frozenset(), twice=True)
        return body

    return register


Formed: TypeAlias = Callable[..., Variable]


def _definition(type: str, body: Callable[..., Any], results: Sequence[str], infer: Infer) -> OpDef:
    return OpDef(
        type=type,
        domain="graphopt",
        since=1,
        inputs=tuple(
            Formal(p.name, type_str=p.name, optional=p.default is None) for p in _positional(body)
        ),
        outputs=tuple(Formal(name, type_str=name) for name in results),
        attributes=_attributes(body),
        infer=infer,
    )


def _positional(body: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = list(inspect.signature(body).parameters.values())[1:]
    return [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def _attributes(body: Callable[..., Any]) -> dict[str, AttrDef]:
    kinds: dict[Any, str] = {
        "float": "FLOAT", "int": "INT", "bool": "INT", "list[int]": "INTS",
    }  # fmt: skip
    return {
        p.name: AttrDef(
            kinds[p.annotation], p.default is p.empty, None if p.default is p.empty else p.default
        )
        for p in inspect.signature(body).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
