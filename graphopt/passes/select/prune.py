"""Keep what the fetches and the chosen state updates need, as a Step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.reach import needed_ops
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.text.verify import verify
from graphopt.passes.select.functional import functional


@dataclass(frozen=True)
class Prune:
    """Keep the ops that ``fetch`` needs, cut at ``feed``, and those at the positions ``roots``.

    What is fetched is named, or a constant. State has next values where the run ``assigns``.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... feed x : f32[N, 4]
    ... y : f32[N, 4] = Relu(x)
    ... z : f32[N, 4] = Exp(x)
    ... ''')
    >>> print(Prune(fetch=("y",)).run(p).text(where=False))
    step : opset 21, 1 op, 1 feed, 0 params
      feed x : f32[N, 4]
      -- forward
      y : f32[N, 4] = Relu(x)
      -> y
    """

    fetch: tuple[str | Constant, ...] = ()
    feed: tuple[str, ...] = ()
    roots: tuple[int, ...] = ()
    assigns: bool = True

    def run(self, program: Program) -> Step:
        """The kept ops as a Step; the Program is left alone."""
        ops, variables = program.global_block().ops, program.global_block().vars
        fetch = [variables[v] if isinstance(v, str) else v for v in self.fetch]
        fed = [variables[name] for name in self.feed if name in variables]
        kept = asked_ops(program, fetch, fed, [ops[k] for k in self.roots])
        step = functional(program, kept, fetch, self.feed, assigns=self.assigns)
        verify(step)
        return step


def asked_ops(
    program: Program,
    fetch: Iterable[Variable],
    feed: Iterable[Variable] = (),
    roots: Iterable[Operator] = (),
) -> list[Operator]:
    """The ops that the fetched values and ``roots`` need, in order, cut at fed variables.

    Fetching a persistable does not keep the ops that assign it: they are kept as ``roots``, or
    because a kept op below reads what they assign.
    """
    wanted = [v for v in fetch if not v.persistable]
    chosen = list(roots)
    return needed_ops(program.global_block().ops, wanted, roots=chosen, stop=list(feed))[0]


def assigns_state(op: Operator) -> bool:
    """Whether the op gives a persistable variable a new value."""
    return any(v.persistable for v in op.writes())
