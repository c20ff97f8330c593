"""``static.data``: the variables a run is fed."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import ArgumentTypeError
from graphopt.ir.model.block import declared_type
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import DTypeLike
from graphopt.ir.types.where import here
from graphopt.scoping import default_main_program


def data(
    name: str,
    shape: Sequence[int | str | None],
    dtype: DTypeLike | None = None,
    lod_level: int = 0,
) -> Variable:
    """Declare a variable of the default main Program that every run is fed.

    A dim of ``shape`` that is None or -1 may have any size in each run; a str is a symbol, and dims
    with one symbol are fed equal. ``dtype`` is float32 by default. ``name`` is what the feed calls
    it. ``lod_level`` is accepted as in Paddle and changes nothing.

    >>> import graphopt as go
    >>> with go.static.program_guard(go.static.Program()):
    ...     print(go.static.data("x", [None, 64]))
    <Variable x : f32[N, 64]>

    Raises:
        ArgumentTypeError: the name is not a str, the shape not a list or tuple.
        ArgumentError: the name is taken by a variable of another type.
    """
    if not isinstance(name, str):
        raise ArgumentTypeError(f"data: the name must be a str, not {type(name).__name__}")
    if not isinstance(shape, (list, tuple)):
        raise ArgumentTypeError(
            f"data {name!r}: the shape must be a list or tuple, not {type(shape).__name__}",
            fix="e.g. [None, 784]",
        )
    program = default_main_program()
    variable = Variable(
        name,
        declared_type(program, shape, "float32" if dtype is None else dtype),
        block=program.global_block(),
        where=here(),
        stop_gradient=True,
        is_data=True,
    )
    program.global_block().add_var(variable)
    return variable
