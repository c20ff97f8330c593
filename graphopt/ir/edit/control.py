"""Control flow on a tape: If, Loop and Scan whose bodies are Python functions, run once each.

A body gets a tape over its own block. It may use variables of the blocks around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from graphopt.ir.edit.clone import Copies
from graphopt.ir.model.block import Block
from graphopt.ir.model.schema import Attr
from graphopt.ir.model.tape import Operand, Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import Inferred, TensorType

Results: TypeAlias = Sequence[Operand]
I64, BOOL = TensorType(np.dtype("i8"), ()), TensorType(np.dtype("?"), ())


def block_of(
    g: Tape, inputs: Sequence[tuple[str, TensorType]], body: Callable[..., Results]
) -> Block:
    """The block that ``body(tape, *inputs)`` records; only what its results need is kept."""
    block = Block(g.program, g.block)
    inner = Tape(block, role=g.role, made_by=g.made_by, scratch=True)
    formals = [block.add_input(name, tensor_type) for name, tensor_type in inputs]
    results = body(inner, *formals)
    block.outputs = [v if isinstance(v, Variable) else inner.const(v) for v in results]
    inner.splice(block.outputs)
    return block


def cond(
    g: Tape,
    condition: Operand,
    then: Callable[[Tape], Results],
    orelse: Callable[[Tape], Results],
) -> list[Variable]:
    """The results of one of two bodies; both give the same number of results of equal dtypes."""
    branches = {"then_branch": block_of(g, (), then), "else_branch": block_of(g, (), orelse)}
    return _emit(g, "If", [condition], len(branches["then_branch"].outputs), branches)


def loop(
    g: Tape,
    trips: Operand,
    carried: Sequence[Variable],
    body: Callable[[Tape, Variable, list[Variable]], tuple[Results, Results]],
) -> list[Variable]:
    """``body(tape, i, values)`` for i below ``trips`` [] gives the next values, and results.

    Returns the last values, then each result of all trips stacked along a new first dim.
    """
    formals = [("i", I64), ("going", BOOL), *(("v", v.tensor_type) for v in carried)]

    def whole(inner: Tape, i: Variable, going: Variable, *values: Variable) -> Results:
        after, results = body(inner, i, list(values))
        return [inner.Identity(going), *after, *results]

    block = block_of(g, formals, whole)
    return _emit(g, "Loop", [trips, True, *carried], len(block.outputs) - 1, {"body": block})


def scan(
    g: Tape,
    states: Sequence[Variable],
    scanned: Sequence[Variable],
    body: Callable[[Tape, list[Variable], list[Variable]], tuple[Results, Results]],
) -> list[Variable]:
    """``body(tape, states, slices)`` along the first dim of ``scanned`` [t, ...].

    Gives the next states, and results. Returns the last states, then each result stacked to [t, …].
    """
    formals = [("s", v.tensor_type) for v in states] + [("x", slice_type(g, v)) for v in scanned]

    def whole(inner: Tape, *values: Variable) -> Results:
        after, results = body(inner, list(values[: len(states)]), list(values[len(states) :]))
        return [*after, *results]

    block = block_of(g, formals, whole)
    attrs = {"body": block, "num_scan_inputs": len(scanned)}
    return _emit(g, "Scan", [*states, *scanned], len(block.outputs), attrs)


def inline(g: Tape, block: Block, inputs: Sequence[Variable]) -> list[Variable]:
    """Record a block's ops on ``g``, over ``inputs`` in place of its own; returns its results."""
    copies = Copies(g.program, g.role)
    copies.known.update((id(v), x) for v, x in zip(block.inputs, inputs, strict=True))
    for op in block.ops:
        g.record(copies.op(op, g.block))
    return [copies.of(v) for v in block.outputs]


def slice_type(g: Tape, v: Variable, axis: int = 0) -> TensorType:
    """The type of v without one of its dims."""
    shape = v.tensor_type.shape
    dims = None if shape is None else (*shape[: axis % len(shape)], *shape[axis % len(shape) + 1 :])
    return Inferred(v.dtype, dims).closed(g.program.fresh_symbol)


def _emit(
    g: Tape, type: str, operands: Sequence[Operand], outputs: int, attrs: Mapping[str, Attr]
) -> list[Variable]:
    made = g.emit(type, *operands, outputs=outputs, **attrs)
    return [made] if isinstance(made, Variable) else list(made)
