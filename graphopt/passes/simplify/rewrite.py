"""Small identities, applied until none holds any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.schema import Attr, op_def
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.passes.engine.change import Change
from graphopt.passes.engine.dead import drop_dead
from graphopt.passes.engine.patterns import RULES, Becomes
from graphopt.passes.engine.walk import Forward
from graphopt.passes.simplify import numbers, products, views

TABLES = (numbers, products, views)  # importing them fills RULES
SWEEPS = 4  # a rule may make room for another above it, which the next sweep finds
AT_ONCE = 8  # rules in a row at one op


@dataclass(frozen=True)
class Simplify(Change):
    """Apply the rules of ``RULES``, in at most ``SWEEPS`` walks over all blocks.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... feed x : f32[8, 4]
    ... param w : f32[3, 4]
    ... i : f32[8, 4] = Identity(x)
    ... t : f32[4, 3] = Transpose(w, perm=[1, 0])
    ... m : f32[8, 3] = MatMul(i, t)
    ... y : f32[8, 3] = Mul(m, 0.5)
    ... ''')
    >>> print(Simplify(keep=("y",)).run(p).text(where=False))
    program : opset 21, 1 op, 1 feed, 1 param
      feed x : f32[8, 4]
      param w : f32[3, 4]
      -- forward
      y : f32[8, 3] = Gemm(x, w, transB=1, alpha=0.5)
    """

    keep: tuple[str, ...] = ()

    def change(self, program: Program) -> None:
        """Walk until no rule applies, or SWEEPS walks are done."""
        for _ in range(SWEEPS):
            sweep = Sweep(program, self.keep)
            sweep.run()
            if not sweep.changed:
                break
            drop_dead(program, self.keep)


class Sweep(Forward):
    """One walk, and what rules may ask of it."""

    def __init__(self, program: Program, keep: Collection[str]) -> None:
        super().__init__(program, keep)
        self.changed = False
        self.counts: Counter[int] = Counter()
        for block in program.blocks:
            for op in block.ops:
                self.counts.update(id(v) for v in op.operands())
            self.counts.update(id(v) for v in block.outputs)
        self.made: list[Operator] = []  # by the rule at work, to be put before its op

    def visit(self, op: Operator) -> list[Operator]:
        """The op as the rules leave it, behind what they have put before it."""
        before: list[Operator] = []
        for _ in range(AT_ONCE):
            found = self._apply(op)
            if found is None:
                break
            self.changed = True
            before += self.made
            if isinstance(found, Variable):
                self.stand(found, next(op.writes()))
                break
            self._become(op, found)
        return [*before, op]

    def _apply(self, op: Operator) -> Variable | Becomes | None:
        """What the first rule that holds makes of the op."""
        for rule in RULES.get(op.type, ()):
            self.made = []
            found = rule(self, op)
            if isinstance(found, Becomes) or (found is not None and self._may_go(op)):
                return found
        return None

    def _may_go(self, op: Operator) -> bool:
        """Whether something can stand for the op's result: the only one, and no state."""
        (result, *others) = op.writes()
        return not others and not result.persistable and self.counts[id(result)] > 0

    def _become(self, op: Operator, found: Becomes) -> None:
        self.counts.subtract(id(v) for v in op.operands())
        definition = op_def(found.type, self.program.opset_of(found.type))
        op.attrs = {
            name: found.attrs.get(name, a.default)
            for name, a in definition.attributes.items()
            if name in found.attrs or a.default is not None
        }
        op.definition, op.inputs = definition, list(found.inputs)
        self.counts.update(id(v) for v in op.operands())

    def current(self, variable: Variable) -> Variable:
        """What stands for a variable, from now on read once more."""
        found = super().current(variable)
        if found is not variable:
            self.counts[id(found)] += 1
            self.counts[id(variable)] -= 1
        return found

    def once(self, variable: Variable) -> bool:
        """Whether one op reads a variable, and nobody asks for it."""
        return self.counts[id(variable)] == 1 and not self.kept(variable)

    def emit(self, like: Operator, type: str, *operands: Variable, **attrs: Attr) -> Variable:
        """The result of a new op, before ``like`` and as if recorded with it."""
        g = Tape(self.block, role=like.role, made_by=like.made_by, scratch=True)
        with at(like.where):
            result: Variable = g.emit(type, *operands, **attrs)
        assert g.scratch is not None
        result.name = self.program.unique_name(type.rpartition("::")[2].lower())
        self.block.add_var(result)
        for op in g.scratch:
            op.block, op.scope = self.block, like.scope
            self.counts.update(id(v) for v in op.operands())
            self.note(op)
        self.made += g.scratch
        return result
