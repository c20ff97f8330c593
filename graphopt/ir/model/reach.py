"""Which ops are needed for which results: the one walk backwards that all who ask share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.variable import Variable


def needed_ops(
    ops: Sequence[Operator],
    wanted: Iterable[Variable],
    *,
    roots: Collection[Operator] = (),
    stop: Collection[Variable] = (),
) -> tuple[list[Operator], set[Variable]]:
    """The ops, in order, that make what is ``wanted``; and what they read that none of them makes.

    ``roots`` are needed in any case. Variables of ``stop`` are given: what makes them is not
    needed. Of state that is assigned in between, an op needs the value that it reads.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... feed x : f32[2]
    ... a : f32[2] = Exp(x)
    ... b : f32[2] = Neg(a)
    ... c : f32[2] = Sin(a)
    ... ''')
    >>> block = p.global_block()
    >>> [op.type for op in needed_ops(block.ops, [block.var("b")])[0]]
    ['Exp', 'Neg']
    >>> [op.type for op in needed_ops(block.ops, [block.var("b")], stop=[block.var("a")])[0]]
    ['Neg']
    """
    needed, given, kept = set(wanted), set(stop), list[Operator]()
    chosen = set(roots)
    for op in reversed(ops):
        made = set(op.writes())
        if op not in chosen and needed.isdisjoint(made - given):
            continue
        kept.append(op)
        needed -= made
        needed.update(op.reads())
    return kept[::-1], needed
