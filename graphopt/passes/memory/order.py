"""The order in which a training step runs: what reads the same memory, close together."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Variable
from graphopt.passes.engine.base import Pass

# What happens to a gradient once it is made.
BEHIND = frozenset({Role.CLIP, Role.REGULARIZE, Role.UPDATE})


@dataclass(frozen=True)
class Schedule(Pass):
    """Put each update right behind the gradients it needs, and every other op right before its use.

    A gradient is then read by its update while it is in the cache, and the gradients of a layer's
    weight and bias, which read the same as that of its input, come while this is. Activations are
    dead earlier, too.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
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
    ... w1 : f32[2, 2] = SGD(w, dw, lr)
    ... b1 : f32[2] = SGD(b, db, lr)
    ... -> w <- w1, b <- b1
    ... ''')
    >>> for op in Schedule().run(s).global_block().ops:
    ...     print(op)
    <Operator db = ReduceSum(dy, const_0)>
    <Operator b1 = SGD(b, db, lr)>
    <Operator t = Transpose(x)>
    <Operator dw = Gemm(t, dy)>
    <Operator w1 = SGD(w, dw, lr)>
    """

    def needed(self, step: Step) -> bool:
        """Whether anything is updated."""
        return any(op.role in BEHIND for op in step.global_block().ops)

    def change(self, step: Step) -> None:
        """Put the ops in that order."""
        block = step.global_block()
        times = _times(block.ops, set(step.next_state.values()))
        # Sorting is stable, and no op is wanted before what it needs: the order stays sound.
        block.reorder([block.ops[k] for k in sorted(range(len(times)), key=times.__getitem__)])


def _times(ops: Sequence[Operator], next_state: Collection[Variable]) -> list[int]:
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
        assigns = is_behind[k] and any(v in next_state for v in ops[k].writes())
        if assigns or wanted[k] == last:
            wanted[k] = min(wanted[k], ready[k])
        for s in needs[k]:
            is_gradient = is_behind[k] and not is_behind[s]
            wanted[s] = min(wanted[s], wanted[k], s if is_gradient else last)
    return wanted


def _needs(ops: Sequence[Operator]) -> list[set[int]]:
    """For each op, the positions of those that make what it reads."""
    position = {op: k for k, op in enumerate(ops)}
    return [
        {position[v.maker] for v in op.reads() if v.maker is not None and v.maker in position}
        for op in ops
    ]
