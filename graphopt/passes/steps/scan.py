"""Many steps as one Scan: the state goes round, the feeds of all steps are cut along a new dim."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from graphopt.ir.edit import clone
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import Shape, TensorType
from graphopt.ir.types.where import UNKNOWN, at
from graphopt.passes.engine.base import Pass
from graphopt.passes.select.prune import drop_unused, free_variables
from graphopt.passes.steps.batched import Split, Stage, widened

STEPS, LAST, NUMBER, ROWS, WIDE = "@STEPS", "@LAST", "step", "@ROWS", "@WIDE"

Dims: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Repeat(Pass):
    """Run the Program once for each slice of what it is fed, in one Scan.

    ``fetch`` are the variables whose values after each step are wanted, ``varying`` the states that
    are fed step by step. What is fed or fetched gets a first dim, the steps, and a name of its own.
    What needs no state that changes is done before the Scan, for all steps at once; what no state
    needs, after it.

    >>> from graphopt.ir.text.parse import parse
    >>> p = parse('''
    ... state w : f32[2]
    ... feed x : f32[2]
    ... c : f32[2] = Neg(x)
    ... y : f32[2] = Mul(c, w)
    ... loss : f32[] = ReduceSum(y, keepdims=0)
    ... -- update
    ... w <- Sub(w, y)
    ... ''')
    >>> print(Repeat(fetch=("loss",)).run(p).text(where=False))
    program : opset 21, 6 ops, 1 feed, 0 params
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
          w_1 : f32[2] = Sub(w_0, y_0)
          -> w_1, y_0
      w <- Identity(w@LAST)
      -- forward
      loss@STEPS : f32[N] = ReduceSum(y@STEPS, [1], keepdims=0)

    ``rows`` are pairs of names: of what is fed to a step and of what a step makes, which is fed to
    the step ``turn`` steps later. Then the Scan is inside another one over the turns, which carries
    the rows of a turn; what is fed and fetched has two first dims, the turns and their steps.
    """

    fetch: tuple[str, ...] = ()
    varying: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    turn: int = 0

    def rewrite(self, program: Program) -> Program:
        """The Program as the body of a Scan, and what is done before and after it."""
        old = program.global_block()
        assigned = _once(v for op in old.ops for v in op.writes() if v.persistable)
        scanned = [v for v in free_variables(program) if self._is_scanned(v)] or [_number(old)]
        rows = [(old.vars[row], old.vars[new]) for row, new in self.rows]
        loop = _Loop(program, scanned, assigned, rows, self.turn)
        loop.record(old.ops, [old.vars[name] for name in self.fetch])
        return drop_unused(loop.program)

    def _is_scanned(self, v: Variable) -> bool:
        if v.name in dict(self.rows):
            return False
        return not v.persistable or v.name in self.varying


class _Loop:
    """A new Program that does the steps of another one.

    ``stacked`` are the values of all steps, ``current`` those of a step, by the name that the
    variable has in the old Program; what is one for all steps keeps its name.
    """

    def __init__(
        self,
        program: Program,
        scanned: list[Variable],
        assigned: list[Variable],
        rows: list[tuple[Variable, Variable]],
        turn: int,
    ) -> None:
        self.program = clone.copy(program, lambda op: False)
        self.program.names |= program.names
        self.block = self.program.global_block()
        self.turn = turn
        self.lead = (-1, turn) if turn else (-1,)
        self.dims: Shape = (self.program.fresh_symbol(), *([turn] if turn else []))
        self.scanned, self.assigned = scanned, assigned
        self.rows, self.new_rows = [row for row, _ in rows], [new for _, new in rows]
        self.stacked = {v.name: self._declare(v, is_data=True) for v in scanned}
        self.round = Block(self.program, self.block) if turn else self.block
        self.body = Block(self.program, self.round)
        self.copies = clone.Copies(self.program)
        carried = [*assigned, *self.rows]
        self.current = {v.name: self.body.add_input(v.name, v.tensor_type) for v in carried}
        self.wide: dict[tuple[str, Dims], Variable] = {}
        self.sliced: list[Variable] = []  # of the stacked: what the body takes slices of

    def record(self, ops: list[Operator], wanted: list[Variable]) -> None:
        """Record all ops, and what gives the wanted values."""
        split = Split(ops, self.scanned, [*self.assigned, *self.rows], self.new_rows, self.lead)
        for op in ops:
            if split[op] is Stage.ONCE:
                self._copy(op, self.block)
            elif split[op] is Stage.BEFORE:
                self._stack(op, split)
            elif split[op] is Stage.EACH:
                self._copy(op, self.body)
        late = [op for op in ops if split[op] is Stage.AFTER]
        made = {v.name for op in late for v in op.writes()}
        inner = self.current.keys() - self.stacked.keys()
        read = [v for op in late for v in op.operands() if v.name in inner]
        given = [v for v in wanted if v.name not in made and v.name not in self.stacked]
        self._scan(_once([*given, *read]))
        for op in late:
            self._stack(op, split)

    def _scan(self, given: list[Variable]) -> None:
        """The Scan, which gives values of each step; none if nothing comes of it."""
        self.body.outputs = [self._inside(v) for v in (*self.assigned, *self.new_rows, *given)]
        if not self.body.outputs:
            return
        if not self.sliced:  # something has to say how many steps there are
            self._inside(min(self.scanned, key=lambda v: len(v.tensor_type.shape or ())))
        states = [self.block.vars[v.name] for v in self.assigned]
        tables = [self._table(v, is_data=True) for v in self.rows]
        last = [self._add(v, LAST, v.tensor_type) for v in self.assigned]
        new_tables = [self._table(v) for v in self.new_rows]
        results = [self._declare(v) for v in given]
        body = self._turn([*states, *tables]) if self.turn else self.body
        g = self._tape(self.block)
        operands, into = [*states, *tables, *self.sliced], [*last, *new_tables, *results]
        g.emit("Scan", *operands, into=into, body=body, num_scan_inputs=len(self.sliced))
        for value, state in zip(last, states, strict=True):
            g.Identity(value, into=[state])
        self.stacked |= {v.name: found for v, found in zip(given, results, strict=True)}

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

    def _tape(self, block: Block) -> Tape:
        return Tape(block, role=Role.UPDATE, made_by="repeat")

    def _stack(self, op: Operator, split: Split) -> None:
        """Do an op for all steps."""
        operands = [None if v is None else self._outside(v) for v in op.inputs]
        (result,) = op.writes()
        made = self.stacked[result.name] = self._declare(result)
        declared = made.tensor_type
        g = Tape(self.block, role=op.role, made_by=op.made_by or "repeat")
        with at(op.where):
            split.forms[id(op)].emit(g, operands, made)
        made.tensor_type = declared  # inference does not see that -1 stands for the steps

    def _outside(self, v: Variable) -> Variable:
        """What stands for a variable around the Scan: all steps' values, or the only one."""
        if isinstance(v, Constant):
            return self.copies.of(v)
        return self.stacked[v.name] if v.name in self.stacked else self.block.vars[v.name]

    def _inside(self, v: Variable) -> Variable:
        """What stands for a variable in the body now."""
        if isinstance(v, Constant):
            return self.copies.of(v)
        if v.name not in self.current and v.name in self.stacked:
            self.current[v.name] = self.body.add_input(v.name, v.tensor_type)
            self.sliced.append(self.stacked[v.name])
        return self.current[v.name] if v.name in self.current else self.block.vars[v.name]

    def _copy(self, op: Operator, block: Block) -> None:
        """Copy an op: in the body, a variable that is assigned becomes a new value each time."""
        inside = block is self.body
        value = self._inside if inside else self._outside
        for v in op.reads() if op.definition.has_blocks else ():
            if not isinstance(v, Constant):
                self.copies.known[id(v)] = value(v)
        for v in op.writes():
            self.copies.known.pop(id(v), None)
        shape = widened(op) if inside else None
        reading = [None if v is None else value(self._widened(v, shape)) for v in op.inputs]
        copied = self.copies.op(op, block)
        copied.inputs = reading
        for old, made in zip(op.outputs, copied.outputs, strict=True):
            if inside and old is not None and made is not None:
                made.name, made.persistable = self.program.unused_name(old.name), False
                self.current[old.name] = made
        block.append(copied)

    def _widened(self, v: Variable, shape: Dims | None) -> Variable:
        """What stands for an operand that is better made as wide as the result ``shape``."""
        inner = v.name in self.current and v.name not in self.stacked
        if shape is None or inner or v.tensor_type.shape == shape:
            return v
        if isinstance(v, Constant):
            return self.program.constant(np.broadcast_to(v.value, shape).copy())
        if (v.name, shape) not in self.wide:
            self.wide[v.name, shape] = self._widen(v, shape)
        return self.wide[v.name, shape]

    def _widen(self, v: Variable, shape: Dims) -> Variable:
        """Make an operand as wide, around the Scan."""
        name, wide_type = self.program.unused_name(v.name + WIDE), TensorType(v.dtype, shape)
        wide = Variable(name, wide_type, block=self.block, where=v.where)
        g, given = self._tape(self.block), self._outside(v)
        if v.name in self.stacked:
            ones = [1] * (len(shape) - v.ndim)
            given = g.Reshape(given, [*self.lead, *ones, *v.shape]) if ones else given
            into = self.stacked[name] = self._declare(wide)
            g.emit("Expand", given, [*[1] * len(self.lead), *shape], into=[into])
            into.tensor_type = TensorType(v.dtype, (*self.dims, *shape))
        else:
            self.block.add_var(wide)
            g.emit("Expand", given, list(shape), into=[wide])
        return wide

    def _declare(self, v: Variable, is_data: bool = False) -> Variable:
        """A variable for the values of all steps."""
        tensor_type = TensorType(v.dtype, (*self.dims, *(v.tensor_type.shape or ())))
        return self._add(v, STEPS, tensor_type, is_data)

    def _table(self, v: Variable, is_data: bool = False) -> Variable:
        """A variable for the rows of a turn."""
        tensor_type = TensorType(v.dtype, (self.turn, *(v.tensor_type.shape or ())))
        return self._add(v, ROWS, tensor_type, is_data)

    def _add(
        self, v: Variable, suffix: str, tensor_type: TensorType, is_data: bool = False
    ) -> Variable:
        name = self.program.unused_name(v.name + suffix)
        found = Variable(name, tensor_type, block=self.block, where=v.where, is_data=is_data)
        self.block.add_var(found)
        return found


def _number(block: Block) -> Variable:
    """What a Program that is fed nothing is fed: the steps' numbers."""
    return Variable(NUMBER, TensorType(np.dtype("i8"), ()), block=block, where=UNKNOWN)


def _without_first(tensor_type: TensorType) -> TensorType:
    return TensorType(tensor_type.dtype, (tensor_type.shape or ())[1:])


def _once(variables: Iterable[Variable]) -> list[Variable]:
    return list({id(v): v for v in variables}.values())
