"""ASGD's table as rows that the runtime moves: a step then costs the same for any number of them.

In a Program the table ``y`` [n, *w] is one value: a step reads row m mod n and writes a whole new
table, n rows. Here the step reads one row and gives the row that takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

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

ROW, NEW_ROW, SEEN = "@ROW", "@NEW_ROW", "@SEEN"


@dataclass(frozen=True)
class Table:
    """A state of n rows, of which a step reads row ``count`` mod n and then replaces it.

    All are names: ``name`` and ``count`` of states, ``row``, ``new_row`` and ``seen`` of a step's
    variables. ``seen`` is how many rows hold a gradient after the step: min(count + 1, n).
    """

    name: str
    count: str
    row: str
    new_row: str
    seen: str


def find_tables(program: Program, keep: Collection[str] = ()) -> list[Table]:
    """The tables that ``History`` can move: nothing but one ASGD reads and assigns them.

    Those of as many rows share one ``seen``. Names in ``keep`` are fetched or fed.
    """
    ops = program.global_block().ops
    uses = Counter(id(v) for op in ops for v in _touched(op))
    # A row is written where the gradient is made, unless that is asked for elsewhere too.
    free = {v.name for op in ops for v in op.writes() if not v.persistable} - {*keep}
    shared: dict[object, str] = {}
    found = []
    for op in ops:
        if not _is_table_step(op):
            continue
        y, m, dw = op.operand("y"), op.operand("m"), op.operand("dw")
        if uses[id(y)] > 1 or uses[id(m)] > 1 or {y.name, m.name} & {*keep}:
            continue
        key = y.shape[0], op.operand("lr").dtype
        seen = shared.setdefault(key, m.name + SEEN)
        new_row = dw.name if dw.name in free else y.name + NEW_ROW
        free.discard(dw.name)
        found.append(Table(y.name, m.name, y.name + ROW, new_row, seen))
    return found


def apart(tables: Collection[Table]) -> list[Table]:
    """The same tables, each with a ``seen`` of its own: for counts that differ."""
    return [replace(table, seen=table.count + SEEN) for table in tables]


@dataclass(frozen=True)
class History(Pass):
    """Replace ASGD over ``tables`` by its step over one row of each.

    >>> from graphopt.ir.parse import parse
    >>> p = parse('''
    ... param w : f32[2]
    ... state d : f32[2]
    ... state y : f32[9, 2]
    ... state m : i64[1]
    ... state lr : f32[]
    ... feed x : f32[2]
    ... -- backward
    ... dw : f32[2] = Neg(x)
    ... -- update
    ... w, d, y, m <- ASGD(w, dw, d, y, m, lr)
    ... ''')
    >>> print(History(tuple(find_tables(p))).run(p).text(where=False))
    program : opset 21, 3 ops, 3 feeds, 1 param
      param w : f32[2]
      state d : f32[2]
      state y : f32[9, 2]
      state m : i64[1]
      state lr : f32[]
      feed x : f32[2]
      feed m@SEEN : f32[]
      feed y@ROW : f32[2]
      -- backward
      dw : f32[2] = Neg(x)
      -- update
      div_0 : f32[] = Div(lr, m@SEEN)
      w, d <- ASGDRow(w, dw, d, y@ROW, div_0)
    """

    tables: tuple[Table, ...] = ()

    def rewrite(self, program: Program) -> Program:
        """The Program with one row in place of each table."""
        if not self.tables:
            return program
        new = clone.copy(program)
        block = new.global_block()
        chosen = {table.name: table for table in self.tables}
        rates: dict[tuple[int, str], Variable] = {}
        ops, block.ops = block.ops, []
        for op in ops:
            table = chosen.get(op.operand("y").name) if _is_table_step(op) else None
            if table is None:
                block.ops.append(op)
            else:
                _over_row(block, op, table, rates)
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


def _over_row(
    block: Block, op: Operator, table: Table, rates: dict[tuple[int, str], Variable]
) -> None:
    w, dw, d, y, m, lr = (v for v in op.inputs if v is not None)
    g = Tape(block, role=op.role, made_by="history")
    with at(op.where):
        if (id(lr), table.seen) not in rates:
            seen = _fed(block, table.seen, TensorType(lr.dtype, ()))
            rates[id(lr), table.seen] = g.Div(lr, seen)
        row = _fed(block, table.row, TensorType(y.dtype, y.shape[1:]))
        if table.new_row != dw.name:
            dw = g.emit("Identity", dw, names=[table.new_row])
        g.emit("ASGDRow", w, dw, d, row, rates[id(lr), table.seen], into=[w, d])


def _fed(block: Block, name: str, tensor_type: TensorType) -> Variable:
    """A variable that the runtime feeds."""
    if not block.has_var(name):
        block.add_var(Variable(name, tensor_type, block=block, where=UNKNOWN, is_data=True))
    return block.var(name)


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
