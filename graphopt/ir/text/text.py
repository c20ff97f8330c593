"""How a Program prints: ASCII, deterministic, one op per line, sections by role."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.schema import Attr, is_block, is_default
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Constant, Parameter, Variable
from graphopt.ir.types.types import LONG_NAMES, dtype_text, from_onnx_dtype, quoted

if TYPE_CHECKING:
    from graphopt.ir.model.block import Block
    from graphopt.ir.model.program import Program

Line: TypeAlias = tuple[str, str]  # the text, and the location beside it
MAX_LITERAL = 8
NATURAL_DTYPES = ("float32", "int64", "bool")
DTYPE_ATTRS = ("to", "dtype")
WIDTH = 72  # the column where locations start


def print_program(program: Program, where: bool = True) -> str:
    """The whole Program.

    >>> from graphopt.ir.model.program import Program
    >>> p = Program()
    >>> x = p.global_block().create_var("x", [None, 4])
    >>> x.is_data = True
    >>> y = (x + 1.0) * x
    >>> print(p.text(where=False))
    program : opset 21, 2 ops, 1 feed, 0 params
      feed x : f32[N, 4]
      -- forward
      add_0 : f32[N, 4] = Add(x, 1.0)
      mul_0 : f32[N, 4] = Mul(add_0, x)
    """
    lines = [(header(program), ""), *_indented(_block_lines(program.global_block(), None))]
    if isinstance(program, Step):
        lines += _indented((line, "") for line in _given(program))
    if not where:
        return "\n".join(left for left, _ in lines)
    return "\n".join(f"{left:<{WIDTH}} # {right}" if right else left for left, right in lines)


def header(program: Program) -> str:
    """The first line: opset and counts."""
    feeds = sum(v.is_data for v in program.list_vars())
    ops = sum(len(b.ops) for b in program.blocks)
    counts = [
        _count(ops, "op"), _count(feeds, "feed"), _count(len(program.all_parameters()), "param")
    ]  # fmt: skip
    kind = "step" if isinstance(program, Step) else "program"
    return f"{kind} : opset {program.opset}, {', '.join(counts)}"


def _given(step: Step) -> Iterator[str]:
    """``-> fetched, state <- its next value``, and comments on what else the runtime binds."""
    next_state = [f"{quoted(v.name)} <- {operand_text(new)}" for v, new in step.next_state.items()]
    yield f"-> {', '.join([*map(operand_text, step.fetch), *next_state])}".rstrip()
    for row in step.rows:
        yield (
            f"# {row.table.name}[{row.count.name}] {row.part}: reads {row.row.name}, "
            f"becomes {row.new_row.name}; {row.seen.name} are seen"
        )
    for v, state in step.borrowed.items():
        yield f"# {v.name} lies where {state.name} does"
    if step.donated:
        yield f"# written over: {', '.join(sorted(v.name for v in step.donated))}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _indented(lines: Iterable[Line]) -> Iterator[Line]:
    return (("  " + left, right) for left, right in lines)


def _block_lines(block: Block, role: Role | None) -> Iterator[Line]:
    made = {v.name for op in block.ops for v in op.writes()}
    made.update(v.name for v in block.inputs)
    for variable in block.vars.values():
        if variable.persistable or variable.is_data or variable.name not in made:
            yield (
                f"{kind_of(variable)} {quoted(variable.name)} : {_type(variable)}",
                str(variable.where),
            )
    for op in block.ops:
        if op.role != role:
            role = op.role
            yield f"-- {role}", ""
        yield from op_lines(op)
        for name in op.attrs if op.definition.has_blocks else ():
            if is_block(op.definition, name):
                yield from _indented(_inner_lines(name, op.attrs[name], role))


def _inner_lines(name: str, block: Block, role: Role) -> Iterator[Line]:
    """A block of a control-flow op: ``body(i : i64[]):``, its lines, ``-> results``."""
    inputs = ", ".join(f"{quoted(v.name)} : {_type(v)}" for v in block.inputs)
    yield f"{name}({inputs}):", ""
    yield from _indented(_block_lines(block, role))
    yield f"  -> {', '.join(map(operand_text, block.outputs))}".rstrip(), ""


def _type(variable: Variable) -> str:
    return str(variable.tensor_type)


def kind_of(variable: Variable) -> str:
    """The word a declared variable's line begins with."""
    if isinstance(variable, Parameter):
        return "param" if variable.trainable else "frozen"
    if variable.persistable:
        return "state"
    return "feed" if variable.is_data else "var"


