"""Keep what the fetches and the chosen state updates need."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from graphopt.ir.edit import clone
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Constant, Variable
from graphopt.passes.engine.base import Pass


@dataclass(frozen=True)
class Prune(Pass):
    """Keep the ops that ``fetch`` needs, cut at ``feed``, and those at the positions ``roots``.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... feed x : f32[N, 4]
    ... y : f32[N, 4] = Relu(x)
    ... z : f32[N, 4] = Exp(x)
    ... ''')
    >>> print(Prune(fetch=("y",)).run(p).text(where=False))
    program : opset 21, 1 op, 1 feed, 0 params
      feed x : f32[N, 4]
      -- forward
      y : f32[N, 4] = Relu(x)
    """

    fetch: tuple[str, ...] = ()
    feed: tuple[str, ...] = ()
    roots: tuple[int, ...] = ()

    def rewrite(self, program: Program) -> Program:
        """The kept ops as a new Program."""
        ops = program.global_block().ops
        roots = [ops[k] for k in self.roots]
        kept = {id(op) for op in needed_ops(program, self.fetch, self.feed, roots)}
        pruned = clone.copy(program, lambda op: id(op) in kept)
        pruned.rates = {}  # they are the Program's that is run, and would keep it alive
        return drop_unused(pruned, keep=self.fetch)


def assigns_state(op: Operator) -> bool:
    """Whether the op gives a persistable variable a new value."""
    return any(v.persistable for v in op.writes())


def needed_ops(
    program: Program,
    fetch: Collection[str],
    feed: Collection[str] = (),
    roots: Iterable[Operator] = (),
) -> list[Operator]:
    """The ops that the fetched values and ``roots`` need, in order, cut at fed variables.

    Fetching a persistable does not keep the ops that assign it: they are kept as ``roots``, or
    because a kept op below reads what they assign.
    """
    variables = program.global_block().vars
    chosen = {id(op) for op in roots}
    wanted = {name for name in fetch if name in variables and not variables[name].persistable}
    kept: list[Operator] = []
    for op in reversed(program.global_block().ops):
        names = {v.name for v in op.writes()} - set(feed)
        if id(op) not in chosen and not names & wanted:
            continue
        kept.append(op)
        # A value that this op assigns is needed above only if the op reads it itself.
        wanted -= {v.name for v in op.writes()}
        wanted |= {v.name for v in op.reads()}
    kept.reverse()
    return kept


def drop_unused(program: Program, keep: Collection[str] = ()) -> Program:
    """Remove, in place, the declared variables that no op touches and nobody asked for."""
    block = program.global_block()
    used = {v.name for op in block.ops for v in (*op.reads(), *op.writes())} | set(keep)
    block.vars = {name: v for name, v in block.vars.items() if name in used}
    return program


def free_variables(program: Program) -> list[Variable]:
    """The variables that are read before any op makes or assigns them, in order of first use."""
    made: set[int] = set()
    free: dict[int, Variable] = {}
    for op in program.global_block().ops:
        for v in op.reads():
            if id(v) not in made and not isinstance(v, Constant):
                free.setdefault(id(v), v)
        made.update(id(v) for v in op.writes())
    return list(free.values())
