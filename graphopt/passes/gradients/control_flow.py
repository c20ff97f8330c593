"""Gradients of If, Loop and Scan: control flow again.

A gradient's body computes the forward body's values again, from what its iteration started with,
then sweeps over them backwards. What iterations start with is kept by a further result of the
forward op, added only where a gradient reads it: a stack where all iterations have one shape, else
a sequence. What random ops of a body draw is kept in the same way; those of an If's branches draw
the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from graphopt.errors import GradientError
from graphopt.ir.edit import control
from graphopt.ir.edit.clone import Copies
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import ContainerType
from graphopt.ops.containers.sequence import empty_sequence, gradient_type, zeros
from graphopt.passes.gradients import redrawn
from graphopt.passes.gradients.iterations import (
    Iterations,
    OfLoop,
    OfScan,
    insert_before,
    typed_like,
)
from graphopt.passes.gradients.reverse import CONTROL_RULES, Results, Sweep, active_variables
from graphopt.passes.gradients.unbroadcast import sum_to

I64_MIN = np.iinfo(np.int64).min


def if_gradient(sweep: Sweep, op: Operator, results: Results, active: set[int]) -> None:
    """The gradient of the branch that was taken; zeros for what it does not use."""
    wanted = _active_captures(op, active)
    if not wanted:
        return

    def branch(block: Block) -> Callable[[Tape], control.Results]:
        def body(g: Tape) -> control.Results:
            known = captured_state(sweep.tape, op)
            inner = _Replay(sweep, g, block, known, redrawn.drawn_again)
            return [inner.gradient(v) for v in inner.swept(list(results), wanted)]

        return body

    then, orelse = (branch(op.attrs[f"{side}_branch"]) for side in ("then", "else"))
    grads = control.cond(sweep.tape, op.operand("cond"), then, orelse)
    for v, grad in zip(wanted, grads, strict=True):
        sweep.add(v, as_gradient(sweep.tape, grad, v))


def loop_gradient(sweep: Sweep, op: Operator, results: Results, active: set[int]) -> None:
    """A Loop over the same iterations, from the last to the first."""
    _Backwards(sweep, op, results, active, OfLoop(sweep.tape, op)).run()


def scan_gradient(sweep: Sweep, op: Operator, results: Results, active: set[int]) -> None:
    """A Scan over the same iterations, from the last to the first."""
    _Backwards(sweep, op, results, active, OfScan(sweep.tape, op)).run()


def sequence_map_gradient(sweep: Sweep, op: Operator, results: Results, active: set[int]) -> None:
    """The body's gradient at each position; what all positions share gets the sum."""
    g, block = sweep.tape, op.attrs["body"]
    given = [v for v in original(op).inputs if v is not None]
    operands = [v for v in op.inputs if v is not None]
    wanted = [k for k, v in enumerate(given) if id(v) in active]
    listed = [k for k in wanted if _is_sequence(operands[k])]
    shared = [k for k in wanted if not _is_sequence(operands[k])]
    captures = _active_captures(op, active)
    sums = [*(operands[k] for k in shared), *captures]
    state = captured_state(g, op)

    def body(g: Tape, i: Variable, held: list[Variable]) -> tuple[control.Results, control.Results]:
        seen = [g.SequenceAt(v, i) if _is_sequence(v) else g.Identity(v) for v in operands]
        known = {id(v): typed_like(x, v) for v, x in zip(block.inputs, seen, strict=True)}
        inner = _Replay(sweep, g, block, known | state, redrawn.refused)
        grads = [None if grad is None else g.SequenceAt(grad, i) for grad in results]
        inner.swept(grads, [block.inputs[k] for k in wanted] + captures)
        lists = [
            g.SequenceInsert(grad, inner.gradient(block.inputs[k]))
            for k, grad in zip(listed, held, strict=False)
        ]
        found = [*(block.inputs[k] for k in shared), *captures]
        totals = [
            _plus(g, total, inner.gradient(v), v)
            for v, total in zip(found, held[len(listed) :], strict=True)
        ]
        return [*lists, *totals], []

    start = [empty_sequence(g, operands[k].tensor_type) for k in listed]
    start += [zeros(g, v) for v in sums]
    made = control.loop(g, g.SequenceLength(operands[0]), start, body)
    reached = [*(given[k] for k in [*listed, *shared]), *captures]
    for v, grad in zip(reached, made, strict=True):
        sweep.add(v, as_gradient(g, grad, v))