def op_lines(op: Operator) -> Iterator[Line]:
    """One line for the op, one more for each further result."""
    where = f"from {op.where}" if op.made_by else str(op.where)
    call = f"{op.type}({', '.join([*map(operand_text, op.inputs), *_attr_texts(op)])})"
    results = list(op.writes())
    if results and all(v.persistable for v in results):
        targets = ["_" if v is None else quoted(v.name) for v in op.outputs]
        yield f"{', '.join(targets)} <- {call}", where
        return
    for position, variable in enumerate(op.outputs):
        left = "_" if variable is None else quoted(variable.name)
        if variable is not None and variable.persistable:
            left += " <-"
        elif variable is not None:
            left += f" : {_type(variable)}"
        yield (f"{left} = {call}", where) if position == 0 else (left, "")


def operand_text(variable: Variable | None) -> str:
    """A name, a literal, or _ for an omitted input."""
    if variable is None:
        return "_"
    return literal_text(variable.value) if isinstance(variable, Constant) else quoted(variable.name)


def literal_text(value: np.ndarray) -> str:
    """The shortest digits that read back as the same value in its own dtype.

    >>> literal_text(np.float32(1e-4)), literal_text(np.array([1, 2])), literal_text(np.float64(2))
    ('1e-04', '[1, 2]', 'f64(2.0)')
    """
    value = np.asarray(value)
    natural = value.dtype.name in NATURAL_DTYPES
    empty = value.size == 0 and (value.dtype != np.int64 or value.ndim > 1)
    if value.size > MAX_LITERAL or empty:
        return f"const {dtype_text(value.dtype)}[{', '.join(map(str, value.shape))}]"
    return _nested(value) if natural else f"{_literal_dtype(value)}({_nested(value)})"


def _literal_dtype(value: np.ndarray) -> str:
    return "str" if value.dtype.kind in "OUS" else dtype_text(value.dtype)


def _nested(value: np.ndarray) -> str:
    if value.ndim:
        return f"[{', '.join(_nested(value[k, ...]) for k in range(len(value)))}]"
    if value.dtype.kind == "b":
        return "true" if value else "false"
    if value.dtype.kind in "iu":
        return str(int(value))
    if value.dtype.kind in "OUS":
        return _string_text(value.item())
    if value.dtype.kind == "c":
        return f"[{float_text(value.real)}, {float_text(value.imag)}]"
    return float_text(value)


def _string_text(item: object) -> str:
    return json.dumps(item.decode(errors="replace") if isinstance(item, bytes) else str(item))


def float_text(value: np.ndarray) -> str:
    """A float with the fewest digits that its dtype needs."""
    if value.dtype.itemsize < 4:
        value = value.astype(np.float32)
    text = str(value.item()) if value.dtype == np.float64 else str(np.float32(value))
    return text if re.search(r"[.einf]", text) else text + ".0"


def _attr_texts(op: Operator) -> list[str]:
    return [
        f"{name}={attr_text(name, value)}"
        for name, value in op.attrs.items()
        if not is_default(op.definition, name, value) and not is_block(op.definition, name)
    ]


def attr_text(name: str, value: Attr) -> str:
    """An attribute's value as it is written and read."""
    if isinstance(value, np.ndarray):
        return literal_text(value)
    if isinstance(value, int):
        short = dtype_text(from_onnx_dtype(value)) if name in DTYPE_ATTRS else ""
        return short if short in LONG_NAMES else str(int(value))
    if isinstance(value, list):
        return f"[{', '.join(attr_text('', v) for v in value)}]"
    if isinstance(value, float):
        return float_text(np.asarray(value, np.float32))
    return json.dumps(value) if isinstance(value, str) else str(value)
