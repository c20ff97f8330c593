"""Copies of a Program: whole, of chosen ops, or of the forward part in test mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from graphopt.ir.operator import Operator, Role
from graphopt.ir.variable import Constant, Parameter, Variable

if TYPE_CHECKING:
    from graphopt.ir.program import Program


def copy(program: Program, keep: Callable[[Operator], bool] = lambda op: True) -> Program:
    """A Program with the ops that ``keep`` chooses and the variables they and the user need."""
    new = type(program)()
    new.random_seed, new.family = program.random_seed, program.family
    new.take_counters(program)
    for old in program.blocks[1:]:
        new.add_block(old.parent_idx)
    for old, block in zip(program.blocks, new.blocks, strict=True):
        kept = [op for op in old.ops if keep(op)]
        made = {v.name for op in old.ops for v in op.writes()}
        live = {v.name for op in kept for v in (*op.reads(), *op.writes())}
        for variable in old.vars.values():
            if variable.name in live or variable.name not in made or variable.persistable:
                block.add_var(copy_variable(variable, new))
        for op in kept:
            block.append(copy_op(op, new))
    return new


def copy_variable(variable: Variable, program: Program) -> Variable:
    """The same variable in another Program."""
    block = program.blocks[variable.block.idx]
    if isinstance(variable, Parameter):
        parameter = Parameter(
            variable.name,
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
        variable.name,
        variable.tensor_type,
        block=block,
        where=variable.where,
        persistable=variable.persistable,
        stop_gradient=variable.stop_gradient,
        is_data=variable.is_data,
    )


def copy_op(op: Operator, program: Program) -> Operator:
    """The same op over another Program's variables of the same names."""
    new = Operator(
        op.definition,
        [None if v is None else _counterpart(v, program) for v in op.inputs],
        [None if v is None else _counterpart(v, program) for v in op.outputs],
        dict(op.attrs),
        op.role,
        op.where,
        op.made_by,
    )
    new.scope = op.scope
    return new


def _counterpart(variable: Variable, program: Program) -> Variable:
    if isinstance(variable, Constant):
        return program.constant(variable.value)
    return program.blocks[variable.block.idx].vars[variable.name]


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
