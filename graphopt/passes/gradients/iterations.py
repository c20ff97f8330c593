"""How Loop and Scan iterate, and what a gradient has them keep of each iteration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from graphopt.ir.edit.clone import Copies
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, add_result
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import ContainerType, TensorType, container, to_onnx_dtype
from graphopt.passes.gradients import redrawn


class Iterations:
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
    keeps_shapes = False  # whether carried values cannot change their shapes

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
            keeps = self.keeps_shapes or (same and formal.tensor_type.shape is not None)
            self.g.asked[key] = self._stack(formal, k) if keeps else self._sequence(formal)
        return self.g.asked[key]

    def value(self, g: Tape, k: int, i: Variable) -> Variable:
        """Carried value k at the start of iteration i."""
        history, like = self.history(k), self.block.inputs[self.inputs + k]
        if isinstance(history.tensor_type, ContainerType):
            return typed_like(g.SequenceAt(history, i), like)
        return typed_like(g.Gather(history, i), like)

    def again(self, i: Variable) -> redrawn.Again:
        """What stands for a random op of iteration i: what it drew."""

        def random(g: Tape, op: Operator, copies: Copies) -> bool:
            return redrawn.kept(g, op, copies, lambda g: g.Gather(self._draws(op), i))

        return random

    def _draws(self, op: Operator) -> Variable:
        """What an op of the body drew in all iterations: [t, n]."""
        key = (id(self.op), f"draws {id(op)}")
        if key not in self.g.asked:
            drawn = redrawn.draw_of(op, self.block)
            self.g.asked[key] = self._flat(drawn)
            add = partial(_add_mask, op, drawn)
            self.g.deferred.insert(-1, (self.g.asked[key], add))
        return self.g.asked[key]

    def _flat(self, kept: Variable) -> Variable:
        """All iterations' values of a variable of the body, each flat: [t, n]."""
        shape = kept.tensor_type.shape
        vector = shape is not None and len(shape) == 1
        size = shape[0] if shape and vector else self.g.program.fresh_symbol()
        stack = self._new(TensorType(kept.dtype, (self.g.program.fresh_symbol(), size)))
        self.g.deferred.append((stack, partial(self._add_stack, stack, kept, vector)))
        return stack

    def _stack(self, formal: Variable, k: int) -> Variable:
        shape = formal.tensor_type.shape
        kept = self._flat(formal)
        if shape is not None and len(shape) == 1:
            return kept
        whole = self.g.Reshape(
            kept, self.g.dims(self.g.dim_of(kept, 0), self.g.shape_of(self.carried()[k])),
            allowzero=1,
        )  # fmt: skip
        trips = (kept.tensor_type.shape or ())[0]
        whole.tensor_type = TensorType(formal.dtype, None if shape is None else (trips, *shape))
        return whole

    def _add_stack(self, kept: Variable, formal: Variable, vector: bool) -> None:
        # Flat, because the reference evaluator stacks other ranks wrongly.
        source = formal if vector else Tape(self.block).Reshape(formal, [-1])
        self.block.outputs = [*self.block.outputs, source]
        position = len(self.block.outputs) - 1 - self.outputs
        self._extend_attributes()
        add_result(self.op, position, kept)

    def _extend_attributes(self) -> None:
        """What an op says of each stacked result."""

    def _sequence(self, formal: Variable) -> Variable:
        """All iterations' values of a variable of the body, as a sequence."""
        raise NotImplementedError

    def _new(self, kind: TensorType) -> Variable:
        made = Variable("", kind, block=self.g.block, where=self.op.where)
        made.stop_gradient = not kind.is_float
        return made


