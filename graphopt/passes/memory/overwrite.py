"""Updates ordered so that large states and rows are written over where they lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from graphopt.ir.edit import clone
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.patterns import first, result_of
from graphopt.passes.memory.overwrite_proof import Target, targets
from graphopt.passes.memory.step_in_blocks import aliases

LARGE = 2**16  # bytes from which a second buffer costs more than an op that orders
RATES = ("lr", "rate")  # operands of updates, [], that can be made to wait
SUM, MADE_BY = "ASGDSum", "in_place"
FEW = 2  # reads that an update may be made to wait for


@dataclass(frozen=True)
class InPlace(Pass):
    """Let updates wait for the last reads of what they replace.

    Memory that has just been read is quicker to write than a second buffer, and a state then
    needs one. ``rows`` are the rows of tables that a step reads, and those that replace them.

    A gradient replaces its row of the table only after that row has been read: it is given what
    the row was taken from as an operand that counts nothing. Where a parameter is also read for the
    gradient of its layer's input, the rate of its update is made to wait for that.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... param w : f32[2, 2]
    ... state lr : f32[]
    ... feed x : f32[3, 2]
    ... feed dy : f32[3, 2]
    ... -- backward
    ... dx : f32[3, 2] = Gemm(dy, w, transB=1)
    ... dw : f32[2, 2] = Gemm(x, dy, transA=1)
    ... -- update
    ... w <- SGD(w, dw, lr)
    ... ''')
    >>> ordered = InPlace(least=0).run(p)
    >>> print(ordered.text(where=False))
    program : opset 21, 6 ops, 2 feeds, 1 param
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
      w <- SGD(w, dw, where_0)
    >>> overwritten(p, {}, 0).names, overwritten(ordered, {}, 0).names
    (frozenset(), frozenset({'w'}))
    """

    rows: Mapping[str, str] = field(default_factory=dict)
    least: int = LARGE

    def rewrite(self, program: Program) -> Program:
        """The Program whose updates wait."""
        pairs = self.rows.items()
        wanted = {t.variable.name for t in targets(program, pairs, self.least) if t.sound}
        if not wanted:
            return program
        new = clone.copy(program)
        block = new.global_block()
        _read_rows_first(block, {n: self.rows[n] for n in wanted if n in self.rows})
        for target in targets(new, pairs, self.least):
            if target.sound and target.late:
                _wait(block, target)
        return new


@dataclass(frozen=True)
class Overwritten:
    """What a step writes over: the inputs that are donated to outputs, as XLA calls it.

    ``names``: states, and the rows that are read. ``rests``: of each variable that is computed in
    the place of a state, before this gets its next value, the name, and that of the state.
    """

    names: frozenset[str] = frozenset()
    rests: Mapping[str, str] = field(default_factory=dict)


def overwritten(program: Program, rows: Mapping[str, str], least: int = LARGE) -> Overwritten:
    """What a step may write over: see ``InPlace``."""
    rests = {
        result_of(op).name: first(op).name
        for op in program.global_block().ops
        if op.type == "Sub" and op.made_by == MADE_BY
    }
    steps = {w: step for step, w in aliases(program).items()}
    pairs = [*rows.items(), *steps.items(), *rests.items(), *((d, r) for r, d in rests.items())]
    found = targets(program, pairs, least)
    free = {(t.variable.name, t.result.name) for t in found if t.is_free}
    return Overwritten(
        frozenset(o for o, new in free if new in (o, rows.get(o), steps.get(o))),
        {rest: d for rest, d in rests.items() if {(d, d), (d, rest), (rest, d)} <= free},
    )


def _read_rows_first(block: Block, rows: Mapping[str, str]) -> None:
    """Take a row from the sum before the gradient, which replaces it, is made."""
    updates = {op.operand("row").name: op for op in block.ops if op.type == "ASGDRow"}
    chosen = {rows[name]: updates[name] for name in rows if name in updates}
    ops, block.ops = block.ops, []
    ready: dict[int, Variable] = {}
    late = _Late(block)
    for op in ops:
        update = chosen.get(op.outputs[0].name) if op.outputs[0] is not None else None
        if update is not None and op.type == "Gemm" and len(op.inputs) == 2:
            ready[id(update)] = _less_row(late, op, update)
        elif id(op) in ready:
            _add_gradient(block, op, ready[id(op)])
            continue
        block.ops.append(op)


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
        g.emit(SUM, w, dw, rest, rate, into=update.outputs)


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
    ops, block.ops = block.ops[place:], block.ops[:place]
    g = Tape(block, role=update.role, made_by=MADE_BY)
    with at(update.where):
        for v in awaited:
            found = g.Where(True, found, _element(g, v))
    update.inputs[rate] = found
    block.ops += ops


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
