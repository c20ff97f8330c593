"""Gradients of If, Loop and Scan: control flow again.

A gradient's body computes the forward body's values again, from what its iteration started with,
then sweeps over them backwards. What iterations start with is kept by a further result of the
forward op, added only where a gradient reads it: a stack where all iterations have one shape, else
a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from graphopt.errors import GradientError
from graphopt.ir import control
from graphopt.ir.block import Block
from graphopt.ir.clone import Copies
from graphopt.ir.operator import Operator
from graphopt.ir.tape import Tape, add_result, typed
from graphopt.ir.types import ContainerType, TensorType, container, to_onnx_dtype
from graphopt.ir.variable import Constant, Variable
from graphopt.ops.sequence import zeros
from graphopt.passes.broadcast import sum_to
from graphopt.passes.sweep import CONTROL_RULES, Results, Sweep, active_variables

RANDOM = frozenset(
    {"Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
     "RandomUniformLike"}
)  # fmt: skip
I64_MIN = np.iinfo(np.int64).min


def if_gradient(sweep: Sweep, op: Operator, results: Results, active: set[int]) -> None:
    """The gradient of the branch that was taken; zeros for what it does not use."""
    wanted = _active_captures(op, active)
    if not wanted:
        return

    def branch(block: Block) -> Callable[[Tape], control.Results]:
        def body(g: Tape) -> control.Results:
            inner = _Replay(sweep, g, block, [])
            return [inner.gradient(v) for v in inner.swept(list(results), wanted)]

        return body

    then, orelse = (branch(op.attrs[f"{side}_branch"]) for side in ("then", "else"))
    grads = control.cond(sweep.tape, op.operand("cond"), then, orelse)
    for v, grad in zip(wanted, grads, strict=True):
        sweep.add(v, typed_like(grad, v))


def loop_gradient(sweep: Sweep, op: Operator, results: Results, active: set[int]) -> None:
    """A Loop over the same iterations, from the last to the first."""
    _Backwards(sweep, op, results, active, _Loop(sweep.tape, op)).run()


def scan_gradient(sweep: Sweep, op: Operator, results: Results, active: set[int]) -> None:
    """The same for a Scan."""
    _Backwards(sweep, op, results, active, _Scan(sweep.tape, op)).run()


CONTROL_RULES.update({"If": if_gradient, "Loop": loop_gradient, "Scan": scan_gradient})


class _Replay:
    """A body's ops recorded again on a tape, and the gradients that a sweep over them finds."""

    def __init__(
        self,
        outer: Sweep,
        g: Tape,
        block: Block,
        inputs: Sequence[Variable],
    ) -> None:
        assert g.scratch is not None
        self.g, self.block = g, block
        copies = Copies(g.program, g.role)
        copies.known.update((id(v), x) for v, x in zip(block.inputs, inputs, strict=True))
        start = len(g.scratch)
        for op in block.ops:
            _check_repeatable(op)
            g.scratch.append(copies.op(op, g.block))
        self.ops = g.scratch[start:]
        self.outputs = [copies.of(v) for v in block.outputs]
        self.sweep = Sweep(g, outer.refusals)

    def swept(self, grads: Sequence[Variable | None], wanted: Sequence[Variable]) -> list[Variable]:
        """Sweep with the gradients of the first outputs; returns ``wanted``."""
        for output, grad in zip(self.outputs, grads, strict=False):
            if grad is not None and not isinstance(output, Constant):
                self.sweep.add(output, grad)
        self.sweep.run(self.ops, active_variables(self.ops, wanted))
        return list(wanted)

    def gradient(self, v: Variable) -> Variable:
        """What reached v; zeros if nothing did."""
        found = self.sweep.total(v)
        return zeros(self.g, v) if found is None else typed_like(found, v)


