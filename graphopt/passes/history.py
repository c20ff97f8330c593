"""ASGD's table as rows that the runtime moves: a step then costs the same for any number of them.

In a Program the table ``y`` [n, *w] is one value: a step reads row m mod n and writes a whole new
table, n rows. Here the step reads one row and gives the row that takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from graphopt.ir import clone
from graphopt.ir.block import Block
from graphopt.ir.operator import Operator
from graphopt.ir.program import Program
from graphopt.ir.tape import Tape
from graphopt.ir.types import TensorType
from graphopt.ir.variable import Constant, Variable
from graphopt.ir.where import UNKNOWN, at
from graphopt.passes.base import Pass

ROW = "@ROW"


@dataclass(frozen=True)
class Table:
    """A state of n rows, of which a step reads row ``count`` mod n and then replaces it.

    ``row`` and ``new_row`` are the names of a step's variables, the second that of the gradient;
    ``count`` is that of the state that counts steps.
    """

    variable: Variable
    row: str
    new_row: str
    count: str


@dataclass(frozen=True)
class History(Pass):
    """Replace ASGD by its step over one row of the table. Tables named in ``keep`` stay.

    >>> from graphopt.ir.parse import parse
    >>> p = parse('''
    ... param w : f32[2]
    ... state d : f32[2]
    ... state y : f32[9, 2]
    ... state m : i64[1]
    ... state lr : f32[]
    ... feed dw : f32[2]
    ... -- update
    ... w, d, y, m <- ASGD(w, dw, d, y, m, lr)
    ... ''')
    >>> print(History().run(p).text(where=False))
    program : opset 21, 2 ops, 2 feeds, 1 param
      param w : f32[2]
      state d : f32[2]
      state y : f32[9, 2]
      state m : i64[1]
      state lr : f32[]
      feed dw : f32[2]
      feed y@ROW : f32[2]
      -- update
      identity_0 : f32[2] = Identity(dw)
      w, d, m <- ASGDRow(w, identity_0, d, y@ROW, m, lr, n=9)
    """

    keep: tuple[str, ...] = ()

    def rewrite(self, program: Program) -> Program:
        """The Program with one row in place of each table."""
        before = program.global_block().ops
        uses = Counter(id(v) for op in before for v in _touched(op))
        chosen = [
            _is_table_step(op)
            and uses[id(op.inputs[3])] == 1
            and op.operand("y").name not in self.keep
            for op in before
        ]
        if not any(chosen):
            return program
        new = clone.copy(program)
        block = new.global_block()
        ops, block.ops = block.ops, []
        # A row is written where the gradient is made, unless that is asked for elsewhere too.
        free = {v.name for op in before for v in op.writes() if not v.persistable} - {*self.keep}
        for op, is_chosen in zip(ops, chosen, strict=True):
            if is_chosen:
                dw = op.operand("dw").name
                _over_row(block, op, copied=dw not in free)
                free.discard(dw)
            else:
                block.ops.append(op)
        return new


def _touched(op: Operator) -> set[Variable]:
    return {*op.reads(), *op.writes()}


def _is_table_step(op: Operator) -> bool:
    """Whether the op assigns all that it updates, and its table has rows of a known shape."""
    if op.type != "ASGD":
        return False
    w, dw, d, y, m, _ = op.inputs
    assigned = all(a is b for a, b in zip((w, d, y, m), op.outputs, strict=True))
    return assigned and y is not None and y.persistable and y.tensor_type.is_static


def _over_row(block: Block, op: Operator, copied: bool) -> None:
    w, dw, d, y, m, lr = (v for v in op.inputs if v is not None)
    g = Tape(block, role=op.role, made_by="history")
    n, *shape = y.shape
    row = Variable(
        block.program.unused_name(y.name + ROW),
        TensorType(y.dtype, tuple(shape)),
        block=block,
        where=UNKNOWN,
        is_data=True,
    )
    block.add_var(row)
    with at(op.where):
        if copied:
            dw = g.Identity(dw)
        g.emit("ASGDRow", w, dw, d, row, m, lr, into=[w, d, m], n=n)


def tables(program: Program) -> list[Table]:
    """The tables of a Program that ``History`` has rewritten."""
    found = []
    for op in program.global_block().ops:
        if op.type == "ASGDRow":
            row, count = op.operand("row").name, op.operand("m").name
            variable = program.global_block().var(row.rpartition(ROW)[0])
            found.append(Table(variable, row, op.operand("dw").name, count))
    return found


def zero_tables(program: Program, tables: Collection[str]) -> dict[str, TensorType]:
    """The tables that a Program fills with zeros and does nothing else with, by name."""
    ops = program.global_block().ops
    uses = Counter(id(v) for op in ops for v in _touched(op))
    found = {}
    for op in ops:
        (v,) = [*op.writes()][:1] or (None,)
        if op.type == "ConstantOfShape" and v is not None and v.name in tables:
            value = np.asarray(op.attrs.get("value", 0.0))
            if not value.any() and uses[id(v)] == 1 and isinstance(op.inputs[0], Constant):
                found[v.name] = v.tensor_type
    return found
