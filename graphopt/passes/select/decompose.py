"""Ops that the runtime lacks, as ops that it has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from graphopt.ir.edit import clone
from graphopt.ir.edit.function_body import expand, has_body
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.ops.registry.registry import DECOMPOSITIONS
from graphopt.passes.engine.base import Pass


@dataclass(frozen=True)
class Decompose(Pass):
    """Replace ops of ``types`` by their decomposition: ours, else the standard's function body.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... feed x : f32[N, 4]
    ... y : f32[N, 4] = Celu(x, alpha=2.0)
    ... ''')
    >>> print(Decompose(frozenset({"Celu"})).run(p).text(where=False))
    program : opset 21, 3 ops, 1 feed, 0 params
      feed x : f32[N, 4]
      -- forward
      div_0 : f32[N, 4] = Div(x, [2.0])
      elu_0 : f32[N, 4] = Elu(div_0)
      y : f32[N, 4] = Mul([2.0], elu_0)
    """

    types: frozenset[str] = frozenset()

    def rewrite(self, program: Program) -> Program:
        """The Program without such ops, at the lowest opset that has the others."""
        if not any(op.type in self.types for block in program.blocks for op in block.ops):
            return program
        new = clone.copy(program)
        new.lower_opset(without=self.types)
        for block in list(new.blocks):
            _rewrite(block, self.types)
        return new


def _rewrite(block: Block, types: Collection[str]) -> None:
    ops, block.ops = block.ops, []
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
    for own, found in zip(op.outputs, made, strict=True):
        if own is not None and found is not None:
            _rename(g, found, own)
    g.splice(list(op.writes()))


def _rename(g: Tape, found: Variable, own: Variable) -> None:
    """Make ``own`` the result in place of ``found``, which nothing reads; else copy it."""
    assert g.scratch is not None
    maker = next((op for op in g.scratch if any(v is found for v in op.writes())), None)
    if maker is None or any(v is found for op in g.scratch for v in op.reads()):
        g.emit("Identity", found, into=[own])
        return
    maker.outputs = [own if v is found else v for v in maker.outputs]
