"""Drop what nobody needs: ops, optional results, and what bodies give or carry in vain."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Variable
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.dead_bodies import TRIM


@dataclass(frozen=True)
class DeadCode(Pass):
    """Keep what makes the variables that the Step gives.

    Results of If, Loop and Scan that nobody reads go too, with what only they needed inside.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... feed x : f32[4]
    ... a : f32[4] = Loop(3, true, x, x)
    ... b : f32[4]
    ...   body(i : i64[], going : bool[], p : f32[4], q : f32[4]):
    ...     p2 : f32[4] = Exp(p)
    ...     q2 : f32[4] = Tanh(q)
    ...     -> going, p2, q2
    ... c : f32[4] = Neg(x)
    ... -> b
    ... ''')
    >>> print(DeadCode().run(s).text(where=False))
    step : opset 21, 2 ops, 1 feed, 0 params
      feed x : f32[4]
      -- forward
      b : f32[4] = Loop(3, true, x)
        body(i : i64[], going : bool[], q : f32[4]):
          q2 : f32[4] = Tanh(q)
          -> going, q2
      -> b
    """

    def change(self, step: Step) -> None:
        """Drop what nobody needs."""
        drop_dead(step)


def drop_dead(step: Step) -> None:
    """Drop, in place, what nobody needs."""
    _drop(step.global_block())


def _drop(block: Block) -> None:
    """Drop ops from the last to the first: whoever read their results is gone by then."""
    gone: list[Operator] = []
    for op in reversed(block.ops):
        if not any(v.uses for v in op.writes()):
            op.lift()
            gone.append(op)
            continue
        for v in _trim(op):
            block.remove_var(v)
        for inner in op.blocks() if op.definition.has_blocks else ():
            _drop(inner)
    block.drop(gone)


def _trim(op: Operator) -> list[Variable]:
    """Leave out results that nobody reads, if the op can do without; returns them."""
    if op.type not in TRIM and all(v.uses for v in op.writes()):
        return []
    before = list(op.writes())
    if op.type in TRIM:
        TRIM[op.type](op)
    elif op.type != "BatchNormalization":  # onnxruntime trains with all three results or none
        formals = op.definition.outputs
        outputs = [
            None if v is not None and k and formals[min(k, len(formals) - 1)].optional
            and not v.uses else v
            for k, v in enumerate(op.outputs)
        ]  # fmt: skip
        while outputs[-1] is None:
            outputs.pop()
        op.outputs = outputs
    after = set(op.writes())
    return [v for v in before if v not in after]
