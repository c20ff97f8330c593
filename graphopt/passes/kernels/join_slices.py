"""Slices that share out a tensor, as one Split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.patterns import first, ints, result_of


@dataclass(frozen=True)
class JoinSlices(Pass):
    """Write slices along one axis, that leave nothing out and take nothing twice, as a Split.

    One kernel instead of many. onnxruntime would find it, but run it late: see ``ops.fused``.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... feed x : f32[2, 6]
    ... a : f32[2, 4] = Slice(x, [0], [4], [1])
    ... b : f32[2, 2] = Slice(x, [4], [6], [1])
    ... y : f32[2, 4] = Exp(a)
    ... -> y, b
    ... ''')
    >>> print(JoinSlices().run(s).text(where=False))
    step : opset 21, 2 ops, 1 feed, 0 params
      feed x : f32[2, 6]
      -- forward
      a : f32[2, 4] = Split(x, [4, 2], axis=1)
      b : f32[2, 2]
      y : f32[2, 4] = Exp(a)
      -> y, b
    """

    def needed(self, step: Step) -> bool:
        """Whether there are two slices."""
        return sum(op.type == "Slice" for block in step.blocks for op in block.ops) > 1

    def change(self, step: Step) -> None:
        """Join them, where the first of them is."""
        for block in step.blocks:
            groups: dict[tuple[int, int], list[_Part]] = {}
            for op in block.ops:
                part = _part(op) if op.type == "Slice" else None
                if part is not None:
                    groups.setdefault((id(first(op)), part.axis), []).append(part)
            joined = {id(parts[0].op): parts for parts in groups.values() if _covers(parts)}
            if joined:
                _join(block, joined)


@dataclass(frozen=True)
class _Part:
    """A slice of a tensor, along one axis."""

    op: Operator
    axis: int
    start: int
    end: int


def _start(part: _Part) -> int:
    return part.start


def _part(op: Operator) -> _Part | None:
    x = first(op)
    starts, ends = ints(op.operand("starts")), ints(op.operand("ends"))
    axes, steps = ints(op.maybe("axes")), ints(op.maybe("steps"))
    if not (x.tensor_type.is_static and starts and ends):
        return None
    if len(starts) != 1 or (op.maybe("axes") is not None and not axes):
        return None
    if op.maybe("steps") is not None and steps != [1]:
        return None
    axis = axes[0] % x.ndim if axes else 0
    start, end, _ = slice(starts[0], ends[0]).indices(x.shape[axis])
    return _Part(op, axis, start, end)


def _covers(parts: Sequence[_Part]) -> bool:
    """Whether each element along the axis is in exactly one of several parts."""
    ordered = sorted(parts, key=_start)
    starts = [part.start for part in ordered]
    ends = [part.end for part in ordered]
    length = first(ordered[0].op).shape[ordered[0].axis]
    full = all(part.start < part.end for part in ordered)
    return len(ordered) > 1 and full and [*starts, length] == [0, *ends]


def _join(block: Block, groups: Mapping[int, Sequence[_Part]]) -> None:
    gone = {id(part.op) for parts in groups.values() for part in parts}
    with block.rewriting() as ops:
        for op in ops:
            if id(op) in groups:
                _split(block, op, sorted(groups[id(op)], key=_start))
            if id(op) not in gone:
                block.append(op)


def _split(block: Block, op: Operator, parts: Sequence[_Part]) -> None:
    g = Tape(block, role=op.role, made_by=op.made_by)
    results: list[Variable | None] = [result_of(part.op) for part in parts]
    with at(op.where):
        sizes = [part.end - part.start for part in parts]
        g.emit("Split", first(op), sizes, into=results, axis=parts[0].axis)
