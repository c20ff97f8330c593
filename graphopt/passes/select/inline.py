"""Updates as the ops they are made of, where each of these is to be looked at by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.ir.edit import clone
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.ops.registry.registry import COMPOSITES, Composite
from graphopt.passes.engine.base import Pass


@dataclass(frozen=True)
class Inline(Pass):
    """Replace the updates of the global block by their bodies.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... param w : f32[2]
    ... state lr : f32[]
    ... feed dw : f32[2]
    ... -- update
    ... w <- SGD(w, dw, lr)
    ... ''')
    >>> print(Inline().run(p).text(where=False))
    program : opset 21, 2 ops, 1 feed, 1 param
      param w : f32[2]
      state lr : f32[]
      feed dw : f32[2]
      -- update
      mul_0 : f32[2] = Mul(lr, dw)
      w <- Sub(w, mul_0)
    """

    def rewrite(self, program: Program) -> Program:
        """The Program without updates, but for those of which a result is no op's of their own."""
        new = clone.copy(program)
        block = new.global_block()
        ops, block.ops = block.ops, []
        for op in ops:
            if op.type not in COMPOSITES or not inline(block, op, COMPOSITES[op.type]):
                block.ops.append(op)
        return new


def inline(block: Block, op: Operator, composite: Composite) -> bool:
    """Record the body of an update; whether its results can be assigned where they are made."""
    g = Tape(block, role=op.role, made_by=op.made_by, scratch=True)
    inputs = [*op.inputs, *[None] * (len(composite.input_names) - len(op.inputs))]
    with at(op.where):
        results = composite.body(g, *inputs, **op.attrs)
    assert g.scratch is not None
    found = [results[name] for name in composite.updates if name in results]
    pairs = [(v, own) for v, own in zip(found, op.outputs, strict=False) if own is not None]
    if len({id(v) for v, _ in pairs}) < len(pairs):
        return False
    if not all(_can_assign(g.scratch, v, own) for v, own in pairs):
        return False
    for v, own in pairs:
        _assign(g.scratch, v, own)
    g.splice([own for _, own in pairs])
    return True


def _can_assign(ops: Sequence[Operator], value: Variable, own: Variable) -> bool:
    """Whether an op makes the value, and none behind it needs what ``own`` was before."""
    made = [k for k, op in enumerate(ops) if any(v is value for v in op.writes())]
    return bool(made) and not any(v is own for op in ops[made[0] + 1 :] for v in op.reads())


def _assign(ops: Sequence[Operator], value: Variable, own: Variable) -> None:
    """Let ``own`` be what is made and read in place of the value."""
    for op in ops:
        op.inputs = [own if v is value else v for v in op.inputs]
        op.outputs = [own if v is value else v for v in op.outputs]
