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

ROW, NEW_ROW = "@ROW", "@NEW_ROW"


@dataclass(frozen=True)
class Table:
    """A state of n rows, of which a step reads row ``count`` mod n and then replaces it.

    ``row`` and ``new_row`` are the names of a step's variables, ``count`` is that of the state that
    counts steps.
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
      y@NEW_ROW : f32[2] = Identity(dw)
      w, d, m <- ASGDRow(w, dw, d, y@ROW, m, lr, n=9)
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
        for op, is_chosen in zip(ops, chosen, strict=True):
            if is_chosen:
                _over_row(block, op)
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


def _over_row(block: Block, op: Operator) -> None:
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
        # Before w is assigned: its own new value may be what the gradient reads.
        g.emit("Identity", dw, names=[block.program.unused_name(y.name + NEW_ROW)])
        g.emit("ASGDRow", w, dw, d, row, m, lr, into=[w, d, m], n=n)


def tables(program: Program) -> list[Table]:
    """The tables of a Program that ``History`` has rewritten."""
    ops = program.global_block().ops
    made = (v.name for op in ops for v in op.writes() if NEW_ROW in v.name)
    new_rows = {name.rpartition(NEW_ROW)[0]: name for name in made}
    found = []
    for op in ops:
        if op.type == "ASGDRow":
            row, count = op.operand("row").name, op.operand("m").name
            name = row.rpartition(ROW)[0]
            variable = program.global_block().var(name)
            found.append(Table(variable, row, new_rows[name], count))
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
