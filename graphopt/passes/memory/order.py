"""The order in which a training step runs: what reads the same memory, close together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.ir.edit import clone
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.program import Program
from graphopt.passes.engine.base import Pass

# What happens to a gradient once it is made.
BEHIND = frozenset({Role.CLIP, Role.REGULARIZE, Role.UPDATE})


@dataclass(frozen=True)
class Schedule(Pass):
    """Put each update right behind the gradients it needs, and every other op right before its use.

    A gradient is then read by its update while it is in the cache, and the gradients of a layer's
    weight and bias, which read the same as that of its input, come while this is. Activations are
    dead earlier, too.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... param w : f32[2, 2]
    ... param b : f32[2]
    ... state lr : f32[]
    ... feed x : f32[3, 2]
    ... feed dy : f32[3, 2]
    ... -- forward
    ... t : f32[2, 3] = Transpose(x, perm=[1, 0])
    ... -- backward
    ... db : f32[2] = ReduceSum(dy, [0], keepdims=0)
    ... dw : f32[2, 2] = Gemm(t, dy)
    ... -- update
    ... w <- SGD(w, dw, lr)
    ... b <- SGD(b, db, lr)
    ... ''')
    >>> for op in Schedule().run(p).global_block().ops:
    ...     print(op)
    <Operator db = ReduceSum(dy, const_0)>
    <Operator b = SGD(b, db, lr)>
    <Operator t = Transpose(x)>
    <Operator dw = Gemm(t, dy)>
    <Operator w = SGD(w, dw, lr)>
    """

    def rewrite(self, program: Program) -> Program:
        """The Program in that order; itself, if nothing is updated."""
        if not any(op.role in BEHIND for op in program.global_block().ops):
            return program
        new = clone.copy(program)
        block = new.global_block()
        times = _times(block.ops)
        # Sorting is stable, and no op is wanted before what it needs: the order stays sound.
        block.ops = [block.ops[k] for k in sorted(range(len(times)), key=times.__getitem__)]
        return new


def _times(ops: Sequence[Operator]) -> list[int]:
    """When each op is first wanted: the position of the gradient, or result, that needs it."""
    needs = _needs(ops)
    is_behind = [op.role in BEHIND for op in ops]
    ready = list(range(len(ops)))  # of an update: the position of its last gradient
    for k, sources in enumerate(needs):
        if is_behind[k]:
            ready[k] = max((ready[s] for s in sources), default=-1)
    last = len(ops)  # of what nobody has asked for yet
    wanted = [last] * len(ops)
    for k in reversed(range(len(ops))):
        assigns = is_behind[k] and any(v.persistable for v in ops[k].writes())
        if assigns or wanted[k] == last:
            wanted[k] = min(wanted[k], ready[k])
        for s in needs[k]:
            is_gradient = is_behind[k] and not is_behind[s]
            wanted[s] = min(wanted[s], wanted[k], s if is_gradient else last)
    return wanted


def _needs(ops: Sequence[Operator]) -> list[set[int]]:
    """For each op, those that must run before it: for what it reads, and for what it assigns."""
    needs: list[set[int]] = []
    maker: dict[int, int] = {}
    readers: dict[int, list[int]] = {}
    for k, op in enumerate(ops):
        read = [id(v) for v in op.reads()]
        before = {maker[v] for v in read if v in maker}
        for v in read:
            readers.setdefault(v, []).append(k)
        for v in map(id, op.writes()):
            before.update(readers.pop(v, ()), [maker[v]] if v in maker else ())
            maker[v] = k
        needs.append(before - {k})
    return needs