def original(op: Operator) -> Operator:
    """The op that a view is a view of: what gradients reach are its operands.

    Raises:
        GradientError: the op is a replay between checkpoints, which shares its blocks.
    """
    op = op.origin or op
    if op.block is None and any(block.idx >= 0 for block in op.blocks()):
        raise GradientError(
            f"{op.type} between two checkpoints cannot be differentiated",
            operands=[(v.name, v.tensor_type) for v in op.writes() if v.name],
            where=op.where,
            fix=f"make the results of this {op.type} checkpoints",
        )
    return op


def _is_sequence(v: Variable) -> bool:
    return isinstance(v.tensor_type, ContainerType)


CONTROL_RULES.update(
    {
        "If": if_gradient,
        "Loop": loop_gradient,
        "Scan": scan_gradient,
        "SequenceMap": sequence_map_gradient,
    }
)


class _Replay:
    """A body's ops recorded again on a tape, and the gradients that a sweep over them finds.

    ``known`` says what stands for the body's inputs, and for state as it was; ``random`` records
    what stands for the random ops.
    """

    def __init__(
        self,
        outer: Sweep,
        g: Tape,
        block: Block,
        known: Mapping[int, Variable],
        random: redrawn.Again,
    ) -> None:
        assert g.scratch is not None
        self.g = g
        self.copies = Copies(g.program, g.role)
        self.copies.known.update(known)
        start = len(g.scratch)
        for op in block.ops:
            if not random(g, op, self.copies):
                g.scratch.append(self.copies.op(op, g.block))
        self.ops = g.scratch[start:]
        self.outputs = [self.copies.of(v) for v in block.outputs]
        self.sweep = Sweep(g, outer.refusals)

    def swept(self, grads: Sequence[Variable | None], wanted: Sequence[Variable]) -> list[Variable]:
        """Sweep with the gradients of the first outputs; returns ``wanted``."""
        for output, grad in zip(self.outputs, grads, strict=False):
            if grad is not None and not isinstance(output, Constant):
                self.sweep.add(output, as_gradient(self.g, grad, output))
        inputs = [self.copies.of(v) for v in wanted]
        self.sweep.run(self.ops, active_variables(self.ops, inputs))
        return list(wanted)

    def total(self, v: Variable) -> Variable | None:
        """What reached v."""
        return self.sweep.total(self.copies.of(v))

    def gradient(self, v: Variable) -> Variable:
        """What reached v; zeros if nothing did."""
        found = self.total(v)
        return as_gradient(self.g, zeros(self.g, v) if found is None else found, v)


def captured_state(g: Tape, op: Operator) -> dict[int, Variable]:
    """Copies of the state that an op's blocks read and that is assigned behind it, by id."""
    op = op.origin or op
    if op.block is None:
        return {}
    behind = op.block.ops[op.block.ops.index(op) + 1 :]
    assigned = {id(v) for later in behind for v in later.writes() if v.persistable}
    read = [v for block in op.blocks() for v in block.captures() if id(v) in assigned]
    return {id(v): _copy_before(g, op, v) for v in read}


def _copy_before(g: Tape, op: Operator, v: Variable) -> Variable:
    """A copy that is recorded before ``op`` if what is spliced reads it."""
    assert op.block is not None
    key = (id(op), f"copy of {v.name}")
    if key not in g.asked:
        tape = Tape(op.block, scratch=True, made_by="backward")
        g.asked[key] = tape.Identity(v)
        g.deferred.append((g.asked[key], partial(insert_before, g, op, tape)))
    return g.asked[key]


