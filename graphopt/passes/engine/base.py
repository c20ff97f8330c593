"""A pass is a frozen dataclass: its fields are its arguments, its repr is its text."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.edit.clone import copy_step
from graphopt.ir.model.step import Step
from graphopt.ir.text.verify import verify


@dataclass(frozen=True)
class Pass:
    """Changes a Step in place; ``run`` changes a copy instead.

    What a pass has to keep is said by the Step: what it gives, and what it is given.
    """

    def needed(self, step: Step) -> bool:
        """Whether there is anything to change, as far as that is cheap to tell."""
        return True

    def change(self, step: Step) -> None:
        """Change the Step."""
        raise NotImplementedError

    def apply(self, step: Step) -> Step:
        """The changed Step: itself, unless the pass builds a new one."""
        if self.needed(step):
            self.change(step)
        return step

    def run(self, step: Step) -> Step:
        """A changed and verified copy."""
        new = self.apply(copy_step(step))
        verify(new)
        return new
