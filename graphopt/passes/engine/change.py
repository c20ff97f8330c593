"""Passes that can also change a Program in place, for a caller who has it to himself."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.edit import clone
from graphopt.ir.model.program import Program
from graphopt.passes.engine.base import Pass


@dataclass(frozen=True)
class Change(Pass):
    """As a pass it changes a copy."""

    def needed(self, program: Program) -> bool:
        """Whether there is anything to change, as far as that is cheap to tell."""
        return True

    def change(self, program: Program) -> None:
        """Change the Program."""
        raise NotImplementedError

    def rewrite(self, program: Program) -> Program:
        """A changed copy; the Program itself if nothing is to change."""
        if not self.needed(program):
            return program
        new = clone.copy(program)
        self.change(new)
        return new


@dataclass(frozen=True)
class Changes(Change):
    """Several changes of one copy: what copying and verifying after each would cost is saved.

    >>> from graphopt.ir.text.parse import parse
    >>> from graphopt.passes.engine.dead import DeadCode
    >>> from graphopt.passes.simplify.fold import Fold
    >>> p = parse('''
    ... feed x : f32[2]
    ... a : f32[2] = Neg([1.0, 2.0])
    ... y : f32[2] = Add(x, a)
    ... z : f32[2] = Exp(y)
    ... ''')
    >>> print(Changes((Fold(keep=("y",)), DeadCode(keep=("y",)))).run(p).text(where=False))
    program : opset 21, 1 op, 1 feed, 0 params
      feed x : f32[2]
      -- forward
      y : f32[2] = Add(x, [-1.0, -2.0])
    """

    steps: tuple[Change, ...] = ()

    def needed(self, program: Program) -> bool:
        """Whether one of them has anything to change."""
        return any(step.needed(program) for step in self.steps)

    def change(self, program: Program) -> None:
        """Make them one after the other."""
        for step in self.steps:
            if step.needed(program):
                step.change(program)
