"""Many steps as one Scan: the state goes round, the feeds of all steps are cut along a new dim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from graphopt.ir.edit.clone import Copies, copy_variable
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import Shape, TensorType
from graphopt.ir.types.where import UNKNOWN, at
from graphopt.passes.engine.base import Pass
from graphopt.passes.steps.batched import Stage, Stages, widened

NUMBER = "step"  # what stands for the feeds of a step that is fed nothing

Dims: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Repeat(Pass):
    """Do the Step once for each slice of what it is fed, in one Scan.

    ``varying`` names states that are fed step by step. What is fed or fetched gets a first dim, the
    steps, and a variable of its own (``slices``). What needs no state that changes is done before
    the Scan, for all steps at once; what no state needs, after it.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... state w : f32[2]
    ... feed x : f32[2]
    ... c : f32[2] = Neg(x)
    ... y : f32[2] = Mul(c, w)
    ... loss : f32[] = ReduceSum(y, keepdims=0)
    ... -- update
    ... v : f32[2] = Sub(w, y)
    ... -> loss, w <- v
    ... ''')
    >>> print(Repeat().run(s).text(where=False))
    step : opset 21, 5 ops, 1 feed, 0 params
      state w : f32[2]
      feed x@STEPS : f32[N, 2]
      -- forward
      c@STEPS : f32[N, 2] = Neg(x@STEPS)
      -- update
      w@LAST : f32[2] = Scan(w, c@STEPS, num_scan_inputs=1)
      y@STEPS : f32[N, 2]
        body(w_0 : f32[2], c_0 : f32[2]):
          -- forward
          y_0 : f32[2] = Mul(c_0, w_0)
          -- update
          v_0 : f32[2] = Sub(w_0, y_0)
          -> v_0, y_0
      -- forward
      loss@STEPS : f32[N] = ReduceSum(y@STEPS, [1], keepdims=0)
      -> loss@STEPS, w <- w@LAST

    Rows of tables are fed and given step by step; no more steps are done in a run than the tables
    have rows. With a ``turn``, the number of these rows, the Scan is inside another one over turns,
    which carries the rows: what is fed and fetched has two first dims, the turns and their steps.
    """

    varying: tuple[str, ...] = ()
    turn: int = 0

    def apply(self, step: Step) -> Step:
        """A new Step, of which the given one is the body."""
        return _Loop(step, self.varying, self.turn).run()


class _Loop:
    """A new Step that does the steps of another one.

    By the old Step's variables, ``stacked`` has what stands for the values of all steps,
    ``current`` for that of a step, inside, and ``outer`` for what is one for all steps.
    """

    def __init__(self, step: Step, varying: Sequence[str], turn: int) -> None:
        self.old, self.turn = step, turn
        self.program = self._empty(step)
        self.block = self.program.global_block()
        self.lead = (-1, turn) if turn else (-1,)
        self.dims: Shape = (self.program.fresh_symbol(), *([turn] if turn else []))
        self.assigned = [*step.next_state]
        self.rows = [row.row for row in step.rows] if turn else []
        self.new_rows = list(dict.fromkeys(row.new_row for row in step.rows))
        self.scanned = self._scanned(varying)
        self.copies = Copies(self.program)
        self.outer: dict[Variable, Variable] = {}
        self._declare_states()
        self.stacked = {v: self._declare(v, is_data=True) for v in self.scanned}
        self.round = Block(self.program, self.block) if turn else self.block
        self.body = Block(self.program, self.round)
        self.current: dict[Variable, Variable] = {}
        for v in (*self.assigned, *self.rows):
            formal = self.body.add_input(v.name, v.tensor_type)
            if v not in self.stacked:
                self.current[v] = formal
        self.wide: dict[tuple[Variable, Dims], Variable] = {}
        self.sliced: list[Variable] = []  # of the stacked: what the body takes slices of
        self.last: dict[Variable, Variable] = {}
        self.tables: dict[Variable, Variable] = {}

    def _empty(self, step: Step) -> Step:
        new = Step()
        new.random_seed, new.family = step.random_seed, step.family
        new.take_counters(step)
        new.names.take_all(step.names)
        return new

    def _scanned(self, varying: Sequence[str]) -> list[Variable]:
        """What is fed anew in each step: feeds, rows unless they go round, and ``varying``."""
        states, carried = set(self.old.states), set(self.rows)
        chosen = [
            v
            for v in self.old.inputs()
            if v not in carried and (v not in states or v.name in (*varying, *self.old.fed))
        ]
        return chosen or [_number(self.old.global_block())]

    def run(self) -> Step:
        """Record all ops, and say what the new Step is to the runtime."""
        ops = self.old.global_block().ops
        given = [*self.old.next_state.values(), *(self.new_rows if self.turn else ())]
        carried = [*self.assigned, *self.old.next_state.values(), *self.rows]
        stages = Stages(ops, self.scanned, carried, given, self.lead)
        for op in ops:
            if stages[op] is Stage.ONCE:
                self._copy(op, self.block)
            elif stages[op] is Stage.BEFORE:
                self._stack(op, stages)
            elif stages[op] is Stage.EACH:
                self._copy(op, self.body)
        self._scan_and_after([op for op in ops if stages[op] is Stage.AFTER], stages)
        return self._finished()

    def _declare_states(self) -> None:
        for v in self.old.states:
            self.outer[v] = copy_variable(v, self.block, v.name)
            self.block.add_var(self.outer[v])

    def _scan_and_after(self, late: Sequence[Operator], stages: Stages) -> None:
        made = {v for op in late for v in op.writes()}
        inner = self.current.keys() - self.stacked.keys()
        read = [v for op in late for v in op.operands() if v in inner]
        wanted = [v for v in self.old.fetch if not isinstance(v, Constant)]
        if not self.turn:
            wanted += self.new_rows
        given = [v for v in wanted if v not in made and v not in self.stacked]
        self._scan(_once([*given, *read]))
        for op in late:
            self._stack(op, stages)

    def _scan(self, given: list[Variable]) -> None:
        """The Scan, which gives values of each step; none if nothing comes of it."""
        rows = self.new_rows if self.turn else []
        values = [*self.old.next_state.values(), *rows, *given]
        self.body.outputs = [self._inside(v) for v in values]
        if not self.body.outputs:
            return
        if not self.sliced:  # something has to say how many steps there are
            self._inside(min(self.scanned, key=lambda v: len(v.tensor_type.shape or ())))
        states = [self.outer[v] for v in self.assigned]
        tables = [self._table(v, is_data=True) for v in self.rows]
        last = [self._add(v, "@LAST", v.tensor_type) for v in self.assigned]
        new_tables = [self._table(v) for v in rows]
        results = [self._declare(v) for v in given]
        body = self._turn([*states, *tables]) if self.turn else self.body
        operands, into = [*states, *tables, *self.sliced], [*last, *new_tables, *results]
        self._tape(self.block).emit(
            "Scan", *operands, into=into, body=body, num_scan_inputs=len(self.sliced)
        )
        self.last = dict(zip(self.assigned, last, strict=True))
        self.tables = dict(zip([*self.rows, *rows], [*tables, *new_tables], strict=True))
        self.stacked |= dict(zip(given, results, strict=True))

    def _turn(self, carried: list[Variable]) -> Block:
        """The block that does the steps of one turn: a Scan over the rows and the turn's slices."""
        block = self.round
        states = [block.add_input(v.name, v.tensor_type) for v in carried]
        cut = [block.add_input(v.name, _without_first(v.tensor_type)) for v in self.sliced]
        names = [self.program.unused_name(v.name) for v in self.body.outputs]
        count = len(self.rows) + len(cut)
        self._tape(block).emit(
            "Scan", *states, *cut, names=names, body=self.body, num_scan_inputs=count
        )
        block.outputs = [*block.ops[-1].writes()]
        return block

    def _finished(self) -> Step:
        """The new Step, which says what it is fed, gives and keeps."""
        new, outside = self.program, self._outside
        new.fed = tuple(self.stacked[v].name for v in self.scanned)
        new.slices = {v.name: self.stacked[v] for v in self.scanned}
        fed = set(new.slices.values())
        new.stacked = tuple(v for v in self.stacked.values() if v not in fed)
        new.fetch = [outside(v) for v in self.old.fetch]
        new.next_state = {self.outer[v]: last for v, last in self.last.items()}
        rows = self.tables if self.turn else self.stacked
        new.rows = [
            replace(row, table=self.outer[row.table], count=self.outer[row.count],
                    row=rows[row.row], new_row=rows[row.new_row], seen=self.stacked[row.seen])
            for row in self.old.rows
        ]  # fmt: skip
        moved = {v for row in new.rows for v in (row.table, row.count)}
        for v in list(self.block.vars.values()):
            if v.maker is None and not v.uses and v not in moved:
                self.block.remove_var(v)
        return new

    def _tape(self, block: Block) -> Tape:
        return Tape(block, role=Role.UPDATE, made_by="repeat")

    def _stack(self, op: Operator, stages: Stages) -> None:
        """Do an op for all steps."""
        operands = [None if v is None else self._outside(v) for v in op.inputs]
        (result,) = op.writes()
        made = self.stacked[result] = self._declare(result)
        declared = made.tensor_type
        g = Tape(self.block, role=op.role, made_by=op.made_by or "repeat")
        with at(op.where):
            stages.forms[id(op)].emit(g, operands, made)
        made.tensor_type = declared  # inference does not see that -1 stands for the steps

    def _outside(self, v: Variable) -> Variable:
        """What stands for a variable around the Scan: all steps' values, or the only one."""
        if isinstance(v, Constant):
            return self.copies.of(v)
        return self.stacked[v] if v in self.stacked else self.outer[v]

    def _inside(self, v: Variable) -> Variable:
        """What stands for a variable in the body."""
        if v not in self.current and v in self.stacked:
            self.current[v] = self.body.add_input(v.name, v.tensor_type)
            self.sliced.append(self.stacked[v])
        return self.current[v] if v in self.current else self._outside(v)

    def _copy(self, op: Operator, block: Block) -> None:
        """Copy an op to the block around the Scan, or into its body."""
        inside = block is self.body
        value = self._inside if inside else self._outside
        for v in op.reads() if op.definition.has_blocks else ():
            if not isinstance(v, Constant):
                self.copies.known[id(v)] = value(v)
        shape = widened(op) if inside else None
        reading = [None if v is None else value(self._widened(v, shape)) for v in op.inputs]
        results = [None if v is None else self._new(v, block) for v in op.outputs]
        copied = self.copies.op(op, block, results)
        copied.inputs = reading
        block.append(copied)

    def _new(self, v: Variable, block: Block) -> Variable:
        """A result of a copied op; in the body it has a name of its own."""
        if block is not self.body:
            made = self.outer[v] = copy_variable(v, block, v.name)
        else:
            made = self.current[v] = copy_variable(v, block, self.program.unused_name(v.name))
        return made

    def _widened(self, v: Variable, shape: Dims | None) -> Variable:
        """What stands for an operand that is better made as wide as the result ``shape``."""
        inner = v in self.current and v not in self.stacked
        if shape is None or inner or v.tensor_type.shape == shape:
            return v
        if isinstance(v, Constant):
            return self.program.constant(np.broadcast_to(v.value, shape).copy())
        if (v, shape) not in self.wide:
            self.wide[v, shape] = self._widen(v, shape)
        return self.wide[v, shape]

    def _widen(self, v: Variable, shape: Dims) -> Variable:
        """Make an operand as wide, around the Scan."""
        name, wide_type = self.program.unused_name(f"{v.name}@WIDE"), TensorType(v.dtype, shape)
        wide = Variable(name, wide_type, block=self.block, where=v.where)
        g, given = self._tape(self.block), self._outside(v)
        if v in self.stacked:
            ones = [1] * (len(shape) - v.ndim)
            given = g.Reshape(given, [*self.lead, *ones, *v.shape]) if ones else given
            into = self.stacked[wide] = self._declare(wide)
            g.emit("Expand", given, [*[1] * len(self.lead), *shape], into=[into])
            into.tensor_type = TensorType(v.dtype, (*self.dims, *shape))
        else:
            self.outer[wide] = wide
            self.block.add_var(wide)
            g.emit("Expand", given, list(shape), into=[wide])
        return wide

    def _declare(self, v: Variable, is_data: bool = False) -> Variable:
        """A variable for the values of all steps."""
        tensor_type = TensorType(v.dtype, (*self.dims, *(v.tensor_type.shape or ())))
        return self._add(v, "@STEPS", tensor_type, is_data)

    def _table(self, v: Variable, is_data: bool = False) -> Variable:
        """A variable for the rows of a turn."""
        tensor_type = TensorType(v.dtype, (self.turn, *(v.tensor_type.shape or ())))
        return self._add(v, "@ROWS", tensor_type, is_data)

    def _add(
        self, v: Variable, suffix: str, tensor_type: TensorType, is_data: bool = False
    ) -> Variable:
        name = self.program.unused_name(v.name + suffix)
        found = Variable(name, tensor_type, block=self.block, where=v.where, is_data=is_data)
        self.block.add_var(found)
        return found


def _number(block: Block) -> Variable:
    """What a Step that is fed nothing is fed: the steps' numbers."""
    return Variable(NUMBER, TensorType(np.dtype("i8"), ()), block=block, where=UNKNOWN)


def _without_first(tensor_type: TensorType) -> TensorType:
    return TensorType(tensor_type.dtype, (tensor_type.shape or ())[1:])


def _once(variables: Iterable[Variable]) -> list[Variable]:
    return list(dict.fromkeys(variables))
