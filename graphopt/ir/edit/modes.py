"""A Program switched between training and inference, in place."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import ArgumentError
from graphopt.ir.edit.clone import TEST_MODE
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.seeds import COUNTER, next_seed
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType
from graphopt.ir.types.where import here

if TYPE_CHECKING:
    from graphopt.ir.model.program import Program


def train(program: Program) -> None:
    """Let Dropout drop, and BatchNormalization normalize by the batch and assign its statistics.

    A body of a control-flow op cannot assign state: a BatchNormalization there stays as it is, and
    a warning says so. All or nothing.

    Raises:
        ArgumentError: the Program has gradients already, or statistics that are no state.
    """
    ops = _forward(program)
    normalizations = [op for op in ops if op.type == "BatchNormalization"]
    outside = [op for op in normalizations if op.block is program.global_block()]
    for op in outside:
        _check_statistics(op)
    for op in outside:
        op.attrs["training_mode"] = 1
        op.outputs = [op.outputs[0], op.operand("input_mean"), op.operand("input_var")]
    for position, op in enumerate(ops):
        if op.type == "Dropout":
            _drop(program, op, position)
    program.version += 1
    if len(outside) < len(normalizations):
        names = ", ".join(v.name for op in normalizations if op not in outside for v in op.writes())
        warnings.warn(
            f"inside bodies, which cannot assign state, these stay in test mode: {names}",
            stacklevel=3,
        )


def evaluate(program: Program) -> None:
    """Let Dropout pass its input through, and BatchNormalization use its running statistics.

    Raises:
        ArgumentError: the Program has gradients already.
    """
    for op in _forward(program):
        if op.type in TEST_MODE:
            TEST_MODE[op.type](op)
    program.version += 1


def _forward(program: Program) -> list[Operator]:
    """The ops of all blocks, in a Program that is not differentiated yet."""
    ops = [op for block in program.blocks for op in block.ops]
    differentiated = next((op for op in ops if op.role is Role.BACKWARD), None)
    if differentiated is not None:
        raise ArgumentError(
            "the Program has gradients, which belong to the mode that it is in",
            where=differentiated.where,
            fix="switch the mode before minimize; for inference use program.clone(for_test=True)",
        )
    return ops


def _check_statistics(op: Operator) -> None:
    statistics = [op.operand("input_mean"), op.operand("input_var")]
    if statistics[0] is statistics[1] or not all(v.persistable for v in statistics):
        raise ArgumentError(
            "a BatchNormalization cannot train: its mean and variance are not two states",
            operands=[(v.name, v.tensor_type) for v in statistics],
            where=op.where,
            fix="keep its statistics as initializers of their own in the file",
        )


def _drop(program: Program, op: Operator, position: int) -> None:
    """Switch a Dropout on, and give it a seed if it has none."""
    count_runs(program)
    own = op.attrs.get("seed", 0)
    op.attrs["seed"] = next_seed(program, own, position)
    op.inputs = [*[*op.inputs, None, None][:2], program.constant(np.array(True))]


def count_runs(program: Program) -> None:
    """Make the Program count the runs that draw, if it does not yet: 0 in a new scope."""
    block = program.global_block()
    counter = block.vars.get(COUNTER)
    if counter is not None and any(v is counter for op in block.ops for v in op.writes()):
        return
    if counter is None:
        counter = Variable(
            COUNTER, TensorType(np.dtype("i8"), ()), block=block, where=here(),
            persistable=True, stop_gradient=True,
        )  # fmt: skip
        block.add_var(counter)
    tape = Tape(block, role=Role.SCHEDULE, scratch=True)
    tape.emit("Add", counter, 1, into=[counter])
    assert tape.scratch is not None
    tape.scratch[0].scope = "/"
    block.insert(0, tape.scratch[0])