class _Backwards:
    """The gradient of a Loop or Scan as a Loop."""

    def __init__(
        self, sweep: Sweep, op: Operator, results: Results, active: set[int], way: Iterations
    ) -> None:
        self.sweep, self.g, self.op, self.way = sweep, sweep.tape, op, way
        self.block = way.block
        given = original(op).inputs[way.first :]
        self.given, self.sliced = given[: way.count], given[way.count :]
        padded = [*results, *[None] * (len(self.block.outputs) - way.outputs - len(results))]
        self.finals, self.stacks = padded[: way.count], padded[way.count :]
        self.captures = _active_captures(op, active)
        self.state = captured_state(sweep.tape, op)
        self.scanned = [k for k, v in enumerate(self.sliced) if id(v) in active]
        self.live = self._live({k for k, v in enumerate(self.given) if id(v) in active})

    def _live(self, live: set[int]) -> list[int]:
        """The carried values that depend on something active, in any iteration."""
        way, block = self.way, self.block
        slices = [block.inputs[way.inputs + way.count + k] for k in self.scanned]
        while True:
            inputs = [block.inputs[way.inputs + k] for k in live]
            active = active_variables(block.ops, [*inputs, *slices, *self.captures])
            results = block.outputs[way.outputs : way.outputs + way.count]
            grown = live | {k for k, v in enumerate(results) if id(v) in active}
            if grown == live:
                return sorted(live)
            live = grown

    def run(self) -> None:
        if not (self.live or self.scanned or self.captures):
            return
        g, way = self.g, self.way
        finals = [self._final(k) for k in self.live]
        sums = [zeros(g, v) for v in self.captures]
        trips = way.trips()

        def body(
            g: Tape, step: Variable, held: list[Variable]
        ) -> tuple[control.Results, control.Results]:
            return self._iteration(g, g.Sub(g.Sub(trips, 1), step), held)

        made = control.loop(g, trips, [*finals, *sums], body)
        for k, grad in zip(self.live, made, strict=False):
            start = self.given[k]
            if start is not None and start.tensor_type.is_float:
                self.sweep.add(start, as_gradient(g, grad, start))
        for v, grad in zip(self.captures, made[len(self.live) :], strict=False):
            self.sweep.add(v, as_gradient(g, grad, v))
        for k, stack in zip(self.scanned, made[len(self.live) + len(self.captures) :], strict=True):
            self._add_scanned(k, stack)

    def _final(self, k: int) -> Variable:
        grad = self.finals[k]
        if grad is not None:
            return grad
        last = self.op.outputs[k] if k < len(self.op.outputs) else None
        return zeros(self.g, self.way.carried()[k] if last is None else last)

    def _iteration(
        self, g: Tape, i: Variable, held: list[Variable]
    ) -> tuple[control.Results, control.Results]:
        """The gradients of what iteration i saw, given those of what it gave."""
        way = self.way
        seen = way.seen(g, i)
        known = {id(v): x for v, x in zip(self.block.inputs, seen, strict=True)}
        inner = _Replay(self.sweep, g, self.block, known | self.state, way.again(i))
        grads: list[Variable | None] = [None] * len(self.block.outputs)
        for k, d in zip(self.live, held, strict=False):
            grads[way.outputs + k] = d
        for k, stack in enumerate(self.stacks):
            if stack is not None:
                grads[way.outputs + way.count + k] = way.gradient_of_result(g, stack, k, i)
        values = [seen[way.inputs + k] for k in self.live]
        slices = [seen[way.inputs + way.count + k] for k in self.scanned]
        inner.swept(grads, [*values, *slices, *self.captures])
        sums = []
        for v, total in zip(self.captures, held[len(self.live) :], strict=True):
            found = inner.total(v)
            sums.append(total if found is None else _plus(g, total, found, v))
        results = [inner.gradient(v) for v in values] + sums
        return results, [g.Reshape(inner.gradient(x), [-1]) for x in slices]

    def _add_scanned(self, k: int, stack: Variable) -> None:
        """The slices' gradients, last iteration first, as the gradient of the scanned operand."""
        assert isinstance(self.way, OfScan)
        g, x = self.g, self.way.scanned[k]
        axis = self.way.axis("input", k, x)
        if not self.way.backwards("input", k):
            stack = g.Slice(stack, [-1], [I64_MIN], [0], [-1])
        order = [axis, *(n for n in range(x.ndim) if n != axis)] if axis else []
        dims = g.dims(*[g.dim_of(x, n) for n in order]) if axis else g.shape_of(x)
        whole = g.Reshape(stack, dims, allowzero=1)
        if axis:
            whole = g.Transpose(whole, perm=np.argsort(order).tolist())
        given = self.sliced[k]
        assert given is not None
        self.sweep.add(given, typed(whole, x))


def _plus(g: Tape, total: Variable, found: Variable, like: Variable) -> Variable:
    both = Sweep(g, [])
    both.add(like, total)
    both.add(like, found if isinstance(like.tensor_type, ContainerType) else sum_to(g, found, like))
    result = both.total(like)
    assert result is not None
    return result


def as_gradient(g: Tape, x: Variable, of: Variable) -> Variable:
    """x, known to have the type of a gradient of ``of``.

    What is made around this body is copied: in the other branch of an If it has another type.
    """
    kind = gradient_type(of)
    if x.tensor_type != kind and x.block is not g.block:
        x = g.Identity(x)
    x.tensor_type = kind
    return x


def _active_captures(op: Operator, active: set[int]) -> list[Variable]:
    found = {id(v): v for block in op.blocks() for v in block.captures() if id(v) in active}
    return list(found.values())