class _Iterations:
    """How an op iterates: its carried values, and what an iteration sees and gives."""

    def __init__(self, g: Tape, op: Operator) -> None:
        self.g = g
        self.op = op.origin or op
        self.block: Block = op.attrs["body"]
        self.operands = op.inputs
        self.reruns: dict[tuple[int, str], list[Variable]] = {}

    first = 0  # the position of the first carried value among the op's operands
    inputs = 0  # and among the body's inputs
    outputs = 0  # and among the body's outputs

    @property
    def count(self) -> int:
        """The number of carried values."""
        raise NotImplementedError

    def trips(self) -> Variable:
        """The number of iterations: i64[]."""
        raise NotImplementedError

    def seen(self, g: Tape, i: Variable) -> list[Variable]:
        """What iteration i gives the body: its inputs."""
        raise NotImplementedError

    def gradient_of_result(self, g: Tape, grad: Variable, k: int, i: Variable) -> Variable:
        """The part of the gradient of a stacked result that belongs to iteration i."""
        raise NotImplementedError

    def carried(self) -> list[Variable]:
        """What the first iteration starts with."""
        found = self.operands[self.first : self.first + self.count]
        return [v for v in found if v is not None]

    def history(self, k: int) -> Variable:
        """What each iteration found in carried value k: a stack [t, *s], or a sequence.

        It is a further result of the op, which it gets if what is spliced reads it.
        """
        formal = self.block.inputs[self.inputs + k]
        key = (id(self.op), f"history {k}")
        if key not in self.g.asked:
            result = self.block.outputs[self.outputs + k]
            same = formal.tensor_type == result.tensor_type == self.carried()[k].tensor_type
            keeps = same and formal.tensor_type.shape is not None
            self.g.asked[key] = self._stack(formal, k) if keeps else self._sequence(formal)
        return self.g.asked[key]

    def value(self, g: Tape, k: int, i: Variable) -> Variable:
        """Carried value k at the start of iteration i."""
        history, like = self.history(k), self.block.inputs[self.inputs + k]
        if isinstance(history.tensor_type, ContainerType):
            return typed_like(g.SequenceAt(history, i), like)
        return typed_like(g.Gather(history, i), like)

    def _stack(self, formal: Variable, k: int) -> Variable:
        shape = formal.tensor_type.shape or ()
        size = shape[0] if len(shape) == 1 else self.g.program.fresh_symbol()
        kind = TensorType(formal.dtype, (self.g.program.fresh_symbol(), size))
        kept = self._new(kind)
        self.g.deferred.append((kept, partial(self._add_stack, kept, formal, len(shape))))
        if len(shape) == 1:
            return kept
        whole = self.g.Reshape(
            kept, self.g.dims(self.g.dim_of(kept, 0), self.g.shape_of(self.carried()[k])),
            allowzero=1,
        )  # fmt: skip
        whole.tensor_type = TensorType(formal.dtype, (kind.shape[0], *shape))  # type: ignore[index]
        return whole

    def _add_stack(self, kept: Variable, formal: Variable, rank: int) -> None:
        # Flat, because the reference evaluator stacks other ranks wrongly.
        source = formal if rank == 1 else Tape(self.block).Reshape(formal, [-1])
        _on_undo(self.op, "outputs", self.block)
        self.block.outputs = [*self.block.outputs, source]
        position = len(self.block.outputs) - 1 - self.outputs
        self._extend_attributes()
        add_result(self.op, position, kept)

    def _extend_attributes(self) -> None:
        """What an op says of each stacked result."""

    def _sequence(self, formal: Variable) -> Variable:
        raise GradientError(
            f"the gradient of {self.op.type} needs values whose shape changes between iterations",
            operands=[(formal.name, formal.tensor_type)],
            where=self.op.where,
            fix="give every iteration the same shapes",
        )

    def _new(self, kind: TensorType) -> Variable:
        made = Variable("", kind, block=self.g.block, where=self.op.where)
        made.stop_gradient = not kind.is_float
        return made


