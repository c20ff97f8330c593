"""Which states a step may write over where they lie: those whose last read is surely behind it.

A runtime is free to choose any order that the data allow. So a read counts as done only where the
result that takes the place depends on it, and so does whatever may refuse its operands: a step
that fails must not have changed anything.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import TensorType
from graphopt.ops.kernels.blocked import DOMAIN
from graphopt.ops.registry.registry import COMPOSITES, composite_of

VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
# Kernels that read an element, and nothing else, before they write it.
ELEMENTWISE = frozenset({"Add", "Div", "Mul", "Sub"})
# Ops whose kernel writes the result: onnxruntime may take others away (Identity, views), or write
# what they would by the op before them, which may still be reading.
WRITERS = ELEMENTWISE | {"Clip", "Gemm", "Max", "Where", f"{DOMAIN}::Conv"}
# Ops that take any integers and truth values; others may refuse some, such as a position.
TOTAL = VIEWS | ELEMENTWISE - {"Div"} | {
    "Abs", "And", "Cast", "Concat", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "Max", "Min", "Mod", "Neg", "Not", "Or", "Transpose", "Where",
}  # fmt: skip
INDEXED = frozenset({"Gather", "GatherElements", "ScatterElements", "ScatterND"})
ADDED = 3  # the operand of a blocked Conv that may be what it adds to
DEEP = 16  # ops through which two positions are followed to see that they are equal


@dataclass(frozen=True, eq=False)  # to compare variables would record an op
class Target:
    """A variable whose place ``result`` may take: a state, or what it is computed from at once.

    ``late`` are the reads that the result does not wait for. ``sound`` says whether, once it does,
    nothing else stands in the way.
    """

    variable: Variable
    result: Variable
    writer: Operator
    depends: frozenset[int]  # the positions of the operands that the result depends on
    late: tuple[Operator, ...]
    sound: bool

    @property
    def is_free(self) -> bool:
        """Whether it can be written over as things are."""
        return self.sound and not self.late


def targets(
    step: Step, least: int, pairs: Collection[tuple[Variable, Variable]] = ()
) -> list[Target]:
    """States and rows, of ``least`` bytes or more, with what takes their place; and other pairs."""
    rows = [(row.row, row.new_row) for row in step.rows]
    return _Search(step, [*step.next_state.items(), *rows, *pairs], least).found


class _Search:
    def __init__(
        self, step: Step, pairs: Collection[tuple[Variable, Variable]], least: int
    ) -> None:
        self.ops = step.global_block().ops
        self.next_state = set(step.next_state.values())
        self.returned = {*step.fetch, *self.next_state}
        self._bodies: dict[Hashable, list[_Result]] = {}
        self.memory: dict[int, set[int]] = {}  # whose memory a variable's may be
        wanted = self._wanted(pairs, least)
        self.readers = self._readers([v for v, _, _ in wanted])
        self.risks: dict[Hashable, int] = {}  # bits of the ops that refuse the same operands
        self.bits = self._bits() if wanted else {}
        behind = self._behind([op for _, _, op in wanted]) if wanted else {}
        self.found = [
            self._target(v, result, op, readers, behind[id(op), _index(result, op)])
            for (v, result, op), readers in zip(wanted, self.readers, strict=True)
        ]

    def _wanted(
        self, pairs: Collection[tuple[Variable, Variable]], least: int
    ) -> list[tuple[Variable, Variable, Operator]]:
        """Each variable, what may take its place, and the op that makes this."""
        return [
            (v, result, result.maker)
            for v, result in pairs
            if result.maker is not None and _bytes(v.tensor_type) >= least
        ]

    def _readers(self, variables: Sequence[Variable]) -> list[list[Operator]]:
        """For each, the ops that read it, or what may be in its memory."""
        self.memory = {id(v): {id(v)} for v in variables}
        readers: dict[int, list[Operator]] = {key: [] for key in self.memory}
        for op in self.ops:
            keys = set[int]().union(*(self.memory.get(id(v), ()) for v in op.reads()))
            for key in keys:
                readers[key].append(op)
            for v in op.writes() if keys and op.type in VIEWS else ():
                self.memory.setdefault(id(v), set()).update(keys)
        return [readers[id(v)] for v in variables]

    def _bits(self) -> dict[int, int]:
        """A bit for each op that must be behind a write."""
        bits: dict[int, int] = {}
        tracked = {id(op) for ops in self.readers for op in ops}
        for op in self.ops:
            risk = self._risk(op)
            if risk is not None or id(op) in tracked:
                bits[id(op)] = 1 << len(bits)
            if risk is not None:
                self.risks[risk] = self.risks.get(risk, 0) | bits[id(op)]
        return bits

    def _behind(self, writers: Sequence[Operator]) -> dict[tuple[int, int], int]:
        """For each result of the writers, the bits of the ops that it depends on."""
        done: dict[int, int] = {}
        found: dict[tuple[int, int], int] = {}
        chosen = {id(op) for op in writers}
        for op in self.ops:
            if id(op) in chosen:
                before = [0 if v is None else done.get(id(v), 0) for v in op.inputs]
                for k, result in enumerate(self._results(op)):
                    found[id(op), k] = reduce(or_, (before[p] for p in result.depends), 0)
            mask = reduce(or_, (done.get(id(v), 0) for v in op.reads()), self.bits.get(id(op), 0))
            for v in op.writes():
                done[id(v)] = mask
        return found

    def _target(
        self,
        v: Variable,
        result: Variable,
        op: Operator,
        readers: Sequence[Operator],
        behind: int,
    ) -> Target:
        found = self._results(op)[_index(result, op)]
        own = {k for k, o in enumerate(op.inputs) if id(v) in self.memory.get(id(o), ())}
        late = tuple(r for r in readers if r is not op and not behind & self.bits[id(r)])
        certain = all(behind & bits for bits in self.risks.values())
        # A user's own assignment may be fused with what it assigns.
        certain &= op.role is Role.UPDATE or result not in self.next_state
        certain &= op.type in COMPOSITES or op.type in WRITERS
        certain &= v not in self.returned
        return Target(v, result, op, found.depends, late, certain and not own & found.held)

    def _results(self, op: Operator) -> list[_Result]:
        if op.type in COMPOSITES:
            types = tuple(None if v is None else v.tensor_type for v in op.inputs)
            key = op.type, repr(op.attrs), types
            if key not in self._bodies:
                self._bodies[key] = _body_results(op, types)
            return self._bodies[key]
        every = frozenset(range(len(op.inputs)))
        first = op.outputs[0]
        free = {
            k for k, v in enumerate(op.inputs)
            if v is not None and first is not None and v.tensor_type == first.tensor_type
        }  # fmt: skip
        if op.type == f"{DOMAIN}::Conv":
            held = every - {ADDED}
        else:
            held = every - free if op.type in ELEMENTWISE else every
        return [_Result(every, held) for _ in op.outputs]

    def _risk(self, op: Operator) -> Hashable | None:
        """What stands for the operands that an op may refuse; None if it takes all."""
        is_text = any(v.dtype.kind in "OSU" for v in op.operands())
        if is_text or op.blocks() or not all(v.tensor_type.is_static for v in op.writes()):
            return id(op)
        if op.type in TOTAL or op.type in COMPOSITES:
            return None
        chosen = [
            v for v in op.operands() if v.dtype.kind not in "fV" and not isinstance(v, Constant)
        ]
        if not chosen:
            return None
        indices = op.inputs[1] if op.type in INDEXED else None
        data = op.inputs[0]
        if data is None or len(chosen) > 1 or chosen[0] is not indices:
            return id(op)
        axis = 0 if op.type == "ScatterND" else int(op.attrs["axis"])
        if op.type == "ScatterND" and indices.shape[-1:] != (1,):
            return id(op)
        return self._numbers(indices, DEEP), data.shape[axis]

    def _numbers(self, v: Variable, depth: int) -> Hashable:
        """A key that is equal for variables that hold equal numbers, in whatever shape.

        Ops that are not in ``TOTAL`` may draw their results or have several.
        """
        if isinstance(v, Constant):
            return v.value.tobytes(), v.value.dtype.str
        maker = v.maker
        if maker is None or maker.type not in TOTAL or not depth:
            return id(v)
        if maker.type in VIEWS:
            return self._numbers(next(maker.operands()), depth - 1)
        operands = tuple(self._numbers(o, depth - 1) for o in maker.operands())
        return maker.type, repr(maker.attrs), operands


def _index(v: Variable, op: Operator) -> int:
    return next(k for k, own in enumerate(op.outputs) if own is v)


@dataclass(frozen=True)
class _Result:
    """Of an op: the positions of the operands it depends on, and of those it must not replace."""

    depends: frozenset[int]
    held: frozenset[int]


def _body_results(op: Operator, types: tuple[TensorType | None, ...]) -> list[_Result]:
    """What the results of a composite depend on and must not replace, by its body."""
    card = composite_of(op.type)
    padded = [*types, *[None] * (len(card.input_names) - len(types))]
    program, inputs, results = card.trace(padded, op.attrs)
    ops = program.global_block().ops
    given = {id(v): k for k, v in enumerate(inputs) if v is not None}
    position = {inner: k for k, inner in enumerate(ops)}
    behind: list[frozenset[int]] = []  # the ops that each op waits for
    needs: list[frozenset[int]] = []  # the inputs that it depends on
    for inner in ops:
        sources = [position[v.maker] for v in inner.operands() if v.maker is not None]
        own = {given[id(v)] for v in inner.operands() if id(v) in given}
        behind.append(frozenset(sources).union(*(behind[k] for k in sources)))
        needs.append(frozenset(own).union(*(needs[k] for k in sources)))
    every = frozenset(given.values())
    found = []
    for result in results:
        writer = -1 if result.maker is None else position[result.maker]
        if writer < 0 or ops[writer].type not in WRITERS:
            found.append(_Result(every, every))
            continue
        held = {
            k for key, k in given.items()
            if not all(_is_done(ops, reader, writer, behind[writer], key, result)
                       for reader in _body_readers(ops, key))
        }  # fmt: skip
        found.append(_Result(needs[writer], frozenset(held)))
    return found


def _body_readers(ops: Sequence[Operator], key: int) -> list[int]:
    same, found = {key}, []
    for k, op in enumerate(ops):
        if any(id(v) in same for v in op.operands()):
            found.append(k)
            if op.type in VIEWS:
                same |= {id(v) for v in op.writes()}
    return found


def _is_done(
    ops: Sequence[Operator],
    reader: int,
    writer: int,
    behind: frozenset[int],
    key: int,
    result: Variable,
) -> bool:
    """Whether a read of the input ``key`` is over when the writer writes an element."""
    if reader in behind:
        return True
    own = [v for v in ops[writer].operands() if id(v) == key]
    return (
        reader == writer
        and ops[writer].type in ELEMENTWISE
        and all(v.tensor_type == result.tensor_type for v in own)
    )


def _bytes(found: TensorType) -> int:
    if not found.is_static:
        return -1
    return math.prod(int(dim) for dim in found.shape or ()) * found.dtype.itemsize
