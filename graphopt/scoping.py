"""WHERE: which Program is being recorded.

Every thread and every asyncio task has guards of its own. The default Programs are the process's:
all record into them that are in no guard. Nothing locks a Program, so two threads that record at
the same time need two main Programs and two startup Programs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.ir.model.name_scopes import in_name_scope, name_scope_of
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.context import Setting

_programs: ContextVar[tuple[Program, Program]] = ContextVar(
    "graphopt_programs", default=(Program(), Program())
)


def default_main_program() -> Program:
    """The Program that is being recorded: the innermost guard's, else the process's own."""
    return _programs.get()[0]


def default_startup_program() -> Program:
    """The Program that gives the recorded Program's state its first values."""
    return _programs.get()[1]


@contextmanager
def program_guard(main_program: Program, startup_program: Program | None = None) -> Iterator[None]:
    """Record into ``main_program``, and initializers into ``startup_program``.

    Only this thread, or asyncio task, does so. Without ``startup_program`` initializers go where
    they went before.

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
    with Setting(_programs, (main_program, startup)):
        yield


@contextmanager
def name_scope(prefix: str | None = None) -> Iterator[None]:
    """Ops recorded inside carry the scope, so that exported nodes are named ``prefix/…``.

    Raises:
        ArgumentError: an empty prefix.
    """
    if not prefix:
        raise ArgumentError("name_scope needs a prefix that is not empty", fix="e.g. 'encoder'")
    program = default_main_program()
    outer = name_scope_of(program)
    with in_name_scope(program, f"{outer}{program.unique_scope(outer, prefix)}/"):
        yield


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
