"""Drop what nobody needs: ops, optional results, and what bodies give or carry in vain."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.passes.engine.change import Change
from graphopt.passes.engine.dead_bodies import TRIM
from graphopt.passes.engine.walk import renumber


@dataclass(frozen=True)
class DeadCode(Change):
    """Keep what makes the variables named in ``keep`` and what assigns state.

    Results of If, Loop and Scan that nobody reads go too, with what only they needed inside.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... feed x : f32[4]
    ... a : f32[4] = Loop(3, true, x, x)
    ... b : f32[4]
    ...   body(i : i64[], going : bool[], p : f32[4], q : f32[4]):
    ...     p2 : f32[4] = Exp(p)
    ...     q2 : f32[4] = Tanh(q)
    ...     -> going, p2, q2
    ... c : f32[4] = Neg(x)
    ... ''')
    >>> print(DeadCode(keep=("b",)).run(p).text(where=False))
    program : opset 21, 2 ops, 1 feed, 0 params
      feed x : f32[4]
      -- forward
      b : f32[4] = Loop(3, true, x)
        body(i : i64[], going : bool[], q : f32[4]):
          q2 : f32[4] = Tanh(q)
          -> going, q2
    """

    keep: tuple[str, ...] = ()

    def change(self, program: Program) -> None:
        """Drop what nobody needs."""
        drop_dead(program, self.keep)


def drop_dead(program: Program, keep: Collection[str]) -> None:
    """Drop the ops, and the parts of their bodies, that nobody needs, in place."""
    block = program.global_block()
    live = {id(block.vars[name]) for name in keep if name in block.vars}
    _sweep(block, live)
    if len(program.blocks) > 1:
        renumber(program)


def _sweep(block: Block, live: set[int]) -> None:
    """Drop ops from the last to the first; ``live`` gets what the block reads."""
    live.update(id(v) for v in block.outputs)
    kept: list[Operator] = []
    gone: list[Variable] = []
    for op in reversed(block.ops):
        if not any(id(v) in live or v.persistable for v in op.writes()):
            gone += op.writes()
            continue
        gone += _trim(op, live)
        for inner in op.blocks() if op.definition.has_blocks else ():
            _sweep(inner, live)
        live.update(id(v) for v in op.operands())
        kept.append(op)
    block.ops = kept[::-1]
    for v in gone:
        if block.vars.get(v.name) is v:
            del block.vars[v.name]


def _trim(op: Operator, live: set[int]) -> list[Variable]:
    """Leave out results that nobody reads, if the op can do without; returns them."""
    if all(id(v) in live or v.persistable for v in op.writes()) and op.type not in TRIM:
        return []
    before = list(op.writes())
    if op.type in TRIM:
        TRIM[op.type](op, live)
    elif op.type != "BatchNormalization":  # onnxruntime trains with all three results or none
        formals = op.definition.outputs
        op.outputs = [
            None if v is not None and k and formals[min(k, len(formals) - 1)].optional
            and id(v) not in live and not v.persistable else v
            for k, v in enumerate(op.outputs)
        ]  # fmt: skip
        while op.outputs[-1] is None:
            op.outputs.pop()
    after = {id(v) for v in op.writes()}
    return [v for v in before if id(v) not in after]
