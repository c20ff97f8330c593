"""Many steps as one Scan: the state goes round, the feeds of all steps are cut along a new dim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from graphopt.ir import clone
from graphopt.ir.block import Block
from graphopt.ir.operator import Operator, Role
from graphopt.ir.program import Program
from graphopt.ir.tape import Tape
from graphopt.ir.types import Dim, TensorType
from graphopt.ir.variable import Constant, Variable
from graphopt.ir.where import UNKNOWN
from graphopt.passes.base import Pass
from graphopt.passes.prune import drop_unused, free_variables

STEPS, LAST, NUMBER = "@STEPS", "@LAST", "step"


@dataclass(frozen=True)
class Repeat(Pass):
    """Run the Program once for each slice of what it is fed, in one Scan.

    ``fetch`` are the variables whose values after each step are wanted, ``varying`` the states that
    are fed step by step. What is fed or fetched gets a first dim, the steps, and a name of its own.

    >>> from graphopt.ir.parse import parse
    >>> p = parse('''
    ... state w : f32[2]
    ... feed x : f32[2]
    ... y : f32[2] = Mul(x, w)
    ... -- update
    ... w <- Sub(w, y)
    ... ''')
    >>> print(Repeat(fetch=("y",)).run(p).text(where=False))
    program : opset 21, 4 ops, 1 feed, 0 params
      state w : f32[2]
      feed x@STEPS : f32[N, 2]
      -- update
      w@LAST : f32[2] = Scan(w, x@STEPS, num_scan_inputs=1)
      y@STEPS : f32[N, 2]
        body(w_0 : f32[2], x_0 : f32[2]):
          -- forward
          y_0 : f32[2] = Mul(x_0, w_0)
          -- update
          w_1 : f32[2] = Sub(w_0, y_0)
          -> w_1, y_0
      w <- Identity(w@LAST)
    """

    fetch: tuple[str, ...] = ()
    varying: tuple[str, ...] = field(default=())

    def rewrite(self, program: Program) -> Program:
        """The Program as the body of a Scan."""
        old = program.global_block()
        assigned = _once(v for op in old.ops for v in op.writes() if v.persistable)
        scanned = [v for v in free_variables(program) if self._is_scanned(v)] or [_number(old)]
        wanted = [old.vars[name] for name in self.fetch]
        new = clone.copy(program, lambda op: False)
        new.names |= program.names
        block = new.global_block()
        body = _Body(new, block.vars, [v.name for v in assigned], scanned)
        body.record(old.ops)
        after = [body.current[v.name] for v in assigned]
        body.block.outputs = [*after, *(body.value(v) for v in wanted)]
        steps = new.fresh_symbol()
        inputs = [_declared(block, v, STEPS, steps, is_data=True) for v in scanned]
        results = [_declared(block, v, STEPS, steps) for v in wanted]
        carried = [block.vars[v.name] for v in assigned]
        last = [_declared(block, v, LAST) for v in assigned]
        g = Tape(block, role=Role.UPDATE, made_by="repeat")
        operands, count = [*carried, *inputs], len(inputs)
        g.emit("Scan", *operands, into=[*last, *results], body=body.block, num_scan_inputs=count)
        for value, state in zip(last, carried, strict=True):
            g.Identity(value, into=[state])
        return drop_unused(new)

    def _is_scanned(self, v: Variable) -> bool:
        return not v.persistable or v.name in self.varying


class _Body:
    """The block of one step, over values in place of the variables that a step assigns."""

    def __init__(
        self,
        program: Program,
        outer: dict[str, Variable],
        carried: Sequence[str],
        scanned: Sequence[Variable],
    ) -> None:
        self.program = program
        self.block = Block(program, program.global_block())
        self.copies = clone.Copies(program)
        self.outer = outer
        types = {name: outer[name].tensor_type for name in carried}
        types |= {v.name: v.tensor_type for v in scanned}
        self.current = {name: self.block.add_input(name, t) for name, t in types.items()}

    def value(self, v: Variable) -> Variable:
        """What stands for a variable of the step's Program now."""
        if isinstance(v, Constant):
            return self.copies.of(v)
        return self.current[v.name] if v.name in self.current else self.outer[v.name]

    def record(self, ops: Iterable[Operator]) -> None:
        """Copy the ops: a variable that is assigned becomes a new value each time."""
        for op in ops:
            for v in op.reads():
                if not isinstance(v, Constant):
                    self.copies.known[id(v)] = self.value(v)
            for v in op.writes():
                self.copies.known.pop(id(v), None)
            reading = [None if x is None else self.value(x) for x in op.inputs]
            copied = self.copies.op(op, self.block)
            copied.inputs = reading
            for old, made in zip(op.outputs, copied.outputs, strict=True):
                if old is not None and made is not None:
                    made.name, made.persistable = self.program.unused_name(old.name), False
                    self.current[old.name] = made
            self.block.append(copied)


def _number(block: Block) -> Variable:
    """What a Program that is fed nothing is fed: the steps' numbers."""
    return Variable(NUMBER, TensorType(np.dtype("i8"), ()), block=block, where=UNKNOWN)


def _declared(
    block: Block, v: Variable, suffix: str, *dims: Dim, is_data: bool = False
) -> Variable:
    """A variable of the type of ``v`` with ``dims`` before its own."""
    tensor_type = TensorType(v.dtype, (*dims, *(v.tensor_type.shape or ())))
    name = block.program.unused_name(v.name + suffix)
    variable = Variable(name, tensor_type, block=block, where=v.where, is_data=is_data)
    block.add_var(variable)
    return variable


def _once(variables: Iterable[Variable]) -> list[Variable]:
    return list({id(v): v for v in variables}.values())
