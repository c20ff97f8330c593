"""Updates of many small vectors as one: kernels of a few elements cost their calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.passes.engine.base import Pass

# Update rules that treat every element by itself, whatever the tensor it is in.
ELEMENTWISE = frozenset({"ASGDRow", "Adadelta", "Adagrad", "Momentum", "Rprop", "SGD"})


@dataclass(frozen=True)
class GroupUpdates(Pass):
    """Write equal updates of at least ``least`` vectors, of ``longest`` elements, as one.

    Biases and scales are vectors, so nothing has to be reshaped: their states are laid side by
    side, updated, and split into the buffers of the next state.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... param a : f32[2]
    ... param b : f32[3]
    ... state lr : f32[]
    ... feed da : f32[2]
    ... feed db : f32[3]
    ... -- update
    ... a1 : f32[2] = SGD(a, da, lr)
    ... b1 : f32[3] = SGD(b, db, lr)
    ... -> a <- a1, b <- b1
    ... ''')
    >>> print(GroupUpdates(least=2).run(s).text(where=False))
    step : opset 21, 4 ops, 2 feeds, 2 params
      param a : f32[2]
      param b : f32[3]
      state lr : f32[]
      feed da : f32[2]
      feed db : f32[3]
      -- update
      concat_0 : f32[5] = Concat(a, b, axis=0)
      concat_1 : f32[5] = Concat(da, db, axis=0)
      sgd_0 : f32[5] = SGD(concat_0, concat_1, lr)
      a1 : f32[2] = Split(sgd_0, [2, 3])
      b1 : f32[3]
      -> a <- a1, b <- b1
    """

    least: int = 4
    longest: int = 4096

    def change(self, step: Step) -> None:
        """Write each group where its last update was."""
        block = step.global_block()
        found = [g for g in self._groups(step) if len(g) >= self.least and _stand_alone(g)]
        groups = {group[-1]: group for group in found}
        gone = {op for group in found for op in group}
        with block.rewriting() as ops:
            for op in ops:
                if op in groups:
                    _together(block, groups[op])
                elif op not in gone:
                    block.append(op)

    def _groups(self, step: Step) -> list[list[Operator]]:
        groups: dict[Any, list[Operator]] = {}
        for op in step.global_block().ops:
            if op.type in ELEMENTWISE and self._is_small(op.operand("w")):
                groups.setdefault(_key(op), []).append(op)
        return list(groups.values())

    def _is_small(self, w: Variable) -> bool:
        shape = w.tensor_type.shape
        return shape is not None and len(shape) == 1 and isinstance(shape[0], int) and (
            0 < shape[0] <= self.longest
        )  # fmt: skip


def _own(op: Operator) -> list[bool]:
    """Which operands are vectors of the parameter's length; the others are shared by a group."""
    w = op.operand("w")
    return [v is not None and v.tensor_type == w.tensor_type for v in op.inputs]


def _key(op: Operator) -> object:
    own = _own(op)
    shared = tuple(id(v) for v, is_own in zip(op.inputs, own, strict=True) if not is_own)
    attrs = tuple(sorted(op.attrs.items()))
    return op.type, attrs, op.operand("w").dtype, tuple(own), shared, op.role


def _stand_alone(group: Sequence[Operator]) -> bool:
    """Whether nothing up to the last update reads what those before it make."""
    block = group[0].block
    assert block is not None
    made = {v for op in group for v in op.writes()}
    last = block.ops.index(group[-1])
    return not any(v in made for op in block.ops[: last + 1] for v in op.reads())


def _together(block: Block, group: Sequence[Operator]) -> None:
    first = group[0]
    g = Tape(block, role=first.role, made_by="group_updates")
    with at(first.where):
        operands = [
            g.Concat(*[op.inputs[k] for op in group], axis=0) if is_own else first.inputs[k]
            for k, is_own in enumerate(_own(first))
        ]
        count = len(first.outputs)
        made = g.emit(first.type, *operands, outputs=count, **first.attrs)
        sizes = [op.operand("w").shape[0] for op in group]
        for k, result in enumerate([made] if count == 1 else made):
            g.emit("Split", result, sizes, into=[op.outputs[k] for op in group], axis=0)
