"""The step of a large parameter, w' = w - rate v, in one pass over memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.ir.edit import clone
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.ops.kernels.blocked import DOMAIN
from graphopt.ops.registry.registry import COMPOSITES
from graphopt.passes.engine.base import Pass
from graphopt.passes.select.inline import inline

LARGE = 2**16  # elements from which a pass over memory costs more than the ops that save it
STEP, MADE_BY = "@STEP", "step_in_blocks"
NARROW = 8  # columns of an image below which its kernel is slow


@dataclass(frozen=True)
class StepInBlocks(Pass):
    """Write w - rate v as a convolution that adds to w: its kernel reads w and v, and writes once.

    A parameter of ``least`` elements is looked at as an image of ``block`` channels; each is
    multiplied by -rate. The result is no assignment: it is for who runs the Program to put it
    where w lies (``aliases``). Names in ``keep`` are left alone, and so is what is read behind.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... param w : f32[64, 8]
    ... state lr : f32[]
    ... feed dw : f32[64, 8]
    ... -- update
    ... w <- SGD(w, dw, lr)
    ... ''')
    >>> program = StepInBlocks(block=8, least=0).run(p)
    >>> for op in program.global_block().ops:
    ...     print(op)
    <Operator neg_0 = Neg(lr)>
    <Operator expand_0 = Expand(neg_0, const_0)>
    <Operator reshape_0 = Reshape(dw, const_1)>
    <Operator reshape_1 = Reshape(w, const_1)>
    <Operator w@STEP = com.microsoft.nchwc::Conv(reshape_0, expand_0, _, reshape_1)>
    >>> aliases(program)
    {'w@STEP': 'w'}
    """

    block: int
    keep: tuple[str, ...] = ()
    least: int = LARGE

    def rewrite(self, program: Program) -> Program:
        """The Program with steps in blocks."""
        chosen = self._chosen(program)
        if not chosen:
            return program
        new = clone.copy(program)
        block = new.global_block()
        ops, block.ops = block.ops, []
        for k, op in enumerate(ops):
            if k not in chosen or not inline(block, op, COMPOSITES[op.type]):
                block.ops.append(op)
                continue
            step = _step(block, chosen[k])
            if step is not None:
                self._replace(block, *step)
        return new

    def _chosen(self, program: Program) -> dict[int, str]:
        """The positions of updates, and the names of the parameters that they alone assign."""
        found: dict[int, str] = {}
        last: dict[int, int] = {}
        for k, op in enumerate(program.global_block().ops):
            for v in (*op.reads(), *op.writes()):
                last[id(v)] = k
        for k, op in enumerate(program.global_block().ops):
            if op.type not in COMPOSITES or not self.block:
                continue
            for v in op.writes():
                if v.persistable and last[id(v)] == k and self._fits(v):
                    found.setdefault(k, v.name)
        return found

    def _fits(self, w: Variable) -> bool:
        if w.name in self.keep or not w.tensor_type.is_static or w.dtype != np.float32:
            return False
        pixels, rest = divmod(math.prod(w.shape), self.block)
        return pixels * self.block >= self.least and not rest and _image(pixels)[1] >= NARROW

    def _replace(self, block: Block, op: Operator, rate: Variable, v: Variable) -> None:
        (w,) = op.writes()
        scaled = op.inputs[1]
        assert scaled is not None
        block.ops = [
            o for o in block.ops if o is not op and not any(v is scaled for v in o.writes())
        ]
        del block.vars[scaled.name]
        g = Tape(block, role=op.role, made_by=MADE_BY)
        shape = [1, self.block, *_image(math.prod(w.shape) // self.block)]
        with at(op.where):
            factors = g.Expand(g.Neg(rate), [self.block, 1, 1, 1])
            views = [g.Reshape(x, shape) for x in (v, w)]
            operands = views[0], factors, None, views[1]
            g.emit(f"{DOMAIN}::Conv", *operands, names=[w.name + STEP], group=self.block)


def aliases(program: Program) -> Mapping[str, str]:
    """The results that are to be put in the place of states: their names, and the states'."""
    steps = [op for op in program.global_block().ops if op.made_by == MADE_BY]
    names = [v.name for op in steps for v in op.writes()]
    return {name: name.removesuffix(STEP) for name in names if name.endswith(STEP)}


def _image(size: int) -> tuple[int, int]:
    """Two factors of a size, as equal as can be."""
    width = next(k for k in range(math.isqrt(size), 0, -1) if not size % k)
    return size // width, width


def _step(block: Block, name: str) -> tuple[Operator, Variable, Variable] | None:
    """The op w' = w - rate v that ends the block, its rate and v."""
    makers = {id(v): op for op in block.ops for v in op.writes()}
    w = block.var(name)
    op = makers[id(w)]
    scaled = makers.get(id(op.inputs[1])) if op.type == "Sub" and op.inputs[0] is w else None
    if scaled is None or scaled.type != "Mul":
        return None
    if sum(v is op.inputs[1] for o in block.ops for v in o.operands()) > 1:
        return None
    for rate, v in (scaled.inputs, scaled.inputs[::-1]):
        if rate is not None and v is not None and rate.shape == () and v.shape == w.shape:
            return op, rate, v
    return None
