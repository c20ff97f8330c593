"""The table of rewriting rules, and what they ask of constants and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import Attr
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import Shape

UNIFORM = 2**20  # elements beyond which nobody looks whether a constant is one number


@dataclass(frozen=True)
class Becomes:
    """What an op is to be instead; its results stay."""

    type: str
    inputs: tuple[Variable | None, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)


class Site(Protocol):
    """Where a rule looks around."""

    program: Step

    def maker(self, variable: Variable | None, *types: str) -> Operator | None:
        """The op that makes a variable, in the same block and of one of these types."""

    def kept(self, variable: Variable) -> bool:
        """Whether somebody outside asks for a variable."""

    def stand(self, target: Variable, variable: Variable) -> None:
        """Have everybody read ``target`` in place of ``variable``."""

    def number(self, *values: int) -> Variable:
        """Integers as a constant: i64[n]."""

    def once(self, variable: Variable) -> bool:
        """Whether only one op needs a variable."""

    def emit(self, like: Operator, type: str, *operands: Variable, **attrs: Attr) -> Variable:
        """The result of a new op before ``like``."""


RewriteRule: TypeAlias = Callable[[Site, Operator], "Variable | Becomes | None"]
REWRITES: dict[str, list[RewriteRule]] = {}


def rule(*types: str) -> Callable[[RewriteRule], RewriteRule]:
    """Register a rule for ops of these types; rules are tried in the order they are written.

    It returns the variable that equals the op's only result, or what the op becomes, or None.
    """

    def register(function: RewriteRule) -> RewriteRule:
        for type in types:
            REWRITES.setdefault(type, []).append(function)
        return function

    return register


def scalar(v: Variable | None) -> float | int | bool | None:
    """The number that a constant has in all its elements; None if there is no such number."""
    if not isinstance(v, Constant) or v.value.dtype.kind not in "biuf":
        return None
    if not 0 < v.value.size <= UNIFORM:
        return None
    first = v.value.reshape(-1)[0]
    if v.value.size > 1 and not (v.value == first).all():
        return None
    found: float | int | bool = first.item()
    return found


def ints(v: Variable | None) -> list[int] | None:
    """The elements of a constant of integers."""
    if not isinstance(v, Constant) or v.value.dtype.kind not in "iu":
        return None
    return [int(d) for d in v.value.reshape(-1)]


def same_shape(a: Variable, b: Variable) -> bool:
    """Whether two variables have equal shapes, as far as types tell."""
    return a.tensor_type.shape is not None and a.tensor_type.shape == b.tensor_type.shape


def same_type(a: Variable, b: Variable) -> bool:
    """Whether two variables have equal types, with a known rank."""
    return same_shape(a, b) and a.dtype == b.dtype


def result_of(op: Operator) -> Variable:
    """The op's first result."""
    return next(op.writes())


def first(op: Operator) -> Variable:
    """The op's first operand."""
    return next(op.operands())


def spreads(small: Shape | None, wide: Shape | None) -> bool:
    """Whether broadcasting a shape with another gives the other."""
    if small is None or wide is None or len(small) > len(wide):
        return False
    tail = wide[len(wide) - len(small) :]
    return all(d in (1, e) for d, e in zip(small, tail, strict=True))


def sole(op: Operator) -> bool:
    """Whether the op has one result."""
    return len(list(op.writes())) == 1
