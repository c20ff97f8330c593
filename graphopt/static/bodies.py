"""Bodies of control flow: users' functions recorded into blocks, and what they return checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TypeAlias, TypeVar

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError, StateError
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.reach import needed_ops
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.context import Setting
from graphopt.ir.types.types import Inferred, TensorType, inferred
from graphopt.ir.types.where import here
from graphopt.passes.draws.streams import advances
from graphopt.scoping import default_startup_program
from graphopt.static.nests import Nest, structure

T = TypeVar("T")
Function: TypeAlias = Callable[..., Nest]


class Widened(BaseException):
    """A loop's body changes dims that were taken for fixed: recording begins anew, with them open.

    It is no error, and no user's ``except Exception`` may catch it.
    """

    def __init__(self, position: int, types: list[Inferred]) -> None:
        self.position, self.types = position, types


class Attempt:
    """One recording of the outermost control flow: its loops are counted as they are met."""

    def __init__(self, types: Mapping[int, list[Inferred]]) -> None:
        self.types = types  # what is known of loops' values, by the loop's position
        self.loops = 0

    def next_loop(self, start: Sequence[Variable]) -> tuple[int, list[TensorType]]:
        """The next loop's position, and the types its values have at the start of iterations."""
        self.loops += 1
        known = self.types.get(self.loops, [inferred(v.tensor_type) for v in start])
        return self.loops, [v.program.tensor_type(t) for v, t in zip(start, known, strict=True)]


_attempt: ContextVar[Attempt | None] = ContextVar("graphopt_attempt", default=None)


def attempt() -> Attempt:
    """The recording that is under way."""
    found = _attempt.get()
    assert found is not None, "control flow is recorded inside whole()"
    return found


def whole(program: Program, record: Callable[[], T]) -> T:
    """What ``record`` returns; if it raises, nothing is recorded, not even a parameter.

    The outermost call begins anew, each time from the same state, until the types of all loops are
    wide enough: only the user's function knows what it makes of other shapes.
    """
    if _attempt.get() is not None:
        return record()
    types: dict[int, list[Inferred]] = {}
    while True:
        startup = default_startup_program()
        try:
            with (
                Setting(_attempt, Attempt(types)),
                program.all_or_nothing(),
                startup.all_or_nothing(),
            ):
                return record()
        except Widened as found:
            types = {k: known for k, known in types.items() if k < found.position}
            types[found.position] = found.types


def recorded(
    what: str,
    program: Program,
    function: Function,
    inputs: Sequence[tuple[str, TensorType]] = (),
) -> tuple[Block, Nest]:
    """A block with these inputs, and what ``function(*inputs)`` returns inside it."""
    block = Block(program, program.current_block())
    formals = [block.add_input(name, tensor_type) for name, tensor_type in inputs]
    before = {id(op) for outer in _around(block) for op in outer.ops}
    with program.recording(block):
        result = function(*formals)
    for outer in _around(block):
        for op in outer.ops:
            if id(op) not in before and not advances(op):
                raise _outside(what, op)
    return block, result


def _around(block: Block) -> Iterator[Block]:
    while block.parent is not None:
        block = block.parent
        yield block


def _outside(what: str, op: Operator) -> ArgumentError:
    return ArgumentError(
        f"{what} records {op.type} outside of itself, where it would always run",
        operands=[(v.name, v.tensor_type) for v in op.writes()],
        where=op.where,
        fix="call minimize, append_backward and the like outside of control flow",
    )


def close(what: str, block: Block, results: Sequence[Variable]) -> Block:
    """Give the block these results, and keep those of its ops that they need.

    Raises:
        StateError: an op assigns state.
        ArgumentError: an op reads what is made inside another body.
    """
    for op in block.ops:
        for v in op.writes():
            if v.persistable:
                raise _assigned(what, v, op)
    block.outputs = list(results)
    kept, _ = needed_ops(block.ops, results)
    block.reorder(kept)
    own = {id(v) for v in block.inputs} | {id(v) for op in kept for v in op.writes()}
    block.vars = {name: v for name, v in block.vars.items() if id(v) in own}
    outer = {id(b) for b in _around(block)}
    for v in block.captures():
        if id(v.block) not in outer:
            raise _elsewhere(what, v)
    return block


def _assigned(what: str, v: Variable, op: Operator) -> StateError:
    return StateError(
        f"{what} assigns {v.name}, which is kept between runs: {op.type} cannot do that there",
        operands=[(v.name, v.tensor_type)],
        where=op.where,
        fix="return the new value, and assign it outside: go.assign(value, output=state); "
        "batch normalization: use_global_stats=True",
    )


def _elsewhere(what: str, v: Variable) -> ArgumentError:
    return ArgumentError(
        f"{what} uses {v.name}, which is made inside another body",
        operands=[(v.name, v.tensor_type)],
        where=v.where,
        fix=f"return {v.name} from the body that makes it",
    )


def need_function(what: str, value: object, *, optional: bool = False) -> None:
    """Refuse a value that cannot be called.

    Raises:
        ArgumentTypeError: it cannot.
    """
    if not callable(value) and not (optional and value is None):
        kind = type(value).__name__
        raise ArgumentTypeError(f"{what} must be a function, not a {kind}", where=here())


def need_same_form(what: str, one: tuple[str, Nest], other: tuple[str, Nest]) -> None:
    """Refuse two labelled nests that differ in more than their leaves.

    Raises:
        ArgumentError: they do.
    """
    forms = [(label, structure(nest)) for label, nest in (one, other)]
    if forms[0][1] != forms[1][1]:
        raise ArgumentError(
            f"{what}: {one[0]} and {other[0]} differ in form",
            operands=forms,
            where=here(),
            fix="return as many values, in the same lists, tuples and dicts",
        )


def truth(g: Tape, what: str, value: object) -> Variable:
    """The condition as bool[].

    Raises:
        ArgumentTypeError: it is no Variable.
        DTypeError: it is no bool.
        ShapeError: it has more than one element.
    """
    if not isinstance(value, Variable):
        raise ArgumentTypeError(
            f"{what} must be a Variable of one bool, not {value!r}",
            where=here(),
            fix="use Python's own if and while where the value is known while recording",
        )
    shown, shape = [(value.name, value.tensor_type)], value.tensor_type.shape
    if value.dtype != np.dtype("?"):
        fix = f"compare it, e.g. {value.name} > 0"
        raise DTypeError(f"{what} must be a bool", operands=shown, where=here(), fix=fix)
    if any(isinstance(d, int) and d != 1 for d in shape or ()):
        fix = f"reduce it, e.g. go.all({value.name})"
        raise ShapeError(f"{what} must be one bool", operands=shown, where=here(), fix=fix)
    scalar: Variable = value if shape == () else g.Reshape(value, np.zeros(0, np.int64))
    return scalar


def as_operand(g: Tape, value: object, dtype: np.dtype | None = None) -> Variable:
    """A leaf: a Variable as it is, a number as a constant (of a dtype)."""
    return value if isinstance(value, Variable) else g.const(value, dtype)  # type: ignore[arg-type]


def listed(made: Variable | tuple[Variable, ...]) -> list[Variable]:
    """The results of an op, however many."""
    return [made] if isinstance(made, Variable) else list(made)


def wrong_kind(what: str, value: object) -> ArgumentTypeError:
    """The error for a value that cannot be used."""
    return ArgumentTypeError(f"{what}, not {value!r}", where=here())