class _Loop(_Iterations):
    """Loop(trips, going, carried): its body takes (i, going, carried), gives (going, carried)."""

    first, inputs, outputs = 2, 2, 1

    @property
    def count(self) -> int:
        return len(self.operands) - 2

    def trips(self) -> Variable:
        results = self.op.outputs[self.count :]
        stack = next((v for v in results if v is not None), None)
        if stack is None:
            key = (id(self.op), "trips")
            if key not in self.g.asked:
                self.g.asked[key] = self._numbers()
            stack = self.g.asked[key]
        return self.g.Squeeze(self.g.Shape(stack, start=0, end=1), [0])

    def _numbers(self) -> Variable:
        """The numbers of all iterations as [t, 1]."""
        kept = self._new(TensorType(np.dtype("i8"), (self.g.program.fresh_symbol(), 1)))
        self.g.deferred.append((kept, partial(self._add_stack, kept, self.block.inputs[0], 0)))
        return kept

    def seen(self, g: Tape, i: Variable) -> list[Variable]:
        return [i, g.const(True), *(self.value(g, k, i) for k in range(self.count))]

    def value(self, g: Tape, k: int, i: Variable) -> Variable:
        formal = self.block.inputs[self.inputs + k]
        if isinstance(formal.tensor_type, ContainerType):
            return self._iterated(g, i)[k]
        return super().value(g, k, i)

    def _iterated(self, g: Tape, i: Variable) -> Sequence[Variable]:
        """All carried values after i iterations, run again: sequences of sequences do not exist."""
        key = (id(self.op), f"iterated {i.name}")
        if key not in g.asked:
            body = Copies(g.program, g.role).block(self.block, g.block)
            body.outputs = body.outputs[: 1 + self.count]
            made = g.emit("Loop", i, True, *self.carried(), outputs=self.count, body=body)
            self.reruns[key] = [made] if self.count == 1 else list(made)
            g.asked[key] = self.reruns[key][0]
        return self.reruns[key]

    def gradient_of_result(self, g: Tape, grad: Variable, k: int, i: Variable) -> Variable:
        return g.Gather(grad, i)

    def _sequence(self, formal: Variable) -> Variable:
        kept = self._new(container("seq", TensorType(formal.dtype, None)))
        self.g.deferred.append((kept, partial(self._add_sequence, kept, formal)))
        return kept

    def _add_sequence(self, kept: Variable, formal: Variable) -> None:
        """A carried sequence to which each iteration adds what it found."""
        op, block, count = self.op, self.block, len(self.op.inputs) - 2
        _on_undo(op, "inputs", op)
        _on_undo(op, "outputs", op)
        _on_undo(op, "outputs", block)
        _on_undo(op, "inputs", block)
        outer = Tape(op.block or self.g.block, scratch=True)
        empty = outer.SequenceEmpty(dtype=to_onnx_dtype(formal.dtype))
        _insert_before(self.g, op, outer)
        block.inputs = list(block.inputs)
        held = block.add_input("history", kept.tensor_type)
        longer = Tape(block).SequenceInsert(held, formal)
        longer.tensor_type = kept.tensor_type
        op.inputs = [*op.inputs, empty]
        at = count + 1
        block.outputs = [*block.outputs[:at], longer, *block.outputs[at:]]
        padded = [*op.outputs, *[None] * (count - len(op.outputs))]
        op.outputs = [*padded[:count], None, *padded[count:]]
        add_result(op, count, kept)


class _Scan(_Iterations):
    """Scan(carried, scanned): its body takes (carried, slices) and gives (carried, slices)."""

    @property
    def count(self) -> int:
        return len(self.operands) - int(self.op.attrs["num_scan_inputs"])

    @property
    def scanned(self) -> list[Variable]:
        """The operands that iterations take slices of."""
        return [v for v in self.operands[self.count :] if v is not None]

    def axis(self, of: str, k: int, rank: int) -> int:
        """The dim along which operand, or result, k has iterations."""
        axes = self.op.attrs.get(f"scan_{of}_axes")
        return int(axes[k]) % rank if axes else 0

    def _backwards(self, of: str, k: int) -> bool:
        directions = self.op.attrs.get(f"scan_{of}_directions")
        return bool(directions and directions[k])

    def trips(self) -> Variable:
        x = self.scanned[0]
        return self.g.Squeeze(self.g.dim_of(x, self.axis("input", 0, x.ndim)), [0])

    def position(self, g: Tape, of: str, k: int, i: Variable) -> Variable:
        """Where iteration i is along that dim."""
        last = g.Sub(self.trips_outside, 1)
        return g.Sub(last, i) if self._backwards(of, k) else i

    @property
    def trips_outside(self) -> Variable:
        """``trips``, recorded once outside the loop."""
        key = (id(self.op), "trips")
        if key not in self.g.asked:
            self.g.asked[key] = self.trips()
        return self.g.asked[key]

    def seen(self, g: Tape, i: Variable) -> list[Variable]:
        values = [self.value(g, k, i) for k in range(self.count)]
        for k, x in enumerate(self.scanned):
            axis = self.axis("input", k, x.ndim)
            piece = g.Gather(x, self.position(g, "input", k, i), axis=axis)
            values.append(typed_like(piece, self.block.inputs[self.count + k]))
        return values

    def gradient_of_result(self, g: Tape, grad: Variable, k: int, i: Variable) -> Variable:
        axis = self.axis("output", k, grad.ndim)
        return g.Gather(grad, self.position(g, "output", k, i), axis=axis)

    def _extend_attributes(self) -> None:
        for name in ("scan_output_axes", "scan_output_directions"):
            if self.op.attrs.get(name):
                attrs = dict(self.op.attrs)
                self.g.program.on_undo(partial(setattr, self.op, "attrs", self.op.attrs))
                self.op.attrs = {**attrs, name: [*attrs[name], 0]}


