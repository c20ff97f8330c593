"""Gradient checkpointing: the backward pass redoes forward segments instead of keeping values.

Chen et al.: Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import ArgumentError
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.where import at


class Recompute:
    """The forward ops cut into segments at the checkpoints; each is replayed when it is needed.

    The ops behind the last checkpoint are not replayed: their values are used at once. A value that
    a later segment takes from an earlier one past the checkpoint between them is kept.
    """

    def __init__(self, ops: Sequence[Operator], checkpoints: Sequence[Variable]) -> None:
        position = {id(v): k for k, op in enumerate(ops) for v in op.writes()}
        for v in checkpoints:
            if id(v) not in position:
                raise ArgumentError(
                    f"the checkpoint {v.name} is not made by an op of the Program",
                    operands=[(v.name, v.tensor_type)],
                    where=v.where,
                    fix="checkpoint results of layers; feeds and parameters are always kept",
                )
        self.kept = {id(v) for v in checkpoints}
        cuts = sorted({position[id(v)] for v in checkpoints})
        bounds = list(zip([0, *(c + 1 for c in cuts)], [c + 1 for c in cuts], strict=False))
        self.segments = [ops[start:end] for start, end in bounds]
        self.segment_of = {id(op): k for k, ops in enumerate(self.segments) for op in ops}
        self.replays: dict[int, dict[int, Operator]] = {}

    def of(self, g: Tape, op: Operator, grads: Sequence[Variable | None]) -> Operator:
        """``op`` over replayed values. ``grads``: the gradients that have reached its results."""
        number = self.segment_of.get(id(op))
        if number is None:
            return op
        if number not in self.replays:
            arrived = next(v for v in grads if v is not None)
            self.replays[number] = self._replay(g, self.segments[number], arrived)
        return self.replays[number][id(op)]

    def _replay(self, g: Tape, ops: Sequence[Operator], arrived: Variable) -> dict[int, Operator]:
        """Record the segment again; what stands for each of its ops, by the op's id."""
        assert g.scratch is not None
        made = {id(v) for op in ops for v in op.writes()}
        known: dict[int, Variable] = {}
        stands: dict[int, Operator] = {}
        for op in ops:
            for v in op.reads():
                if id(v) not in made and id(v) not in known and not _is_free(v):
                    with at(op.where):
                        known[id(v)] = after(g, v, arrived)
            inputs = [None if v is None else known.get(id(v), v) for v in op.inputs]
            if any(id(v) in self.kept for v in op.writes()):
                stands[id(op)] = op.over(inputs)  # its result is kept: nothing to redo
                continue
            replay = op.over(inputs, [None if v is None else _twin(g, v) for v in op.outputs])
            replay.role, replay.made_by, replay.origin = g.role, "recompute", None
            g.scratch.append(replay)
            for old, new in zip(op.outputs, replay.outputs, strict=True):
                if old is not None and new is not None:
                    known[id(old)] = new
            stands[id(op)] = replay
        return stands


def after(g: Tape, x: Variable, arrived: Variable) -> Variable:
    """x, but not before ``arrived`` is there: an integer 0 made of it goes into a Reshape of x.

    Without this the runtime would merge the replayed ops with the first ones, or run them early.
    """
    first = g.Slice(g.Reshape(arrived, [-1]), [0], [1])  # [1], or [0] of an empty tensor
    zero = g.Mul(g.ReduceSum(g.Cast(g.IsNaN(first), to=7), [0], keepdims=1), [0])  # i64[1]
    return typed(g.Reshape(x, g.Add(g.shape_of(x), zero), allowzero=1), x)


def _is_free(v: Variable) -> bool:
    """Whether v needs no barrier: what only depends on such values is not worth redoing."""
    return isinstance(v, Constant) or v.persistable


def _twin(g: Tape, v: Variable) -> Variable:
    twin = Variable("", v.tensor_type, block=g.block, where=v.where)
    twin.stop_gradient = v.stop_gradient
    return twin
