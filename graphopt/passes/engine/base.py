"""A pass is a frozen dataclass: its fields are its arguments, its repr is its text."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from graphopt.errors import GraphoptError
from graphopt.ir.model.program import Program
from graphopt.ir.text.verify import verify

Observer: TypeAlias = Callable[["Pass", Program], None]
DUMP = "GRAPHOPT_DUMP"


@dataclass(frozen=True)
class Pass:
    """Returns a new Program and never touches its input."""

    def rewrite(self, program: Program) -> Program:
        """The new Program."""
        raise NotImplementedError

    def run(self, program: Program) -> Program:
        """Rewrite, then verify the result."""
        result = self.rewrite(program)
        verify(result)
        return result


class Pipeline:
    """Passes in order. ``GRAPHOPT_DUMP=dir`` writes the Program's text after each."""

    def __init__(self, name: str, *passes: Pass) -> None:
        self.name = name
        self.passes = passes

    def run(self, program: Program, observer: Observer | None = None) -> Program:
        """Run every pass; a failure names the pass and those that ran before it."""
        directory = os.environ.get(DUMP)
        if directory:
            dump(program, Path(directory), 0, f"{self.name}-recorded")
        for number, step in enumerate(self.passes, 1):
            try:
                program = step.run(program)
            except GraphoptError as error:
                done = " -> ".join(map(repr, self.passes[: number - 1])) or "nothing"
                error.add_note(f"in pass {number} of {self.name}: {step!r}, after {done}")
                raise
            if directory:
                dump(program, Path(directory), number, type(step).__name__.lower())
            if observer is not None:
                observer(step, program)
        return program

    def __repr__(self) -> str:
        return f"{self.name}: {' -> '.join(map(repr, self.passes))}"


def dump(program: Program, directory: Path, number: int, name: str) -> None:
    """Write the Program's text to a numbered file."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{number:02d}-{name}.txt").write_text(program.text() + "\n")
