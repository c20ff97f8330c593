"""Updates ordered so that large states and rows are written over where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.passes.engine.base import Pass
from graphopt.passes.memory.overwrite_proof import Target, targets

MANY_BYTES = 2**16  # from which a second buffer costs more than an op that orders
RATES = ("lr", "rate")  # operands of updates, [], that can be made to wait
MADE_BY = "in_place"
FEW = 2  # reads that an update may be made to wait for


@dataclass(frozen=True)
class InPlace(Pass):
    """Let updates wait for the last reads of what they replace.

    Memory that has just been read is quicker to write than a second buffer, and a state then
    needs one. So with the rows of tables, and what replaces them.

    A gradient replaces its row of the table only after that row has been read: it is given what
    the row was taken from as an operand that counts nothing. Where a parameter is also read for the
    gradient of its layer's input, the rate of its update is made to wait for that.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... param w : f32[2, 2]
    ... state lr : f32[]
    ... feed x : f32[3, 2]
    ... feed dy : f32[3, 2]
    ... -- backward
    ... dx : f32[3, 2] = Gemm(dy, w, transB=1)
    ... dw : f32[2, 2] = Gemm(x, dy, transA=1)
    ... -- update
    ... w1 : f32[2, 2] = SGD(w, dw, lr)
    ... -> dx, w <- w1
    ... ''')
    >>> print(InPlace(least=0).run(s).text(where=False))
    step : opset 21, 6 ops, 2 feeds, 1 param
      param w : f32[2, 2]
      state lr : f32[]
      feed x : f32[3, 2]
      feed dy : f32[3, 2]
      -- backward
      dx : f32[3, 2] = Gemm(dy, w, transB=1)
      dw : f32[2, 2] = Gemm(x, dy, transA=1)
      -- update
      slice_0 : f32[1, 1] = Slice(dx, [0, 0], [1, 1])
      reshape_0 : f32[] = Reshape(slice_0, [])
      where_0 : f32[] = Where(true, lr, reshape_0)
      w1 : f32[2, 2] = SGD(w, dw, where_0)
      -> dx, w <- w1
    """

    least: int = MANY_BYTES

    def change(self, step: Step) -> None:
        """Let updates wait."""
        wanted = {t.variable for t in targets(step, self.least) if t.sound}
        if not wanted:
            return
        _read_rows_first(step, {row.new_row: row.row for row in step.rows if row.row in wanted})
        for target in targets(step, self.least):
            if target.sound and target.late:
                _wait(step.global_block(), target)


@dataclass(frozen=True)
class Donate(Pass):
    """Say which states and rows are written over where they lie: what is proved to be read by then.

    An input that is donated to an output, as XLA calls it. A result of ``InPlace`` that takes the
    place of a state, before its next value does, is borrowed from it.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... param w : f32[2, 2]
    ... state lr : f32[]
    ... feed dw : f32[2, 2]
    ... -- update
    ... w1 : f32[2, 2] = SGD(w, dw, lr)
    ... -> w <- w1
    ... ''')
    >>> Donate(least=0).run(s).donated
    frozenset({<Parameter w : f32[2, 2]>})
    """

    least: int = MANY_BYTES

    def change(self, step: Step) -> None:
        """Set ``donated`` and ``borrowed``."""
        rests = {rest: d for rest, d in step.rests.items() if d in step.next_state}
        pairs = [(d, rest) for rest, d in rests.items()]
        pairs += [(rest, step.next_state[d]) for rest, d in rests.items()]
        free = {(t.variable, t.result) for t in targets(step, self.least, pairs) if t.is_free}
        taking = {**step.next_state, **{row.row: row.new_row for row in step.rows}}
        step.donated = frozenset(v for v, new in taking.items() if (v, new) in free)
        step.borrowed = {
            rest: d
            for rest, d in rests.items()
            if d in step.donated and {(d, rest), (rest, step.next_state[d])} <= free
        }


def _read_rows_first(step: Step, rows: Mapping[Variable, Variable]) -> None:
    """Take a row from the sum before the gradient, which replaces it, is made.

    ``rows``: of each gradient, the row that it replaces.
    """
    block = step.global_block()
    updates = {op.operand("row"): op for op in block.ops if op.type == "ASGDRow"}
    ready: dict[Operator, Variable] = {}
    late = _Late(block)
    with block.rewriting() as ops:
        for op in ops:
            row = None if op.outputs[0] is None else rows.get(op.outputs[0])
            update = None if row is None else updates.get(row)
            if update is not None and op.type == "Gemm" and len(op.inputs) == 2:
                rest = ready[update] = _less_row(late, op, update)
                step.rests[rest] = update.operand("d")
            if op in ready:
                _add_gradient(block, op, ready[op])
            else:
                block.append(op)


class _Late:
    """Variables that wait: nothing may be changed before the loss is known to be in order.

    What waits is the shape that a variable is given, which is its own: this moves nothing.
    """

    def __init__(self, block: Block) -> None:
        self.block = block
        self._first: Variable | None = None
        self._shapes: dict[tuple[int, ...], Variable] = {}

    def view(self, g: Tape, v: Variable, awaited: Variable) -> Variable:
        """The variable, as soon as the first of all that were ever awaited is made."""
        if self._first is None:
            self._first = g.cast(_element(g, awaited), np.dtype("i8"))
        if v.shape not in self._shapes:
            shape = np.array(v.shape, np.int64)
            self._shapes[v.shape] = g.Where(True, shape, self._first)
        view: Variable = g.Reshape(v, self._shapes[v.shape])
        view.tensor_type = v.tensor_type
        return view


def _element(g: Tape, v: Variable) -> Variable:
    """The first element: []."""
    rank = len(v.shape)
    first = g.Slice(v, [0] * rank, [1] * rank) if rank else v
    element: Variable = g.Reshape(first, np.zeros(0, np.int64))
    return element


def _less_row(late: _Late, product: Operator, update: Operator) -> Variable:
    """d - row, for which the product is made to wait: times 0 its third operand is not read."""
    with at(update.where):
        g = Tape(late.block, role=update.role, made_by=MADE_BY)
        row = late.view(g, update.operand("row"), product.operand("B"))
        rest: Variable = g.Sub(update.operand("d"), row)
    product.inputs = [*product.inputs, rest]
    product.attrs["beta"] = 0.0
    return rest


def _add_gradient(block: Block, update: Operator, rest: Variable) -> None:
    w, dw, _, _, rate = update.inputs
    g = Tape(block, role=update.role, made_by=update.made_by)
    with at(update.where):
        g.emit("ASGDSum", w, dw, rest, rate, into=update.outputs)


def _wait(block: Block, target: Target) -> None:
    """Let an update read its rate only after the late reads, if it has one."""
    update = target.writer
    rate = next((k for k in target.depends if _is_rate(update, k)), None)
    if rate is None or len(target.late) > FEW:
        return
    found = update.inputs[rate]
    assert found is not None
    awaited = [v for v in (_result_like(op, found) for op in target.late) if v is not None]
    if len(awaited) < len(target.late):
        return
    place = block.ops.index(update)
    if any(op not in block.ops[:place] for op in target.late):
        return
    behind = block.ops[place:]
    g = Tape(block, role=update.role, made_by=MADE_BY)
    with at(update.where):
        for v in awaited:
            found = g.Where(True, found, _element(g, v))
    update.inputs = [*update.inputs[:rate], found, *update.inputs[rate + 1 :]]
    late = set(behind)
    block.reorder([*(op for op in block.ops if op not in late), *behind])


def _is_rate(update: Operator, position: int) -> bool:
    v = update.inputs[position]
    name = update.input_names[position] if position < len(update.input_names) else ""
    return name in RATES and v is not None and v.shape == ()


def _result_like(op: Operator, rate: Variable) -> Variable | None:
    """A result of the op that has an element of the rate's dtype."""
    for v in op.writes():
        if v.dtype == rate.dtype and v.tensor_type.is_static and 0 not in v.shape:
            return v
    return None
