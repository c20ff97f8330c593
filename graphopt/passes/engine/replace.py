"""One variable in the place of another, and one op in the place of another's results."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable


def read_instead(step: Step, target: Variable, variable: Variable) -> None:
    """Have all who read ``variable`` read ``target``, but for what the Step itself gives.

    That keeps its name, so whoever runs the Step finds it.
    """
    for user in list(variable.uses):
        if isinstance(user, Operator):
            user.inputs = [target if v is variable else v for v in user.inputs]
        elif user is not step.global_block():
            user.outputs = [target if v is variable else v for v in user.outputs]


def make_results(g: Tape, made: Sequence[Variable | None], own: Sequence[Variable | None]) -> None:
    """Have the ops of a scratch tape make the variables ``own`` in place of those in ``made``.

    A result that no op of the tape makes, or that is asked for twice, is copied.
    """
    assert g.scratch is not None
    stands: dict[Variable, Variable] = {}
    for found, result in zip(made, own, strict=False):
        if found is None or result is None:
            continue
        if found in stands or not _rename(g.scratch, found, result):
            known = result.tensor_type
            g.emit("Identity", stands.get(found, found), into=[result])
            result.tensor_type = known
        else:
            stands[found] = result


def _rename(ops: Sequence[Operator], found: Variable, own: Variable) -> bool:
    """Put ``own`` in the place of ``found``; False if no op makes it, or a body reads it."""
    maker = next((op for op in ops if any(v is found for v in op.writes())), None)
    bodies = [block for op in ops for block in op.blocks()]
    if maker is None or any(v is found for block in bodies for v in block.captures()):
        return False
    maker.outputs = [own if v is found else v for v in maker.outputs]
    for op in ops:
        if any(v is found for v in op.operands()):
            op.inputs = [own if v is found else v for v in op.inputs]
    return True


def is_read(step: Step, variable: Variable) -> bool:
    """Whether anything inside the Step reads the variable."""
    own: Block = step.global_block()
    return any(user is not own for user in variable.uses)
