"""Common subexpressions: what is computed twice is computed once."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping
from dataclasses import dataclass
from itertools import zip_longest

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import op_def
from graphopt.ir.model.step import Step
from graphopt.passes.draws.random_ops import RANDOM
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.dead import drop_dead
from graphopt.passes.engine.values import Key, attrs_key
from graphopt.passes.engine.walk import Forward

COMMUTATIVE = frozenset({"Add", "And", "Equal", "Max", "Min", "Mul", "Or", "Sum", "Xor"})


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """Ops of one type over equal operands and attributes become one op: the first.

    Random ops stay, and so do those that have blocks; inside blocks the ops around them count.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... feed x : f32[N]
    ... state w : f32[]
    ... a : f32[N] = Mul(x, w)
    ... b : f32[N] = Mul(w, x)
    ... v : f32[] = Neg(w)
    ... c : f32[N] = Mul(x, v)
    ... y : f32[N] = Sum(a, b, c)
    ... -> y, w <- v
    ... ''')
    >>> print(CommonSubexpressions().run(s).text(where=False))
    step : opset 21, 4 ops, 1 feed, 0 params
      feed x : f32[N]
      state w : f32[]
      -- forward
      a : f32[N] = Mul(x, w)
      v : f32[] = Neg(w)
      c : f32[N] = Mul(x, v)
      y : f32[N] = Sum(a, a, c)
      -> y, w <- v
    """

    def change(self, step: Step) -> None:
        """Have everybody read the first of equal values, and drop the others."""
        _Merger(step).run()
        drop_dead(step)


class _Merger(Forward):
    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self.first: MutableMapping[Key, Operator] = {}

    def enter(self, block: Block) -> None:
        self.first = ChainMap({}, self.first)

    def leave(self, block: Block) -> None:
        assert isinstance(self.first, ChainMap)
        self.first = self.first.maps[1]

    def visit(self, op: Operator) -> list[Operator]:
        if op.type in RANDOM or op.definition.has_blocks:
            return [op]
        found = self.first.setdefault(self._key(op), op)
        if found is not op and self._gives(found, op):
            for one, other in zip(found.outputs, op.outputs, strict=False):
                if one is not None and other is not None:
                    self.stand(one, other)
            if any(self.kept(v) for v in op.writes()) and len(op.outputs) == 1:
                _copy(op, found)
        return [op]

    def _key(self, op: Operator) -> Key:
        """Equal for ops that compute the same."""
        operands = [0 if v is None else id(v) for v in op.inputs]
        if op.type in COMMUTATIVE and 0 not in operands:
            operands.sort()
        definition = op.definition
        return definition.type, definition.since, tuple(operands), attrs_key(op.attrs)

    def _gives(self, found: Operator, op: Operator) -> bool:
        """Whether an earlier op makes all that this one makes; it gets the results it lacks."""
        if any(self.kept(v) for v in op.writes()) and len(op.outputs) > 1:
            return False
        if found.block is not op.block:
            pairs = zip_longest(found.outputs, op.outputs)
            return all(one is not None or other is None for one, other in pairs)
        ours = [*found.outputs, *[None] * (len(op.outputs) - len(found.outputs))]
        theirs = list(op.outputs)
        for k, v in enumerate(theirs):
            if ours[k] is None and v is not None:
                ours[k], theirs[k] = v, None
        op.outputs, found.outputs = theirs, ours
        return True


def _copy(op: Operator, found: Operator) -> None:
    """Its result has a name that is asked for: the op copies what the first one made."""
    op.definition, op.attrs = op_def("Identity"), {}
    op.inputs = [found.outputs[0]]
