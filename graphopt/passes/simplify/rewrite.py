"""Small identities, applied until none holds any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import Attr, op_def
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.dead import drop_dead
from graphopt.passes.engine.patterns import REWRITES, Becomes, RewriteRule
from graphopt.passes.engine.replace import is_read
from graphopt.passes.engine.walk import Forward
from graphopt.passes.simplify import numbers, products, views

TABLES = (numbers, products, views)  # importing them fills REWRITES
WALKS = 4  # a rule may make room for another above it, which the next walk finds
AT_ONCE = 8  # rules in a row at one op


@dataclass(frozen=True)
class Simplify(Pass):
    """Apply the rules of ``REWRITES``, in at most ``WALKS`` walks over all blocks.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... feed x : f32[8, 4]
    ... param w : f32[3, 4]
    ... i : f32[8, 4] = Identity(x)
    ... t : f32[4, 3] = Transpose(w, perm=[1, 0])
    ... m : f32[8, 3] = MatMul(i, t)
    ... y : f32[8, 3] = Mul(m, 0.5)
    ... -> y
    ... ''')
    >>> print(Simplify().run(s).text(where=False))
    step : opset 21, 1 op, 1 feed, 1 param
      feed x : f32[8, 4]
      param w : f32[3, 4]
      -- forward
      y : f32[8, 3] = Gemm(x, w, transB=1, alpha=0.5)
      -> y
    """

    def change(self, step: Step) -> None:
        """Walk until no rule applies, or WALKS walks are done."""
        for _ in range(WALKS):
            rewriter = Rewriter(step, REWRITES)
            rewriter.run()
            if not rewriter.changed:
                break
            drop_dead(step)


class Rewriter(Forward):
    """One walk that applies rules by the type of op, and what rules may ask of it."""

    def __init__(self, step: Step, rules: Mapping[str, Sequence[RewriteRule]]) -> None:
        super().__init__(step)
        self.rules = rules
        self.changed = False
        self.made: list[Operator] = []  # by the rule at work, before its op

    def wants(self, op: Operator) -> bool:
        """Whether there are rules for ops of this type."""
        return op.type in self.rules

    def visit(self, op: Operator) -> Sequence[Operator]:
        """The op as the rules leave it, behind what they have put before it."""
        for _ in range(AT_ONCE):
            found = self._apply(op)
            if found is None:
                break
            self.changed = True
            if isinstance(found, Variable):
                self.stand(found, next(op.writes()))
                break
            self._become(op, found)
        return [op]

    def _apply(self, op: Operator) -> Variable | Becomes | None:
        """What the first rule that holds makes of the op."""
        for rule in self.rules.get(op.type, ()):
            self.made = []
            found = rule(self, op)
            if isinstance(found, Becomes) or (found is not None and self._may_go(op)):
                return found
            self.block.drop(self.made)
        return None

    def _may_go(self, op: Operator) -> bool:
        """Whether something can stand for the op's result: the only one, which is read."""
        (result, *others) = op.writes()
        return not others and is_read(self.program, result)

    def _become(self, op: Operator, found: Becomes) -> None:
        definition = op_def(found.type, self.program.opset_of(found.type))
        op.attrs = {
            name: found.attrs.get(name, a.default)
            for name, a in definition.attributes.items()
            if name in found.attrs or a.default is not None
        }
        op.definition, op.inputs = definition, found.inputs

    def number(self, *values: int) -> Variable:
        """Integers as a constant: i64[n]."""
        return self.program.constant(np.array(values, np.int64))

    def once(self, variable: Variable) -> bool:
        """Whether one op reads a variable, once, and nobody else does."""
        return sum(variable.uses.values()) == 1 and not self.kept(variable)

    def emit(self, like: Operator, type: str, *operands: Variable, **attrs: Attr) -> Variable:
        """The result of a new op, before ``like`` and as if recorded with it."""
        name = self.program.unique_name(type.rpartition("::")[2].lower())
        g = Tape(self.block, role=like.role, made_by=like.made_by, scratch=True)
        with at(like.where):
            result: Variable = g.emit(type, *operands, names=[name], **attrs)
        assert g.scratch is not None
        for op in g.scratch:
            op.scope = like.scope
            self.block.append(op)
        self.made += g.scratch
        return result