class OfLoop(Iterations):
    """Loop(trips, going, carried): its body takes (i, going, carried), gives (going, carried)."""

    first, inputs, outputs = 2, 2, 1

    @property
    def count(self) -> int:
        """The number of carried values."""
        return len(self.operands) - 2

    def trips(self) -> Variable:
        """The number of iterations: i64[]."""
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
        self.g.deferred.append((kept, partial(self._add_stack, kept, self.block.inputs[0], False)))
        return kept

    def seen(self, g: Tape, i: Variable) -> list[Variable]:
        """The inputs of iteration i."""
        return [i, g.const(True), *(self.value(g, k, i) for k in range(self.count))]

    def value(self, g: Tape, k: int, i: Variable) -> Variable:
        """Carried value k at the start of iteration i; a sequence is made again."""
        formal = self.block.inputs[self.inputs + k]
        if isinstance(formal.tensor_type, ContainerType):
            return self._iterated(g, i)[k]
        return super().value(g, k, i)

    def _iterated(self, g: Tape, i: Variable) -> Sequence[Variable]:
        """All carried values after i iterations, run again: sequences of sequences do not exist."""
        key = (id(self.op), f"iterated {i.name}")
        if key not in g.asked:
            for op in self.block.ops:
                redrawn.check_still(op)
            body = Copies(g.program, g.role).block(self.block, g.block)
            body.outputs = body.outputs[: 1 + self.count]
            made = g.emit("Loop", i, True, *self.carried(), outputs=self.count, body=body)
            self.reruns[key] = [made] if self.count == 1 else list(made)
            g.asked[key] = self.reruns[key][0]
        return self.reruns[key]

    def gradient_of_result(self, g: Tape, grad: Variable, k: int, i: Variable) -> Variable:
        """The part of a stack's gradient that belongs to iteration i."""
        return g.Gather(grad, i)

    def _sequence(self, formal: Variable) -> Variable:
        kept = self._new(container("seq", TensorType(formal.dtype, None)))
        self.g.deferred.append((kept, partial(self._add_sequence, kept, formal)))
        return kept

    def _add_sequence(self, kept: Variable, formal: Variable) -> None:
        """A carried sequence to which each iteration adds what it found."""
        op, block, count = self.op, self.block, len(self.op.inputs) - 2
        _on_undo(self.g, block, "inputs")
        outer = Tape(op.block or self.g.block, scratch=True)
        empty = outer.SequenceEmpty(dtype=to_onnx_dtype(formal.dtype))
        insert_before(self.g, op, outer)
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


class OfScan(Iterations):
    """Scan(carried, scanned): its body takes (carried, slices) and gives (carried, slices)."""

    keeps_shapes = True

    @property
    def count(self) -> int:
        """The number of carried values."""
        return len(self.operands) - int(self.op.attrs["num_scan_inputs"])

    @property
    def scanned(self) -> list[Variable]:
        """The operands that iterations take slices of."""
        return [v for v in self.operands[self.count :] if v is not None]

    def axis(self, of: str, k: int, v: Variable) -> int:
        """The dim along which operand, or result, k has iterations."""
        axes = self.op.attrs.get(f"scan_{of}_axes")
        return int(axes[k]) % v.ndim if axes and axes[k] else 0

    def backwards(self, of: str, k: int) -> bool:
        """Whether iterations go from its last slice to the first."""
        directions = self.op.attrs.get(f"scan_{of}_directions")
        return bool(directions and directions[k])

    def trips(self) -> Variable:
        """The number of iterations: i64[]."""
        x = self.scanned[0]
        trips: Variable = self.g.Gather(self.g.shape_of(x), self.axis("input", 0, x))
        return trips

    def position(self, g: Tape, of: str, k: int, i: Variable) -> Variable:
        """Where iteration i is along that dim."""
        last = g.Sub(self.trips_outside, 1)
        return g.Sub(last, i) if self.backwards(of, k) else i

    @property
    def trips_outside(self) -> Variable:
        """``trips``, recorded once outside the loop."""
        key = (id(self.op), "trips")
        if key not in self.g.asked:
            self.g.asked[key] = self.trips()
        return self.g.asked[key]

    def seen(self, g: Tape, i: Variable) -> list[Variable]:
        """The inputs of iteration i."""
        values = [self.value(g, k, i) for k in range(self.count)]
        for k, x in enumerate(self.scanned):
            axis = self.axis("input", k, x)
            piece = g.Gather(x, self.position(g, "input", k, i), axis=axis)
            values.append(typed_like(piece, self.block.inputs[self.count + k]))
        return values

    def gradient_of_result(self, g: Tape, grad: Variable, k: int, i: Variable) -> Variable:
        """The part of a stack's gradient that belongs to iteration i."""
        axis = self.axis("output", k, grad)
        return g.Gather(grad, self.position(g, "output", k, i), axis=axis)

    def _extend_attributes(self) -> None:
        for name in ("scan_output_axes", "scan_output_directions"):
            if self.op.attrs.get(name):
                attrs = dict(self.op.attrs)
                _on_undo(self.g, self.op, "attrs")
                self.op.attrs = {**attrs, name: [*attrs[name], 0]}


def typed_like(x: Variable, like: Variable) -> Variable:
    """x, known to have the type of ``like``."""
    x.tensor_type = like.tensor_type
    return x


def _on_undo(g: Tape, owner: Operator | Block, field: str) -> None:
    if g.program.journal is not None:
        g.program.journal.field(owner, field)


def _add_mask(op: Operator, drawn: Variable) -> None:
    """Let a Dropout have its mask as a result."""
    if all(v is not drawn for v in op.writes()):
        add_result(op, 1, drawn)


def insert_before(g: Tape, op: Operator, tape: Tape) -> None:
    """Put a tape's ops before ``op``: in its block, or on the tape that it is on."""
    assert tape.scratch is not None
    if op.block is not None:
        for new in tape.scratch:
            op.block.insert(op.block.ops.index(op), new)
        return
    assert g.scratch is not None
    at = g.scratch.index(op)
    g.scratch[at:at] = tape.scratch
