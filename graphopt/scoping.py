"""WHERE: which Program is being recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable

_programs: list[tuple[Program, Program]] = [(Program(), Program())]


def default_main_program() -> Program:
    """The Program that is being recorded: the innermost guard's, else the process's own."""
    return _programs[-1][0]


def default_startup_program() -> Program:
    """The Program that gives the recorded Program's state its first values."""
    return _programs[-1][1]


@contextmanager
def program_guard(main_program: Program, startup_program: Program | None = None) -> Iterator[None]:
    """Record into ``main_program``, and initializers into ``startup_program``.

    >>> main, startup = Program(), Program()
    >>> with program_guard(main, startup):
    ...     default_main_program() is main
    True

    Raises:
        ArgumentTypeError: an argument is not a Program.
    """
    startup = default_startup_program() if startup_program is None else startup_program
    for name, value in (("main_program", main_program), ("startup_program", startup)):
        if not isinstance(value, Program):
            raise ArgumentTypeError(
                f"program_guard: {name} must be a Program, not {type(value).__name__}"
            )
    _programs.append((main_program, startup))
    try:
        yield
    finally:
        _programs.pop()


@contextmanager
def name_scope(prefix: str | None = None) -> Iterator[None]:
    """Ops recorded inside carry the scope, so that exported nodes are named ``prefix/…``.

    Raises:
        ArgumentError: an empty prefix.
    """
    if not prefix:
        raise ArgumentError("name_scope needs a prefix that is not empty", fix="e.g. 'encoder'")
    program = default_main_program()
    outer = program.scope
    program.scope = f"{outer}{program.unique_scope(outer, prefix)}/"
    try:
        yield
    finally:
        program.scope = outer


def recorder(*values: object) -> Tape:
    """A tape on the Program of the Variables among ``values``, else on the default main Program.

    Raises:
        ArgumentError: the Variables belong to different Programs.
    """
    variables = [v for v in values if isinstance(v, Variable)]
    if not variables:
        return default_main_program().recorder()
    program = variables[0].program
    for v in variables[1:]:
        if v.program is not program:
            raise ArgumentError(
                f"{variables[0].name} and {v.name} belong to different Programs",
                operands=[(w.name, w.tensor_type) for w in (variables[0], v)],
                where=v.where,
                fix="record both under one program_guard",
            )
    return program.recorder()
