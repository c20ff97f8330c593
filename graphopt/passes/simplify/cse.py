"""Common subexpressions: what is computed twice is computed once."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Hashable, MutableMapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeAlias

import numpy as np

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.schema import Attr, op_def
from graphopt.passes.draws.random_ops import RANDOM
from graphopt.passes.engine.change import Change
from graphopt.passes.engine.dead import drop_dead
from graphopt.passes.engine.walk import Forward

Key: TypeAlias = Hashable
COMMUTATIVE = frozenset({"Add", "And", "Equal", "Max", "Min", "Mul", "Or", "Sum", "Xor"})


@dataclass(frozen=True)
class CommonSubexpressions(Change):
    """Ops of one type over equal operands and attributes become one op: the first.

    A state that is assigned in between is another operand. Random ops stay, and so do those that
    assign state or have blocks; inside blocks the ops around them count.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... feed x : f32[N]
    ... state w : f32[]
    ... a : f32[N] = Mul(x, w)
    ... b : f32[N] = Mul(w, x)
    ... w <- Neg(w)
    ... c : f32[N] = Mul(x, w)
    ... y : f32[N] = Sum(a, b, c)
    ... ''')
    >>> print(CommonSubexpressions(keep=("y",)).run(p).text(where=False))
    program : opset 21, 4 ops, 1 feed, 0 params
      feed x : f32[N]
      state w : f32[]
      -- forward
      a : f32[N] = Mul(x, w)
      w <- Neg(w)
      c : f32[N] = Mul(x, w)
      y : f32[N] = Sum(a, a, c)
    """

    keep: tuple[str, ...] = ()

    def change(self, program: Program) -> None:
        """Have everybody read the first of equal values, and drop the others."""
        _Merger(program, self.keep).run()
        drop_dead(program, self.keep)


class _Merger(Forward):
    def __init__(self, program: Program, keep: Collection[str]) -> None:
        super().__init__(program, keep)
        self.first: MutableMapping[Key, Operator] = {}

    def enter(self, block: Block) -> None:
        self.first = ChainMap({}, self.first)

    def leave(self, block: Block) -> None:
        assert isinstance(self.first, ChainMap)
        self.first = self.first.maps[1]

    def visit(self, op: Operator) -> list[Operator]:
        if op.type in RANDOM or op.definition.has_blocks or any(v.persistable for v in op.writes()):
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
        operands = [None if v is None else (id(v), self.assigned.get(id(v), 0)) for v in op.inputs]
        if op.type in COMMUTATIVE and None not in operands:
            operands.sort(key=lambda pair: pair or (0, 0))
        attrs = tuple((name, _frozen(value)) for name, value in op.attrs.items())
        return op.definition.type, op.definition.since, tuple(operands), attrs

    def _gives(self, found: Operator, op: Operator) -> bool:
        """Whether an earlier op makes all that this one makes; it gets the results it lacks."""
        if any(self.kept(v) for v in op.writes()) and len(op.outputs) > 1:
            return False
        if found.block is not op.block:
            pairs = zip_longest(found.outputs, op.outputs)
            return all(one is not None or other is None for one, other in pairs)
        found.outputs += [None] * (len(op.outputs) - len(found.outputs))
        for k, v in enumerate(op.outputs):
            if found.outputs[k] is None and v is not None:
                found.outputs[k], op.outputs[k] = v, None
        return True


def _copy(op: Operator, found: Operator) -> None:
    """Its result has a name that is asked for: the op copies what the first one made."""
    op.definition, op.attrs = op_def("Identity"), {}
    op.inputs = [found.outputs[0]]


def _frozen(value: Attr) -> Hashable:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, list):
        return tuple(_frozen(v) for v in value)
    return type(value).__name__, value
