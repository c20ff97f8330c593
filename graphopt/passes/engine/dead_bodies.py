"""The results, carried values and operands that a control-flow op can do without."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeAlias, TypeVar

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.reach import needed_ops
from graphopt.ir.model.variable import Variable

Trim: TypeAlias = Callable[[Operator], None]
T = TypeVar("T")


def trim_if(op: Operator) -> None:
    """A result that nobody reads is none of the branches' results."""
    chosen = _read_results(op)
    op.outputs = _pick(op.outputs, chosen)
    for block in op.blocks():
        block.outputs = _pick(block.outputs, chosen)


def trim_loop(op: Operator) -> None:
    """A carried value goes if it only feeds itself, a stack if nobody reads it."""
    body: Block = op.attrs["body"]
    count = len(op.inputs) - 2
    carried = list(zip(body.inputs[2:], body.outputs[1 : 1 + count], strict=True))
    chosen, _ = _needed(body, op, carried, body.outputs[:1], 1)
    if len(chosen) == len(body.outputs) - 1:
        return
    states = [k for k in chosen if k < count]
    op.inputs = [*op.inputs[:2], *_pick(op.inputs[2:], states)]
    op.outputs = _pick(op.outputs, chosen)
    body.inputs = [*_forget(body, body.inputs[:2], body.inputs[2:], states)]
    body.outputs = [body.outputs[0], *_pick(body.outputs[1:], chosen)]


def trim_scan(op: Operator) -> None:
    """A state goes if it only feeds itself, a stack or a slice if nobody reads it."""
    body: Block = op.attrs["body"]
    count = len(op.inputs) - op.attrs["num_scan_inputs"]
    carried = list(zip(body.inputs[:count], body.outputs[:count], strict=True))
    chosen, read = _needed(body, op, carried, (), 0)
    states = [k for k in chosen if k < count]
    stacks = [k - count for k in chosen if k >= count]
    scanned = [k for k in range(count, len(op.inputs)) if body.inputs[k] in read]
    scanned = scanned or [count]  # one has to say how many slices there are
    op.inputs = _pick(op.inputs, [*states, *scanned])
    op.outputs = _pick(op.outputs, chosen)
    body.inputs = _forget(body, [], body.inputs, [*states, *scanned])
    body.outputs = _pick(body.outputs, chosen)
    op.attrs["num_scan_inputs"] = len(scanned)
    for side, kept in (("input", [k - count for k in scanned]), ("output", stacks)):
        for name in (f"scan_{side}_axes", f"scan_{side}_directions"):
            if op.attrs.get(name):
                op.attrs[name] = _pick(op.attrs[name], kept)


TRIM: dict[str, Trim] = {"If": trim_if, "Loop": trim_loop, "Scan": trim_scan}


def _read_results(op: Operator) -> list[int]:
    """The positions of the results that somebody reads."""
    return [k for k, v in enumerate(op.outputs) if v is not None and v.uses]


def _needed(
    body: Block,
    op: Operator,
    carried: Sequence[tuple[Variable, Variable]],
    always: Iterable[Variable],
    first: int,
) -> tuple[list[int], set[Variable]]:
    """The results of the op to keep: those that are read, and what the body needs for them.

    And all variables that the body reads for these. Result k is the body's k + ``first``;
    ``carried`` are formals and their next values.
    """
    results = body.outputs[first:]
    found = set(_read_results(op))
    while True:
        wanted = [*always, *(results[k] for k in found)]
        needed = needed_ops(body.ops, wanted)[1].union(wanted)
        grown = found.union(k for k, (formal, _) in enumerate(carried) if formal in needed)
        if grown == found:
            return sorted(found), needed
        found = grown


def _pick(values: Sequence[T], chosen: Iterable[int]) -> list[T]:
    return [values[k] for k in chosen if k < len(values)]


def _forget(
    body: Block, first: list[Variable], formals: list[Variable], chosen: Collection[int]
) -> list[Variable]:
    """The formals to keep; the others are no variables of the body any more."""
    kept = [*first, *(formals[k] for k in chosen)]
    names = {v.name for v in kept}
    for v in formals:
        if v.name not in names:
            body.vars.pop(v.name, None)
    return kept
