"""Random ops made plain: integer ops of the seed, the step and the index of each element.

Inside a Loop or Scan the number of the iteration is hashed too; the branches of an If draw as if
they were outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.block import Block
from graphopt.ir.model.dropout import drops
from graphopt.ir.model.name_scopes import in_name_scope
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.seeds import COUNTER
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import TensorType
from graphopt.ir.types.where import at
from graphopt.passes.draws.bits import Bits, Keys, Number
from graphopt.passes.draws.distributions import DISTRIBUTIONS
from graphopt.passes.engine.base import Pass


@dataclass(frozen=True)
class Streams(Pass):
    """Replace seeded random ops by integer ops, drawing anew with every step of ``counter``.

    Without a counter only a Step that is given nothing is changed, such as a startup Program's: it
    draws the same numbers in every run. Others keep their ops.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... state w : f32[2, 1]
    ... v : f32[2, 1] = RandomUniform(shape=[2, 1], seed=7.0)
    ... -> w <- v
    ... ''')
    >>> print(Streams().run(s).text(where=False))
    step : opset 21, 9 ops, 0 feeds, 0 params
      state w : f32[2, 1]
      -- forward
      add_0 : u32[1, 2, 1] = Add(u32([[[4217589899], [3787154727]]]), u32([[[3672320206]]]))
      add_1 : u32[1, 2, 1] = Add(u32([[[86009626], [2004400050]]]), u32([[[3455554011]]]))
      mul_0 : u32[1, 2, 1] = Mul(add_0, add_1)
      reshape_0 : u32[2, 1] = Reshape(mul_0, [2, 1], allowzero=1)
      cast_0 : f32[2, 1] = Cast(reshape_0, to=f32)
      mul_1 : f32[2, 1] = Mul(cast_0, 2.3283064e-10)
      add_2 : f32[2, 1] = Add(mul_1, 0.0)
      min_0 : f32[2, 1] = Min(add_2, 0.99999994)
      v : f32[2, 1] = Cast(min_0, to=f32)
      -> w <- v
    """

    counter: str = ""

    def needed(self, step: Step) -> bool:
        """Whether something draws, and it is known how it is to draw anew."""
        drawing = any(is_stream(op) for op in step.global_block().ops)
        return drawing and bool(self.counter or reads_nothing(step))

    def change(self, step: Step) -> None:
        """Write random ops as integer ops."""
        _Rewriter(step, self.counter).run()


def is_stream(op: Operator) -> bool:
    """Whether ``Streams`` replaces the op, or one inside its blocks."""
    return draws(op) or any(is_stream(inner) for block in drawing_blocks(op) for inner in block.ops)


def drawing_blocks(op: Operator) -> list[Block]:
    """The blocks in which ``Streams`` looks for random ops."""
    return op.blocks() if op.type in ("If", "Loop", "Scan") else []


def draws(op: Operator) -> bool:
    """Whether the op itself is random, with a seed (a Dropout: always training)."""
    if op.type not in DISTRIBUTIONS or "seed" not in op.attrs:
        return False
    if op.type != "Dropout":
        return True
    ratio = op.maybe("ratio")
    return drops(op) is True and (ratio is None or isinstance(ratio, Constant))


def reads_nothing(step: Step) -> bool:
    """Whether the Step gives state values that depend on its seeds alone."""
    return bool(step.next_state) and not step.inputs()


def advances(op: Operator) -> bool:
    """Whether the op is ``random_step <- random_step + 1``."""
    return all(any(v.name == COUNTER for v in side()) for side in (op.reads, op.writes))


class _Rewriter(Bits):
    """One run of ``Streams`` over a Step."""

    def run(self) -> None:
        with self.program.global_block().rewriting() as ops:
            with at(next(op for op in ops if is_stream(op)).where):
                step = self.step()
                keys = self.keys(step, _streams_of(ops))
            self._append(ops, step, keys)

    def _append(self, ops: Sequence[Operator], step: Number, keys: Keys) -> None:
        """Append ops to the tape's block, random ones made plain; ``step`` hashes the iteration."""
        for op in ops:
            self.g.role = op.role
            with at(op.where), in_name_scope(self.program, op.scope):
                if draws(op):
                    DISTRIBUTIONS[op.type][1](self, op, keys)
                    continue
                if is_stream(op):
                    self._inside(op, step, keys)
            self.g.block.append(op)

    def _inside(self, op: Operator, step: Number, keys: Keys) -> None:
        """Make the random ops of the op's blocks plain."""
        outer, hashed = self.g, dict(self.hashed)
        if op.type == "Scan":
            _count_iterations(self.g, op)
        for block in op.blocks():
            self.g = Tape(block, role=op.role, made_by="streams")
            with block.rewriting() as ops:
                if op.type == "If":
                    self._append(ops, step, keys)
                else:
                    inner = self.iteration(step, block.inputs[0])
                    self._append(ops, inner, self.keys(inner, _streams_of(ops)))
            self.hashed = dict(hashed)  # what a block makes is not there outside of it
        self.g = outer


def stream_names(op: Operator) -> list[str]:
    """One name for each number that an element needs."""
    seed = float(op.attrs["seed"])
    return [f"{op.type} {seed:.17g} {k}" for k in range(DISTRIBUTIONS[op.type][0])]


def _streams_of(ops: Sequence[Operator]) -> list[str]:
    """The streams of ops and of those in an If's branches: what one iteration draws."""
    streams = []
    for op in ops:
        if draws(op):
            streams += stream_names(op)
        for block in op.blocks() if op.type == "If" else ():
            streams += _streams_of(block.ops)
    return streams


def _count_iterations(g: Tape, op: Operator) -> None:
    """Give a Scan a further state, the first: the number of the iteration."""
    block: Block = op.attrs["body"]
    i64 = TensorType(np.dtype("i8"), ())
    i = block.add_input("i", i64)
    block.inputs = [i, *block.inputs[:-1]]
    block.outputs = [Tape(block, role=op.role, made_by="streams").Add(i, 1), *block.outputs]
    last = Variable(g.program.unused_name("iterations"), i64, block=g.block, where=op.where)
    g.block.add_var(last)
    op.inputs, op.outputs = [g.const(0), *op.inputs], [last, *op.outputs]
