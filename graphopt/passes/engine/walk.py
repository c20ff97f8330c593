"""A walk over the ops of all blocks in order, in which variables come to stand for others.

Nothing is deleted on the way: what nobody reads in the end is ``DeadCode``'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Variable
from graphopt.passes.engine.replace import read_instead


class Forward:
    """Visits every op, those inside first."""

    def __init__(self, step: Step) -> None:
        self.program = step
        self.block = step.global_block()

    def wants(self, op: Operator) -> bool:
        """Whether an op is to be visited; others stay as they are."""
        return True

    def visit(self, op: Operator) -> Sequence[Operator]:
        """The ops that stand for ``op``."""
        raise NotImplementedError

    def enter(self, block: Block) -> None:
        """The ops of a block of a control-flow op are about to be visited."""

    def leave(self, block: Block) -> None:
        """They have been."""

    def run(self) -> None:
        """Walk over the whole Step."""
        self._walk(self.program.global_block())

    def _walk(self, block: Block) -> None:
        outer, self.block = self.block, block
        with block.rewriting() as ops:
            for op in ops:
                for inner in op.blocks() if op.definition.has_blocks else ():
                    self.enter(inner)
                    self._walk(inner)
                    self.leave(inner)
                if not self.wants(op):
                    block.keep(op)
                    continue
                for found in self.visit(op):
                    (block.keep if found is op else block.append)(found)
        self.block = outer

    def stand(self, target: Variable, variable: Variable) -> None:
        """``target`` is read in place of ``variable``, except by who asks for it by its name."""
        read_instead(self.program, target, variable)

    def maker(self, variable: Variable | None, *types: str) -> Operator | None:
        """The op of this block that makes a variable, if it is of one of these types."""
        op = None if variable is None else variable.maker
        found = op is not None and op.type in types and op.block is self.block
        return op if found else None

    def kept(self, variable: Variable) -> bool:
        """Whether somebody outside asks for a variable."""
        return self.program.gives(variable)
