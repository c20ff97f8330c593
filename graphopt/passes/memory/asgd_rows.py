"""ASGD's table as rows that the runtime moves: a step then costs the same for any number of them.

In a Program the table ``y`` [n, *w] is one value: a step reads row m mod n and writes a whole new
table, n rows. Here the step reads one row and gives the row that takes its place.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.step import LEFT, RIGHT, Row, Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import TensorType
from graphopt.ir.types.where import UNKNOWN, at
from graphopt.passes.engine.base import Pass

THIN = 32  # rows of a batch up to which two factors are quicker than the gradient
MANY_ELEMENTS = 2**16  # of a gradient, from which its factors are worth while
IN_MEMORY = "device"  # the storage of tables that may be kept as factors
MADE_BY = "history"


@dataclass(frozen=True)
class History(Pass):
    """Replace ASGD by its step over one row of its table, where nothing else uses the table.

    Tables of as many rows share one count of the rows that hold a gradient, unless they are counted
    ``apart``. With ``factors`` a table whose gradient is a product of thin matrices is kept as
    these, if no other place was asked for it.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... param w : f32[2]
    ... state d : f32[2]
    ... state y : f32[9, 2]
    ... state m : i64[1]
    ... state lr : f32[]
    ... feed x : f32[2]
    ... -- backward
    ... dw : f32[2] = Neg(x)
    ... -- update
    ... w1 : f32[2] = ASGD(w, dw, d, y, m, lr)
    ... d1 : f32[2]
    ... y1 : f32[9, 2]
    ... m1 : i64[1]
    ... -> w <- w1, d <- d1, y <- y1, m <- m1
    ... ''')
    >>> print(History().run(s).text(where=False))
    step : opset 21, 3 ops, 3 feeds, 1 param
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
      w1 : f32[2] = ASGDRow(w, dw, d, y@ROW, div_0)
      d1 : f32[2]
      -> w <- w1, d <- d1
      # y[m] : reads y@ROW, becomes dw; m@SEEN are seen
    """

    factors: bool = True
    apart: bool = False

    def needed(self, step: Step) -> bool:
        """Whether ASGD updates anything."""
        return any(_moves_table(step, op) for op in step.global_block().ops)

    def change(self, step: Step) -> None:
        """Put one row in place of each table."""
        _Rows(step, self).run()


class _Rows:
    """One call of ``History.change``."""

    def __init__(self, step: Step, options: History) -> None:
        self.step, self.block, self.options = step, step.global_block(), options
        self.rates: dict[tuple[Variable, Variable], Variable] = {}
        self.seen: dict[object, Variable] = {}
        self.found: list[Row] = []

    def run(self) -> None:
        with self.block.rewriting() as ops:
            for op in ops:
                if not _moves_table(self.step, op):
                    self.block.append(op)
                elif self._as_factors(op):
                    self._over_factors(op)
                else:
                    self._over_row(op)
            moved = {v for row in self.found for v in (row.table, row.count)}
            values = self.step.next_state
            self.step.next_state = {v: values[v] for v in values if v not in moved}
            self.step.rows = self.found

    def _as_factors(self, op: Operator) -> bool:
        y, dw = op.operand("y"), op.operand("dw")
        in_memory = self.step.tables.get(y.name) == IN_MEMORY
        return self.options.factors and in_memory and self._is_free(dw) and _is_thin(dw)

    def _is_free(self, dw: Variable) -> bool:
        """Whether a row can be written where the gradient is made: nobody else asks for it."""
        taken = any(row.new_row is dw for row in self.found)
        return dw.maker is not None and not self.step.gives(dw) and not taken

    def _over_row(self, op: Operator) -> None:
        w, dw, d, y, m, lr = (v for v in op.inputs if v is not None)
        g = Tape(self.block, role=op.role, made_by=MADE_BY)
        with at(op.where):
            seen = self._seen(y, m, lr)
            rate = self._rate(g, lr, seen)
            row = self._fed(f"{y.name}@ROW", TensorType(y.dtype, y.shape[1:]))
            if not self._is_free(dw):
                dw = g.emit("Identity", dw, names=[self.step.unused_name(f"{y.name}@NEW_ROW")])
            g.emit("ASGDRow", w, dw, d, row, rate, into=op.outputs[:2])
        self.found.append(Row(y, m, row, dw, seen))

    def _over_factors(self, op: Operator) -> None:
        """The row as the gradient's factors; the old right one is kept with its sign changed."""
        w, dw, d, y, m, lr = (v for v in op.inputs if v is not None)
        product = dw.maker
        assert product is not None, "a free gradient is made by an op"
        a, b = product.operand("A"), product.operand("B")
        self.block.drop([product])
        g = Tape(self.block, role=op.role, made_by=MADE_BY)
        with at(op.where):
            seen = self._seen(y, m, lr)
            rate = self._rate(g, lr, seen)
            left = self._fed(f"{y.name}@LEFT", a.tensor_type)
            right = self._fed(f"{y.name}@RIGHT", b.tensor_type)
            alpha = product.attrs["alpha"]
            scaled = b if alpha == 1.0 else g.Mul(b, alpha)
            new_left = g.emit("Identity", a, names=[self.step.unused_name(f"{left.name}@NEW")])
            new_right = g.emit("Neg", scaled, names=[self.step.unused_name(f"{right.name}@NEW")])
            lefts, rights = g.Concat(a, left, axis=0), g.Concat(scaled, right, axis=0)
            g.emit("ASGDFactors", w, d, lefts, rights, rate, into=op.outputs[:2])
        self.found.append(Row(y, m, left, new_left, seen, LEFT))
        self.found.append(Row(y, m, right, new_right, seen, RIGHT))

    def _seen(self, y: Variable, m: Variable, lr: Variable) -> Variable:
        """How many rows of a table hold a gradient behind the step: []."""
        key = m if self.options.apart else (y.shape[0], lr.dtype)
        if key not in self.seen:
            self.seen[key] = self._fed(f"{m.name}@SEEN", TensorType(lr.dtype, ()))
        return self.seen[key]

    def _rate(self, g: Tape, lr: Variable, seen: Variable) -> Variable:
        if (lr, seen) not in self.rates:
            self.rates[lr, seen] = g.Div(lr, seen)
        return self.rates[lr, seen]

    def _fed(self, name: str, tensor_type: TensorType) -> Variable:
        """A variable that the runtime feeds; whatever the user calls his, it is another."""
        own = self.step.unused_name(name)
        fed = Variable(own, tensor_type, block=self.block, where=UNKNOWN, is_data=True)
        self.block.add_var(fed)
        return fed


def _moves_table(step: Step, op: Operator) -> bool:
    """Whether an ASGD assigns all that it updates, and nothing else uses its table and count."""
    if op.type != "ASGD" or any(v is None for v in op.outputs):
        return False
    pairs = list(zip((op.operand("y"), op.operand("m")), op.outputs[2:], strict=True))
    assigned = all(step.next_state.get(old) is new for old, new in pairs)
    alone = all(v is not None and sum(v.uses.values()) == 1 for pair in pairs for v in pair)
    fed = any(old.name in step.fed for old, _ in pairs)
    return assigned and alone and not fed and op.operand("y").tensor_type.is_static


def _is_thin(dw: Variable) -> bool:
    """Whether a gradient that only its update reads is AᵀB with few rows: A [b, i], B [b, o]."""
    op = dw.maker
    if op is None or op.type != "Gemm" or len(op.inputs) > 2 or sum(dw.uses.values()) != 1:
        return False
    a, b = op.operand("A"), op.operand("B")
    if not (op.attrs["transA"] and not op.attrs["transB"] and a.tensor_type.is_static):
        return False
    rows, width = a.shape
    large = width * b.shape[1] >= MANY_ELEMENTS
    return 4 * rows <= min(width, b.shape[1]) and rows <= THIN and large


def zero_tables(program: Program, tables: Collection[str]) -> dict[str, TensorType]:
    """The tables that a Program fills with zeros and does nothing else with, by name."""
    ops = program.global_block().ops
    touched = [v for op in ops for v in {*op.reads(), *op.writes()}]
    found = {}
    for op in ops:
        (v,) = [*op.writes()][:1] or (None,)
        if op.type == "ConstantOfShape" and v is not None and v.name in tables:
            value = np.asarray(op.attrs.get("value", 0.0))
            once = sum(other is v for other in touched) == 1
            if not value.any() and once and isinstance(op.inputs[0], Constant):
                found[v.name] = v.tensor_type
    return found
