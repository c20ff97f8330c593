"""Copies of a Program: whole, of chosen ops, or of the forward part in test mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.schema import is_block
from graphopt.ir.model.step import Row, Step
from graphopt.ir.model.variable import Constant, Parameter, Variable

if TYPE_CHECKING:
    from graphopt.ir.model.program import Program


def copy(program: Program, keep: Callable[[Operator], bool] = lambda op: True) -> Program:
    """A Program with the ops that ``keep`` chooses and the variables they and the user need."""
    new = type(program)()
    new.random_seed, new.family = program.random_seed, program.family
    new.take_counters(program)
    old, block = program.global_block(), new.global_block()
    kept = [op for op in old.ops if keep(op)]
    made = {v.name for op in old.ops for v in op.writes()}
    live = {v.name for op in kept for v in (*op.reads(), *op.writes())}
    copies = Copies(new)
    for variable in old.vars.values():
        if variable.name in live or variable.name not in made or variable.persistable:
            block.add_var(copies.new_variable(variable, block))
    for op in kept:
        block.append(copies.op(op, block))
    return new


class Copies:
    """What stands for the variables of a Program, in another one or under other names.

    With a ``role`` the ops are recorded anew: they have this role, made by 'recompute'.
    """

    def __init__(self, program: Program, role: Role | None = None) -> None:
        self.program = program
        self.role = role
        self.known: dict[int, Variable] = {}

    def of(self, variable: Variable) -> Variable:
        """What stands for a variable; the variable itself if nothing does."""
        if isinstance(variable, Constant) and variable.program is not self.program:
            return self.program.shared_constant(variable)
        return self.known.get(id(variable), variable)

    def op(
        self, op: Operator, block: Block, outputs: Sequence[Variable | None] | None = None
    ) -> Operator:
        """A copy of an op over what stands for its variables.

        Its results are new variables, or ``outputs`` where they are given. A result that something
        stands for already is assigned to that.
        """
        if outputs is None:
            outputs = [None if v is None else self._result(v, block) for v in op.outputs]
        new = Operator(
            op.definition,
            [None if v is None else self.of(v) for v in op.inputs],
            outputs,
            dict(op.attrs),
            self.role or op.role,
            op.where,
            "recompute" if self.role else op.made_by,
        )
        for name in op.attrs if op.definition.has_blocks else ():
            if is_block(op.definition, name):
                new.attrs[name] = self.block(op.attrs[name], block)
        new.scope = op.scope
        return new

    def block(self, old: Block, parent: Block) -> Block:
        """A copy of a block inside ``parent``."""
        block = Block(self.program, parent)
        block.inputs = [self.new_variable(v, block) for v in old.inputs]
        for variable in block.inputs:
            block.add_var(variable)
        for op in old.ops:
            block.append(self.op(op, block))
        block.outputs = [self.of(v) for v in old.outputs]
        return block

    def _result(self, variable: Variable, block: Block) -> Variable:
        found = self.known.get(id(variable))
        return self.new_variable(variable, block) if found is None else found

    def new_variable(self, variable: Variable, block: Block) -> Variable:
        """A variable of ``block`` that stands for ``variable`` from now on."""
        name = variable.name
        if variable.program is self.program:
            name = self.program.unused_name(name) if name else name
        self.known[id(variable)] = copy_variable(variable, block, name)
        return self.known[id(variable)]


def copy_variable(variable: Variable, block: Block, name: str) -> Variable:
    """A copy of a variable in another block."""
    if isinstance(variable, Parameter):
        parameter = Parameter(
            name,
            variable.tensor_type,
            block=block,
            where=variable.where,
            trainable=variable.trainable,
            learning_rate=variable.optimize_attr["learning_rate"],
            regularizer=variable.regularizer,
            need_clip=variable.need_clip,
        )
        parameter.stop_gradient = variable.stop_gradient
        return parameter
    return Variable(
        name,
        variable.tensor_type,
        block=block,
        where=variable.where,
        persistable=variable.persistable,
        stop_gradient=variable.stop_gradient,
        is_data=variable.is_data,
    )


def copy_step(step: Step) -> Step:
    """A Step of its own with equal ops, whose variables have the names of those here."""
    new = Step()
    new.random_seed, new.family, new.fed = step.random_seed, step.family, step.fed
    new.take_counters(step)
    copies, block = Copies(new), new.global_block()
    made = {v for op in step.global_block().ops for v in op.writes()}
    for v in step.global_block().vars.values():
        if v not in made:
            block.add_var(copies.new_variable(v, block))
    for op in step.global_block().ops:
        block.append(copies.op(op, block))
    of = copies.of
    new.fetch = [of(v) for v in step.fetch]
    new.next_state = {of(v): of(value) for v, value in step.next_state.items()}
    new.rows = [
        Row(of(r.table), of(r.count), of(r.row), of(r.new_row), of(r.seen), r.part)
        for r in step.rows
    ]
    new.borrowed = {of(v): of(state) for v, state in step.borrowed.items()}
    new.donated = frozenset(map(of, step.donated))
    new.rests = {of(v): of(state) for v, state in step.rests.items()}
    new.slices = {name: of(v) for name, v in step.slices.items()}
    new.stacked = tuple(map(of, step.stacked))
    return new


def for_test(program: Program) -> Program:
    """The forward part, with every op that trains differently in its test mode."""
    gone: set[str] = set()

    def keep(op: Operator) -> bool:
        lost = op.role is not Role.FORWARD or any(
            v.name in gone and not v.persistable for v in op.reads()
        )
        if lost:
            gone.update(v.name for v in op.writes())
        return not lost

    test = copy(program, keep)
    for block in test.blocks:
        for op in block.ops:
            if op.type in TEST_MODE:
                TEST_MODE[op.type](op)
    return test


def _test_dropout(op: Operator) -> None:
    assert op.block is not None
    inputs = [*op.inputs, None, None][:2]
    op.inputs = [*inputs, op.block.program.constant(np.array(False))]


def _test_batch_norm(op: Operator) -> None:
    op.attrs["training_mode"] = 0
    op.outputs = op.outputs[:1]


TEST_MODE: dict[str, Callable[[Operator], None]] = {
    "BatchNormalization": _test_batch_norm,
    "Dropout": _test_dropout,
}
