"""A Program as a Step: every value has a variable of its own, and state a next value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from graphopt.ir.edit.clone import Copies
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Variable

NEXT = "@NEXT"


def functional(
    program: Program,
    ops: Sequence[Operator] | None = None,
    fetch: Sequence[Variable] = (),
    feed: Sequence[str] = (),
    *,
    assigns: bool = True,
) -> Step:
    """The Step that chosen ``ops`` of the global block make up, all of them unless stated.

    ``fetch`` are variables of the Program; of state the step gives the value behind the run.
    Results whose variables are fed are left out: what is fed is not made. Where the step does not
    assign (``assigns``), the state has no next values.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... feed x : f32[2]
    ... state w : f32[2]
    ... w <- Add(w, x)
    ... y : f32[2] = Exp(w)
    ... w <- Neg(w)
    ... ''')
    >>> print(functional(p, fetch=[p.global_block().var("y")]).text(where=False))
    step : opset 21, 3 ops, 1 feed, 0 params
      feed x : f32[2]
      state w : f32[2]
      -- forward
      w@1 : f32[2] = Add(w, x)
      y : f32[2] = Exp(w@1)
      w@NEXT : f32[2] = Neg(w@1)
      -> y, w <- w@NEXT
    """
    chosen = program.global_block().ops if ops is None else ops
    return _Conversion(program, chosen, fetch, feed).run(assigns)


class _Conversion:
    """One call of ``functional``."""

    def __init__(
        self,
        program: Program,
        ops: Sequence[Operator],
        fetch: Sequence[Variable],
        feed: Sequence[str],
    ) -> None:
        self.program, self.ops, self.fetch = program, ops, fetch
        self.step = Step()
        self.step.random_seed, self.step.family = program.random_seed, program.family
        self.step.take_counters(program)
        self.step.rates = {}  # the Program's that is run, which they would keep alive
        self.step.fed = tuple(feed)
        self.block = self.step.global_block()
        self.copies = Copies(self.step)
        self.left = Counter(v for op in ops for v in op.writes() if v.persistable)
        self.versions: Counter[Variable] = Counter()
        self.states: dict[Variable, Variable] = {}

    def run(self, assigns: bool) -> Step:
        self._declare()
        for op in self.ops:
            self._copy(op)
        now = self.copies.of
        self.step.fetch = [now(v) for v in self.fetch]
        if assigns:
            self.step.next_state = {v: now(old) for old, v in self.states.items()
                                    if self.versions[old]}  # fmt: skip
        return self.step

    def _declare(self) -> None:
        """Copy what no op makes: feeds, state, and whatever else is asked for or read."""
        made = {v for op in self.ops for v in op.writes() if not self._is_given(v)}
        used = {v for op in self.ops for v in (*op.reads(), *op.writes())}.union(self.fetch)
        for v in self.program.global_block().vars.values():
            if v not in made and (v in used or v.name in self.step.fed):
                copy = self.copies.new_variable(v, self.block)
                self.block.add_var(copy)
                if v.persistable:
                    self.states[v] = copy

    def _is_given(self, v: Variable) -> bool:
        """Whether the variable has a value before the step: fed, or kept between runs."""
        return v.persistable or v.name in self.step.fed

    def _copy(self, op: Operator) -> None:
        results = [None if v is None else self._result(v) for v in op.outputs]
        self.block.append(self.copies.op(op, self.block, results))
        for v, made in zip(op.outputs, results, strict=True):
            if v is not None and made is not None and v.persistable:
                self.copies.known[id(v)] = made

    def _result(self, v: Variable) -> Variable | None:
        if not v.persistable:
            fed = v.name in self.step.fed
            return None if fed else self.copies.new_variable(v, self.block)
        self.versions[v] += 1
        self.left[v] -= 1
        suffix = f"@{self.versions[v]}" if self.left[v] else NEXT
        name = self._free(v.name + suffix)
        made = Variable(name, v.tensor_type, block=self.block, where=v.where)
        made.stop_gradient = v.stop_gradient
        return made

    def _free(self, name: str) -> str:
        """The name, made longer while it is a user's, be it of a variable that is made later."""
        taken = self.step.has_var(name) or self.program.has_var(name)
        return self._free(f"{name}@") if taken else name
