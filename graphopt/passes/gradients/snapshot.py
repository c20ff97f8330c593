"""Gradients read what the forward op read, also where an update has since assigned it."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable


class Snapshots:
    """Copies of persistable variables as they were before a later op assigned them."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.position = {id(op): k for k, op in enumerate(block.ops)}
        self.writers: dict[int, list[int]] = {}
        for k, op in enumerate(block.ops):
            for v in op.writes():
                if v.persistable:
                    self.writers.setdefault(id(v), []).append(k)
        self.ops = list(block.ops)
        self.copies: dict[tuple[int, int], Operator] = {}

    def before(self, op: Operator) -> Operator:
        """``op``, reading copies of the operands that are assigned at or after it."""
        start = self.position.get(id(op))
        if start is None or not any(id(v) in self.writers for v in op.reads()):
            return op
        inputs = [None if v is None else self._value_at(v, start) for v in op.inputs]
        return op.over(inputs)

    def _value_at(self, variable: Variable, start: int) -> Variable:
        later = [k for k in self.writers.get(id(variable), ()) if k >= start]
        if not later:
            return variable
        key = id(variable), later[0]
        if key not in self.copies:
            scratch = Tape(self.block, scratch=True, made_by="backward")
            scratch.Identity(variable)
            assert scratch.scratch is not None
            self.copies[key] = scratch.scratch[0]
        copy = self.copies[key].outputs[0]
        assert copy is not None
        return copy

    def insert(self, users: Sequence[Operator]) -> None:
        """Insert the copies that ``users`` read, each before the op that assigns its source."""
        read = {id(v) for op in users for v in op.reads()}
        used = [(k, op) for (_, k), op in self.copies.items() if id(op.outputs[0]) in read]
        for k, op in sorted(used, key=lambda item: item[0], reverse=True):
            self.block.insert(self.block.ops.index(self.ops[k]), op)
