"""Updates as the ops they are made of, where each of these is to be looked at by itself."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.types.where import at
from graphopt.ops.registry.registry import COMPOSITES
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.replace import make_results


@dataclass(frozen=True)
class Inline(Pass):
    """Replace the updates of the global block by their bodies.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... param w : f32[2]
    ... state lr : f32[]
    ... feed dw : f32[2]
    ... -- update
    ... v : f32[2] = SGD(w, dw, lr)
    ... -> w <- v
    ... ''')
    >>> print(Inline().run(s).text(where=False))
    step : opset 21, 2 ops, 1 feed, 1 param
      param w : f32[2]
      state lr : f32[]
      feed dw : f32[2]
      -- update
      mul_0 : f32[2] = Mul(lr, dw)
      v : f32[2] = Sub(w, mul_0)
      -> w <- v
    """

    def needed(self, step: Step) -> bool:
        """Whether there is an update."""
        return any(op.type in COMPOSITES for op in step.global_block().ops)

    def change(self, step: Step) -> None:
        """Write the updates out."""
        with step.global_block().rewriting() as ops:
            for op in ops:
                if op.type in COMPOSITES:
                    inline(step.global_block(), op)
                else:
                    step.global_block().append(op)


def inline(block: Block, op: Operator) -> None:
    """Append the body of an update to its block; it makes the results of the update."""
    card = COMPOSITES[op.type]
    g = Tape(block, role=op.role, made_by=op.made_by, scratch=True)
    inputs = [*op.inputs, *[None] * (len(card.input_names) - len(op.inputs))]
    with at(op.where):
        results = card.body(g, *inputs, **op.attrs)
        found = [results[name] for name in card.updates if name in results]
        make_results(g, found, op.outputs)
    g.splice([*op.writes()])
