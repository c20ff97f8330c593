"""What is known before the first run becomes constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import fits
from graphopt.ir.types.where import at
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.dead import drop_dead
from graphopt.passes.engine.evaluate import PURE, evaluated
from graphopt.passes.engine.walk import Forward
from graphopt.passes.select.specialise import Types

KIB = 1024


@dataclass(frozen=True)
class Fold(Pass):
    """Ops over constants, and shapes that are known, become constants of at most ``max_bytes``.

    A result may be larger if it is no larger than its operands. What follows for open dims is
    inferred. An If whose condition is constant is replaced by the branch that it takes.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... feed x : f32[2, 4]
    ... n : i64[] = Size(x)
    ... m : i64[1] = Unsqueeze(n, [0])
    ... y : f32[M] = Reshape(x, m)
    ... -> y
    ... ''')
    >>> print(Fold().run(s).text(where=False))
    step : opset 21, 1 op, 1 feed, 0 params
      feed x : f32[2, 4]
      -- forward
      y : f32[8] = Reshape(x, [8])
      -> y
    """

    max_bytes: int = 64 * KIB

    def needed(self, step: Step) -> bool:
        """Whether an op can be folded: others follow only from such a one."""
        return any(_may_fold(op) for block in step.blocks for op in block.ops)

    def change(self, step: Step) -> None:
        """Fold, and drop what nobody reads then."""
        _Folder(step, self.max_bytes).run()
        drop_dead(step)


def _may_fold(op: Operator) -> bool:
    if op.type == "If":
        return isinstance(op.inputs[0], Constant)
    constant = op.type in PURE and all(isinstance(v, Constant) for v in op.operands())
    return constant or _known(op)


def _known(op: Operator) -> bool:
    """Whether the op asks for a shape that is known."""
    asked = op.inputs[0] if op.type in ("Shape", "Size") else None
    return asked is not None and asked.tensor_type.is_static


class _Folder(Forward):
    def __init__(self, step: Step, max_bytes: int) -> None:
        super().__init__(step)
        self.max_bytes = max_bytes
        self.types = Types(frozenset(step.states))
        self.news: set[int] = set()  # variables of which more is known than there was

    def visit(self, op: Operator) -> list[Operator]:
        self._refine(op)
        if not _may_fold(op):
            return [op]
        if op.type == "If":
            return self._taken(op)
        values = self._values(op)
        for v, value in zip(op.outputs, values or (), strict=True) if values else ():
            if v is not None:
                constant = self.program.constant(value)
                self.news.add(id(constant))
                self.stand(constant, v)
        return [op]

    def _refine(self, op: Operator) -> None:
        """Close open dims of the results, if more is known than there was."""
        if all(v.tensor_type.is_static for v in op.writes()):
            return
        found = self.types.substitute(op.writes())
        if any(id(v) in self.news for v in op.operands()) or op.definition.has_blocks:
            found |= self.types.refine(op)
        if found:
            self.news.update(id(v) for v in op.writes())

    def enter(self, block: Block) -> None:
        if self.types.known:
            self.types.substitute(block.inputs)

    def _values(self, op: Operator) -> list[np.ndarray] | None:
        """The results, if they are small enough and of the types that they ought to have."""
        if _known(op):
            return [_shape_or_size(op)]
        limit = max(self.max_bytes, sum(v.value.nbytes for v in _constants(op)))
        if any(_bytes(v) > limit for v in op.writes()):
            return None
        values = evaluated(op, [None if v is None else v.value for v in _operands(op)])
        for v, value in zip(op.outputs, values or (), strict=False):
            if v is not None and not _agrees(v, value, limit):
                return None
        return values

    def _taken(self, op: Operator) -> list[Operator]:
        """The ops of the branch that is taken, in place of the If."""
        condition = op.operand("cond")
        assert isinstance(condition, Constant)
        block = op.attrs["then_branch" if condition.value.item() else "else_branch"]
        taken, results = list(block.ops), block.outputs
        block.reorder([])
        for inner in taken:
            for v in inner.writes():
                v.block = self.block
            self.block.append(inner)
        for own, found in zip(op.outputs, results, strict=False):
            if own is not None:
                self.stand(found, own)
                if self.kept(own):
                    self._copy(op, found, own)
        return []

    def _copy(self, op: Operator, found: Variable, own: Variable) -> None:
        """An Identity that makes what the If made."""
        g = Tape(self.block, role=op.role, made_by=op.made_by)
        known = own.tensor_type
        with at(op.where):
            g.emit("Identity", found, into=[own])
        own.tensor_type = known
        self.block.ops[-1].scope = op.scope


def _operands(op: Operator) -> list[Constant | None]:
    return [v if isinstance(v, Constant) else None for v in op.inputs]


def _constants(op: Operator) -> list[Constant]:
    return [v for v in op.operands() if isinstance(v, Constant)]


def _shape_or_size(op: Operator) -> np.ndarray:
    shape = next(op.operands()).shape
    if op.type == "Size":
        return np.array(math.prod(shape), np.int64)
    return np.array(shape[op.attrs.get("start", 0) : op.attrs.get("end")], np.int64)


def _bytes(v: Variable) -> int:
    """The size of a result as far as it is known; 0 if it is not."""
    return math.prod(v.shape) * v.dtype.itemsize if v.tensor_type.is_static else 0


def _agrees(v: Variable, value: np.ndarray, limit: int) -> bool:
    known = v.tensor_type
    return value.dtype == v.dtype and fits(value.shape, known.shape) and value.nbytes <= limit
