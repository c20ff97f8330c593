"""Ops that the runtime lacks, as ops that it has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from graphopt.ir.edit.function_body import expand, has_body
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.types.where import at
from graphopt.ops.registry.registry import DECOMPOSITIONS
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.replace import make_results


@dataclass(frozen=True)
class Decompose(Pass):
    """Replace ops of ``types`` by their decomposition: ours, else the standard's function body.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... feed x : f32[N, 4]
    ... y : f32[N, 4] = Celu(x, alpha=2.0)
    ... -> y
    ... ''')
    >>> print(Decompose(frozenset({"Celu"})).run(s).text(where=False))
    step : opset 21, 3 ops, 1 feed, 0 params
      feed x : f32[N, 4]
      -- forward
      div_0 : f32[N, 4] = Div(x, [2.0])
      elu_0 : f32[N, 4] = Elu(div_0)
      y : f32[N, 4] = Mul([2.0], elu_0)
      -> y
    """

    types: frozenset[str] = frozenset()

    def needed(self, step: Step) -> bool:
        """Whether there is such an op."""
        return any(op.type in self.types for block in step.blocks for op in block.ops)

    def change(self, step: Step) -> None:
        """Write such ops anew, at the lowest opset that has the others."""
        step.lower_opset(without=self.types)
        for block in list(step.blocks):
            _rewrite(block, self.types)


def _rewrite(block: Block, types: Collection[str]) -> None:
    with block.rewriting() as ops:
        for op in ops:
            if op.type in types and (op.type in DECOMPOSITIONS or has_body(op)):
                with at(op.where):
                    _replace(block, op)
            else:
                block.append(op)


def _replace(block: Block, op: Operator) -> None:
    """Record what stands for ``op``; the last op of each result makes the op's own variable."""
    g = Tape(block, role=op.role, made_by=op.made_by, scratch=True)
    decomposition = DECOMPOSITIONS.get(op.type)
    made = expand(g, op) if decomposition is None else decomposition.results(g, op)
    make_results(g, made, op.outputs)
    g.splice(list(op.writes()))
