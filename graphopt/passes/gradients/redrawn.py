"""Random ops of bodies, where a gradient repeats them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np

from graphopt.errors import GradientError
from graphopt.ir.edit.clone import Copies
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType
from graphopt.passes.draws.random_ops import is_random
from graphopt.passes.draws.streams import advances, draws

# Records what stands for an op, if that is not simply the op; says whether it has.
Again: TypeAlias = Callable[[Tape, Operator, Copies], bool]


def check_still(op: Operator) -> None:
    """Raise GradientError for an op that is random, or has such an op inside."""
    for inner in _random_in(op):
        raise GradientError(
            f"{inner.type} inside a body would draw other numbers when the gradient repeats it",
            operands=[(v.name, v.tensor_type) for v in inner.writes()],
            where=inner.where,
            fix="draw outside the control flow, or directly in a loop's body",
        )


def _random_in(op: Operator) -> Iterator[Operator]:
    """The op and those inside it, as far as they are random."""
    if is_random(op):
        yield op
    for block in op.blocks():
        for inner in block.ops:
            yield from _random_in(inner)


def drawn_again(g: Tape, op: Operator, copies: Copies) -> bool:
    """In an If's branch: seeded ops draw the same again, by ``Streams``, unless a loop is around.

    Raises:
        GradientError: the op would draw other numbers.
    """
    found = list(_random_in(op))
    if found:
        counted = any(advances(other) for other in g.program.global_block().ops)
        if not counted or _is_repeated(g.block) or not all(map(draws, found)):
            check_still(op)
    return False


def refused(g: Tape, op: Operator, copies: Copies) -> bool:
    """Refuse random ops in a SequenceMap body: they can be neither redrawn nor kept.

    Raises:
        GradientError: the op is random.
    """
    check_still(op)
    return False


def _is_repeated(block: Block | None) -> bool:
    """Whether the block, or one around it, is the body of a loop: only these have inputs."""
    return block is not None and (bool(block.inputs) or _is_repeated(block.parent))


def kept(g: Tape, op: Operator, copies: Copies, draw: Callable[[Tape], Variable]) -> bool:
    """In a loop's body: what the op drew, flat, is ``draw(g)``.

    Raises:
        GradientError: the op has a random op inside.
    """
    if not is_random(op):
        check_still(op)
        return False
    if op.type == "Dropout":
        _dropped(g, op, copies, draw(g))
        return True
    result, like = next(op.writes()), next(op.reads(), None)
    shape = g.shape_of(result if like is None else copies.of(like))
    copies.known[id(result)] = typed(g.Reshape(draw(g), shape, allowzero=1), result)
    return True


def _dropped(g: Tape, op: Operator, copies: Copies, drawn: Variable) -> None:
    """y = mask x / (1 - ratio) while training, else x        x, y: [*n]   ratio: []."""
    x, ratio = copies.of(op.operand("data")), op.maybe("ratio")
    training = copies.of(op.operand("training_mode"))
    mask = typed(g.Reshape(drawn, g.shape_of(x), allowzero=1), x)
    left = g.Sub(1.0, g.full(0.5, x) if ratio is None else g.cast(copies.of(ratio), x.dtype))
    y = g.Where(training, g.Div(g.Where(mask, x, g.full(0.0, x)), left), x)
    results = zip(("output", "mask"), (y, mask), strict=True)
    for slot, found in results:
        if (result := op.result(slot)) is not None:
            copies.known[id(result)] = typed(found, result)


def draw_of(op: Operator, block: Block) -> Variable:
    """The result that holds what a random op drew; of a Dropout its mask, which it may lack yet."""
    if op.type != "Dropout":
        return next(op.writes())
    shape = op.operand("data").tensor_type.shape
    new = Variable("", TensorType(np.dtype("?"), shape), block=block, where=op.where)
    new.stop_gradient = True
    return op.result("mask") or new
