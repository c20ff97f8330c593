"""ASGD's table as rows that the runtime moves: a step then costs the same for any number of them.

In a Program the table ``y`` [n, *w] is one value: a step reads row m mod n and writes a whole new
table, n rows. Here the step reads one row and gives the row that takes its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphopt.ir.edit import clone
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import TensorType
from graphopt.ir.types.where import UNKNOWN, at
from graphopt.passes.engine.base import Pass

ROW, NEW_ROW, SEEN = "@ROW", "@NEW_ROW", "@SEEN"
PARTS, NEW = ("@LEFT", "@RIGHT"), "@NEW"
THIN = 32  # rows of a batch up to which two factors are quicker than the gradient
LARGE = 2**16  # elements of a gradient from which its factors are worth while


@dataclass(frozen=True)
class Table:
    """A state of n rows, of which a step reads row ``count`` mod n and then replaces it.

    All are names: ``name`` and ``count`` of states, ``row``, ``new_row`` and ``seen`` of a step's
    variables. ``seen`` is how many rows hold a gradient after the step: min(count + 1, n). A table
    whose rows are kept as two factors is two of these, with a ``part`` each.
    """

    name: str
    count: str
    row: str
    new_row: str
    seen: str
    part: str = ""


def find_tables(
    program: Program, keep: Collection[str] = (), factored: Collection[str] = ()
) -> list[Table]:
    """The tables that ``History`` can move: nothing but one ASGD reads and assigns them.

    Those of as many rows share one ``seen``. Names in ``keep`` are fetched or fed. Of the tables
    named in ``factored`` those whose gradient is a product of thin factors are kept as these.
    """
    ops = program.global_block().ops
    uses = Counter(id(v) for op in ops for v in _touched(op))
    # A row is written where the gradient is made, unless that is asked for elsewhere too.
    free = {v.name for op in ops for v in op.writes() if not v.persistable} - {*keep}
    makers = {id(v): op for op in ops for v in op.writes()}
    shared: dict[object, str] = {}
    found: list[Table] = []
    for op in ops:
        if not _is_table_step(op):
            continue
        y, m, dw = op.operand("y"), op.operand("m"), op.operand("dw")
        if uses[id(y)] > 1 or uses[id(m)] > 1 or {y.name, m.name} & {*keep}:
            continue
        key = y.shape[0], op.operand("lr").dtype
        seen = shared.setdefault(key, m.name + SEEN)
        if y.name in factored and dw.name in free and thin_product(makers.get(id(dw)), uses):
            left, right = (y.name + suffix for suffix in PARTS)
            found.append(Table(y.name, m.name, left, left + NEW, seen, PARTS[0]))
            found.append(Table(y.name, m.name, right, right + NEW, seen, PARTS[1]))
            continue
        new_row = dw.name if dw.name in free else y.name + NEW_ROW
        free.discard(dw.name)
        found.append(Table(y.name, m.name, y.name + ROW, new_row, seen))
    return found


def thin_product(op: Operator | None, uses: Mapping[int, int]) -> bool:
    """Whether a gradient that only its update reads is AᵀB with few rows: A [b, i], B [b, o]."""
    if op is None or op.type != "Gemm" or len(op.inputs) > 2 or uses[id(op.outputs[0])] != 2:
        return False
    a, b = op.operand("A"), op.operand("B")
    if not (op.attrs["transA"] and not op.attrs["transB"] and a.tensor_type.is_static):
        return False
    rows, width = a.shape
    return 4 * rows <= min(width, b.shape[1]) and rows <= THIN and width * b.shape[1] >= LARGE


def apart(tables: Collection[Table]) -> list[Table]:
    """The tables, each with a ``seen`` of its own: for counts that differ."""
    return [replace(table, seen=table.count + SEEN) for table in tables]


@dataclass(frozen=True)
class History(Pass):
    """Replace ASGD over ``tables`` by its step over one row of each.

    >>> from graphopt.ir.text.parse import parse
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
        chosen: dict[str, list[Table]] = {}
        for table in self.tables:
            chosen.setdefault(table.name, []).append(table)
        rates: dict[tuple[int, str], Variable] = {}
        ops, block.ops = block.ops, []
        for op in ops:
            found = chosen.get(op.operand("y").name, []) if _is_table_step(op) else []
            if len(found) == 1:
                _over_row(block, op, found[0], rates)
            elif found:
                _over_factors(block, op, found[0], found[1], rates)
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


def _over_row(
    block: Block, op: Operator, table: Table, rates: dict[tuple[int, str], Variable]
) -> None:
    w, dw, d, y, m, lr = (v for v in op.inputs if v is not None)
    g = Tape(block, role=op.role, made_by="history")
    with at(op.where):
        rate = _rate(g, lr, table.seen, rates)
        row = _fed(block, table.row, TensorType(y.dtype, y.shape[1:]))
        if table.new_row != dw.name:
            dw = g.emit("Identity", dw, names=[table.new_row])
        g.emit("ASGDRow", w, dw, d, row, rate, into=[w, d])


def _over_factors(
    block: Block,
    op: Operator,
    left: Table,
    right: Table,
    rates: dict[tuple[int, str], Variable],
) -> None:
    """ASGD by a row of the gradient's factors; the old right one is kept with its sign changed."""
    w, dw, d, _, _, lr = (v for v in op.inputs if v is not None)
    maker = next(o for o in reversed(block.ops) if any(v is dw for v in o.writes()))
    block.ops.remove(maker)
    del block.vars[dw.name]
    a, b = maker.operand("A"), maker.operand("B")
    g = Tape(block, role=op.role, made_by="history")
    with at(op.where):
        rate = _rate(g, lr, left.seen, rates)
        old_a = _fed(block, left.row, a.tensor_type)
        old_b = _fed(block, right.row, b.tensor_type)
        alpha = maker.attrs["alpha"]
        scaled = b if alpha == 1.0 else g.Mul(b, alpha)
        g.emit("Identity", a, names=[left.new_row])
        g.emit("Neg", scaled, names=[right.new_row])
        lefts, rights = g.Concat(a, old_a, axis=0), g.Concat(scaled, old_b, axis=0)
        g.emit("ASGDFactors", w, d, lefts, rights, rate, into=[w, d])


def _rate(g: Tape, lr: Variable, seen: str, rates: dict[tuple[int, str], Variable]) -> Variable:
    if (id(lr), seen) not in rates:
        rates[id(lr), seen] = g.Div(lr, _fed(g.block, seen, TensorType(lr.dtype, ())))
    return rates[id(lr), seen]


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