class _Backwards:
    """The gradient of a Loop or Scan as a Loop."""

    def __init__(
        self, sweep: Sweep, op: Operator, results: Results, active: set[int], way: _Iterations
    ) -> None:
        self.sweep, self.g, self.op, self.way = sweep, sweep.tape, op, way
        self.block = way.block
        padded = [*results, *[None] * (len(self.block.outputs) - way.outputs - len(results))]
        self.finals, self.stacks = padded[: way.count], padded[way.count :]
        self.captures = _active_captures(op, active)
        self.scanned = [
            k
            for k, v in enumerate(op.inputs[way.first + way.count :])
            if v is not None and id(v) in active
        ]
        self.live = self._live({k for k, v in enumerate(way.carried()) if id(v) in active})

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
        carried = way.carried()
        finals = [self._final(k) for k in self.live]
        sums = [zeros(g, v) for v in self.captures]
        trips = way.trips()

        def body(
            g: Tape, step: Variable, held: list[Variable]
        ) -> tuple[control.Results, control.Results]:
            return self._iteration(g, g.Sub(g.Sub(trips, 1), step), held)

        made = control.loop(g, trips, [*finals, *sums], body)
        for k, grad in zip(self.live, made, strict=False):
            if carried[k].tensor_type.is_float:
                self.sweep.add(carried[k], typed_like(grad, carried[k]))
        for v, grad in zip(self.captures, made[len(self.live) :], strict=False):
            self.sweep.add(v, typed_like(grad, v))
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
        inner = _Replay(self.sweep, g, self.block, seen)
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
            found = inner.sweep.total(v)
            sums.append(total if found is None else _plus(g, total, found, v))
        results = [inner.gradient(v) for v in values] + sums
        return results, [g.Reshape(inner.gradient(x), [-1]) for x in slices]

    def _add_scanned(self, k: int, stack: Variable) -> None:
        """The slices' gradients, last iteration first, as the gradient of the scanned operand."""
        assert isinstance(self.way, _Scan)
        g, x = self.g, self.way.scanned[k]
        axis = self.way.axis("input", k, x.ndim)
        if not self.way._backwards("input", k):
            stack = g.Slice(stack, [-1], [I64_MIN], [0], [-1])
        order = [axis, *(n for n in range(x.ndim) if n != axis)]
        dims = g.dims(*[g.dim_of(x, n) for n in order])
        whole = g.Reshape(stack, dims, allowzero=1)
        if axis:
            whole = g.Transpose(whole, perm=np.argsort(order).tolist())
        self.sweep.add(x, typed(whole, x))


def _check_repeatable(op: Operator) -> None:
    """Raise GradientError for an op that would draw other numbers when it is done again."""
    training = op.maybe("training_mode") if op.type == "Dropout" else None
    still = training is None or (isinstance(training, Constant) and not training.value)
    if op.type in RANDOM and not (op.type == "Dropout" and still):
        raise GradientError(
            f"{op.type} inside a body would draw other numbers when the gradient repeats it",
            operands=[(v.name, v.tensor_type) for v in op.writes()],
            where=op.where,
            fix="draw outside the control flow, and use the values inside",
        )
    for block in op.blocks():
        for inner in block.ops:
            _check_repeatable(inner)


def _plus(g: Tape, total: Variable, found: Variable, like: Variable) -> Variable:
    both = Sweep(g, [])
    both.add(like, total)
    both.add(like, found if isinstance(like.tensor_type, ContainerType) else sum_to(g, found, like))
    result = both.total(like)
    assert result is not None
    return result


def typed_like(x: Variable, like: Variable) -> Variable:
    """x, known to have the type of ``like``."""
    x.tensor_type = like.tensor_type
    return x


def _active_captures(op: Operator, active: set[int]) -> list[Variable]:
    found = {id(v): v for block in op.blocks() for v in block.captures() if id(v) in active}
    return list(found.values())


def _on_undo(op: Operator, field: str, owner: Operator | Block) -> None:
    if op.block is not None:
        op.block.program.on_undo(partial(setattr, owner, field, getattr(owner, field)))


def _insert_before(g: Tape, op: Operator, tape: Tape) -> None:
    """Put a tape's ops before ``op``: in its block, or on the tape that it is on."""
    assert tape.scratch is not None
    if op.block is not None:
        for new in tape.scratch:
            op.block.insert(op.block.ops.index(op), new)
        return
    assert g.scratch is not None
    at = g.scratch.index(op)
    g.scratch[at:at] = tape.scratch
