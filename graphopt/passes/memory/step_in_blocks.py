"""The step of a large parameter, w' = w - rate v, in one pass over memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.ops.kernels.blocked import DOMAIN
from graphopt.ops.registry.registry import COMPOSITES
from graphopt.passes.engine.base import Pass
from graphopt.passes.select.inline import inline

MANY_ELEMENTS = 2**16  # from which a pass over memory costs more than the ops that save it
MADE_BY = "step_in_blocks"
NARROW = 8  # columns of an image below which its kernel is slow


@dataclass(frozen=True)
class StepInBlocks(Pass):
    """Write w - rate v as a convolution that adds to w: its kernel reads w and v, and writes once.

    A parameter of ``least`` elements is looked at as an image of ``block`` channels; each is
    multiplied by -rate. The parameter's next value then has the shape of the image.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... param w : f32[64, 8]
    ... state lr : f32[]
    ... feed dw : f32[64, 8]
    ... -- update
    ... w1 : f32[64, 8] = SGD(w, dw, lr)
    ... -> w <- w1
    ... ''')
    >>> step = StepInBlocks(block=8, least=0).run(s)
    >>> for op in step.global_block().ops:
    ...     print(op)
    <Operator neg_0 = Neg(lr)>
    <Operator expand_0 = Expand(neg_0, const_0)>
    <Operator reshape_0 = Reshape(dw, const_1)>
    <Operator reshape_1 = Reshape(w, const_1)>
    <Operator w@STEP = com.microsoft.nchwc::Conv(reshape_0, expand_0, _, reshape_1)>
    >>> step.next_state
    {<Parameter w : f32[64, 8]>: <Variable w@STEP : f32[1, 8, 8, 8]>}
    """

    block: int
    least: int = MANY_ELEMENTS

    def needed(self, step: Step) -> bool:
        """Whether a parameter is large enough, and the place has such kernels."""
        return bool(self.block) and bool(self._chosen(step))

    def change(self, step: Step) -> None:
        """Write the steps in blocks."""
        block, chosen = step.global_block(), self._chosen(step)
        with block.rewriting() as ops:
            for op in ops:
                if op not in chosen:
                    block.append(op)
                    continue
                inline(block, op)
                found = _step(step.next_state[chosen[op]])
                if found is not None:
                    self._replace(step, chosen[op], *found)

    def _chosen(self, step: Step) -> dict[Operator, Variable]:
        """Updates, and of each the parameter whose next value only who keeps the state reads."""
        found: dict[Operator, Variable] = {}
        for w, new in step.next_state.items():
            op = new.maker
            alone = sum(new.uses.values()) == 1
            if op is not None and op.type in COMPOSITES and alone and self._fits(w):
                found.setdefault(op, w)
        return found

    def _fits(self, w: Variable) -> bool:
        if not w.tensor_type.is_static or w.dtype != np.float32:
            return False
        pixels, rest = divmod(math.prod(w.shape), self.block)
        return pixels * self.block >= self.least and not rest and _image(pixels)[1] >= NARROW

    def _replace(self, step: Step, w: Variable, op: Operator, rate: Variable, v: Variable) -> None:
        block, scaled = step.global_block(), op.inputs[1]
        assert scaled is not None, "w - rate v has the product"
        g = Tape(block, role=op.role, made_by=MADE_BY)
        shape = [1, self.block, *_image(math.prod(w.shape) // self.block)]
        with at(op.where):
            factors = g.Expand(g.Neg(rate), [self.block, 1, 1, 1])
            views = [g.Reshape(x, shape) for x in (v, w)]
            operands = views[0], factors, None, views[1]
            name = step.unused_name(f"{w.name}@STEP")
            new = g.emit(f"{DOMAIN}::Conv", *operands, names=[name], group=self.block)
        step.next_state = {**step.next_state, w: new}
        block.drop([o for o in (op, scaled.maker) if o is not None])


def _image(size: int) -> tuple[int, int]:
    """Two factors of a size, as equal as can be."""
    width = next(k for k in range(math.isqrt(size), 0, -1) if not size % k)
    return size // width, width


def _step(new: Variable) -> tuple[Operator, Variable, Variable] | None:
    """The op w' = w - rate v, its rate and v; None if w' is made otherwise."""
    op = new.maker
    difference = op is not None and op.type == "Sub"
    product = op.inputs[1] if op is not None and difference else None
    scaled = None if product is None else product.maker
    if op is None or product is None or scaled is None or scaled.type != "Mul":
        return None
    if sum(product.uses.values()) > 1 or op.inputs[0] is None:
        return None
    for rate, v in (scaled.inputs, scaled.inputs[::-1]):
        if rate is not None and v is not None and rate.shape == () and v.shape == new.shape:
            return op, rate, v
    return None
