"""What is fed is not made."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.passes.engine.change import Change


@dataclass(frozen=True)
class Cut(Change):
    """Leave out the results whose variables are fed, so that no pass takes the op for their source.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... feed x : f32[N, 4]
    ... a : f32[N, 2] = Split(x, axis=1, num_outputs=2)
    ... b : f32[N, 2]
    ... y : f32[N, 2] = Add(a, b)
    ... ''')
    >>> print(Cut(feed=("x", "b")).run(p).text(where=False))
    program : opset 21, 2 ops, 1 feed, 0 params
      feed x : f32[N, 4]
      var b : f32[N, 2]
      -- forward
      a : f32[N, 2] = Split(x, num_outputs=2, axis=1)
      _
      y : f32[N, 2] = Add(a, b)
    """

    feed: tuple[str, ...] = ()

    def needed(self, program: Program) -> bool:
        """Whether an op makes a variable that is fed."""
        return any(self._is_fed(v) for op in program.global_block().ops for v in op.writes())

    def change(self, program: Program) -> None:
        """Take such results, and ops that have no others, out of the Program."""
        ops = program.global_block().ops
        for op in ops:
            op.outputs = [None if v is None or self._is_fed(v) else v for v in op.outputs]
        program.global_block().ops = [op for op in ops if not _is_empty(op)]

    def _is_fed(self, v: Variable) -> bool:
        return not v.persistable and v.name in self.feed


def _is_empty(op: Operator) -> bool:
    return not any(True for _ in op.writes())
