"""A walk over the ops of all blocks in order, in which variables come to stand for others.

Nothing is deleted on the way: what nobody reads in the end is ``DeadCode``'s.
"""

from __future__ import annotations

from collections.abc import Collection

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Constant, Variable


class Forward:
    """Visits every op, those inside first, over what stands for its operands by then.

    A persistable variable has one value until an op assigns it: whatever is said of its value holds
    up to there. A result that ``keep`` names stays defined, but readers may be pointed elsewhere.
    """

    def __init__(self, program: Program, keep: Collection[str] = ()) -> None:
        self.program = program
        self.keep = frozenset(keep)
        self.block = program.global_block()
        self.now = 0  # counts the ops that were reached
        self.seen: dict[int, int] = {}  # when an op was, by its id
        self.assigned: dict[int, int] = {}  # when a persistable variable last was, by its id
        self.makers: dict[int, Operator] = {}
        self.stands: dict[int, tuple[Variable, int]] = {}

    def visit(self, op: Operator) -> list[Operator]:
        """The ops that stand for ``op``."""
        raise NotImplementedError

    def enter(self, block: Block) -> None:
        """The ops of a block of a control-flow op are about to be visited."""

    def leave(self, block: Block) -> None:
        """They have been."""

    def run(self) -> None:
        """Walk over the whole Program."""
        self._walk(self.program.global_block())

    def _walk(self, block: Block) -> None:
        outer, self.block = self.block, block
        ops, block.ops = block.ops, []
        for op in ops:
            self.now += 1
            op.inputs = [None if v is None else self.current(v) for v in op.inputs]
            for inner in op.blocks() if op.definition.has_blocks else ():
                self.enter(inner)
                self._walk(inner)
                self.leave(inner)
            for found in self.visit(op):
                block.ops.append(found)
                self.note(found)
        block.outputs = [self.current(v) for v in block.outputs]
        self.block = outer

    def note(self, op: Operator) -> None:
        """Remember what an op makes."""
        self.seen[id(op)] = self.now
        for v in op.writes():
            if v.persistable:
                self.assigned[id(v)] = self.now
            else:
                self.makers[id(v)] = op

    def current(self, variable: Variable) -> Variable:
        """What stands for a variable by now; the variable itself if nothing does."""
        found = self.stands.get(id(variable))
        if found is None or self.assigned.get(id(found[0]), 0) >= found[1]:
            return variable
        return found[0]

    def stand(self, target: Variable, variable: Variable) -> None:
        """From here on ``target`` is read in place of ``variable``."""
        self.stands[id(variable)] = (target, self.now)

    def maker(self, variable: Variable | None, *types: str) -> Operator | None:
        """The op of this block that makes a variable, if it is of one of these types."""
        if variable is None or isinstance(variable, Constant):
            return None
        found = self.makers.get(id(variable))
        same = found is not None and found.type in types and found.block is self.block
        return found if same else None

    def still(self, op: Operator, variable: Variable) -> bool:
        """Whether an operand of an earlier op still has the value that the op read."""
        return self.assigned.get(id(variable), 0) < self.seen[id(op)]

    def kept(self, variable: Variable) -> bool:
        """Whether somebody outside asks for a variable by its name."""
        return variable.name in self.keep and variable.block.parent is None


def renumber(program: Program) -> None:
    """List the Program's blocks anew, as the ops hold them by now."""
    program.blocks = program.blocks[:1]
    _register(program.blocks[0])


def _register(block: Block) -> None:
    for op in block.ops:
        for inner in op.blocks() if op.definition.has_blocks else ():
            block.program.register(inner, block)
            _register(inner)
