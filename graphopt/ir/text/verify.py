"""The invariants of a Program, checked between passes in tests and before lowering."""

from __future__ import annotations

from collections import Counter

from graphopt.errors import VerifyError
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Constant, Variable


def verify(program: Program) -> None:
    """Check that every operand is defined above its use and everything is registered once.

    Also that variables know their maker and their uses, and that a Step assigns nothing twice.

    Raises:
        VerifyError: an invariant is broken; the message names the op and its line.
    """
    _verify_block(program.global_block(), set())
    _verify_links(program)
    if isinstance(program, Step):
        _verify_step(program)


def _verify_links(program: Program) -> None:
    """Variables know the ops that make and read them, and no others."""
    makers: dict[Variable, Operator] = {}
    uses: dict[Variable, Counter[Operator | Block]] = {}
    for block in program.blocks:
        for v in block.outputs:
            uses.setdefault(v, Counter())[block] += 1
        for op in block.ops:
            makers.update((v, op) for v in op.writes() if not v.persistable)
            for v in op.operands():
                uses.setdefault(v, Counter())[op] += 1
    declared = [v for block in program.blocks for v in block.vars.values()]
    for v in {*declared, *makers, *uses}:
        if v.maker is not makers.get(v):
            made = makers.get(v)
            raise VerifyError(f"{v.name} does not know its maker: {v.maker!r} for {made!r}")
        if v.uses != uses.get(v, {}):
            raise VerifyError(f"{v.name} does not know its uses: {v.uses} for {uses.get(v)}")


def _verify_step(step: Step) -> None:
    """Every value has a variable of its own."""
    for op in step.global_block().ops:
        for v in op.writes():
            if v.persistable:
                raise _broken(op, f"a step assigns {v.name} in place")


def _verify_block(block: Block, outer: set[int]) -> None:
    made = {id(v) for op in block.ops for v in op.writes() if not v.persistable}
    defined = outer | {id(v) for v in block.vars.values() if id(v) not in made}
    for op in block.ops:
        if op.block is not block:
            raise _broken(op, "the op does not know its block")
        for variable in op.operands():
            _check_operand(op, variable, defined)
        for inner in op.blocks():
            _verify_inner(op, inner, defined)
        for variable in op.writes():
            _check_result(op, variable, defined)
            defined.add(id(variable))
    for variable in block.outputs:
        _check_defined(block, variable, defined)


def _verify_inner(op: Operator, inner: Block, defined: set[int]) -> None:
    if inner.parent is not op.block:
        raise _broken(op, "a block does not know the block around it")
    if any(v.persistable for inside in inner.ops for v in inside.writes()):
        raise _broken(op, "a block of a control-flow op assigns state")
    _verify_block(inner, defined)


def _check_defined(block: Block, variable: Variable, defined: set[int]) -> None:
    if not isinstance(variable, Constant) and id(variable) not in defined:
        raise VerifyError(f"{variable.name}, a result of block {block.idx}, is not defined in it")


def _check_operand(op: Operator, variable: Variable, defined: set[int]) -> None:
    if isinstance(variable, Constant):
        if variable.value.flags.writeable:
            raise _broken(op, f"constant {variable.name} can be written to")
    elif id(variable) not in defined:
        raise _broken(op, f"{variable.name} is used before it is defined")


def _check_result(op: Operator, variable: Variable, defined: set[int]) -> None:
    if isinstance(variable, Constant):
        raise _broken(op, f"constant {variable.name} is assigned")
    if variable.block.vars.get(variable.name) is not variable:
        raise _broken(op, f"{variable.name} is not registered in its block")
    if id(variable) in defined and not variable.persistable:
        raise _broken(op, f"{variable.name} is assigned twice and is not persistable")


def _broken(op: Operator, what: str) -> VerifyError:
    return VerifyError(f"{what}, in {op!r}", where=op.where, fix="this is a bug: please report it")
