"""The seeds of random ops, and the state that counts the runs which drew."""

from __future__ import annotations

import zlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import ArgumentTypeError

if TYPE_CHECKING:
    from graphopt.ir.model.program import Program

COUNTER = "random_step"  # the state that counts the runs which drew random numbers
_own: ContextVar[np.random.Generator] = ContextVar("graphopt_seeds")
_shared = [np.random.default_rng()]  # for the contexts in which ``seed`` was never called


def seed(value: int) -> None:
    """Let ``value`` fix the seeds of initializers and random ops recorded from now on.

    This thread, or asyncio task, then has seeds of its own, which no other thread changes; tasks
    that it makes draw from them too. All threads that never called ``seed`` draw from one further
    sequence, which the last call in the process fixes: its numbers are the same every time, but
    which of these threads gets which depends on who draws first.

    Raises:
        ArgumentTypeError: ``value`` is not an int.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ArgumentTypeError(f"a seed is an int, not {value!r}")
    own = np.random.default_rng(int(value))
    _own.set(own)
    _shared[0] = own.spawn(1)[0]


def next_seed(program: Program, own: int = 0, position: int | None = None) -> int:
    """The seed of the next random op: its own, else one fixed by ``program.random_seed``, else any.

    Below 2^24, so that it is exact where ONNX takes seeds as float32. ``random_seed`` gives every
    op of a Program another one, by its ``position``: at the end unless stated.
    """
    if own:
        return int(own) % 2**24
    if program.random_seed:
        if position is None:
            position = sum(len(block.ops) for block in program.blocks)
        first = zlib.crc32(str(program.random_seed).encode())
        return (first + position * 0x9E3779) % 2**24  # an odd factor: no two positions meet
    return int(_own.get(_shared[0]).integers(1, 2**24))
