"""Ops over the values of all steps at once: what need not be done step by step.

A value of all steps has further dims before its own: it is stacked. They are the steps, or turns
and the steps of a turn. Many ops can take stacked operands in the place of those of one step, with
little changed. ``Stages`` finds the ops of a step that can: a Scan has fewer to do in each trip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import Attr
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.passes.draws.random_ops import RANDOM
from graphopt.passes.engine.patterns import ints, result_of

FEW = 2**8  # bytes up to which an operand is widened
SMALL = 2**16  # bytes of one step's value, up to which it is kept for all steps


class Stage(Enum):
    """When an op is done: once for all steps, for all steps before or after them, or in each."""

    ONCE = "once"
    BEFORE = "before"
    EACH = "each"
    AFTER = "after"


@dataclass(frozen=True)
class Batched:
    """How an op is done for all steps.

    ``shapes`` are what operands are reshaped to first, ``constants`` stand in for operands, both by
    position. ``unfolded`` is what the result is reshaped to.
    """

    type: str
    shapes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    constants: Mapping[int, Sequence[int]] = field(default_factory=dict)
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    operands: int | None = None  # how many are taken; None for all
    unfolded: tuple[int, ...] | None = None

    def emit(self, g: Tape, operands: Sequence[Variable | None], result: Variable) -> None:
        """Record the op over stacked operands; ``result`` is stacked, and declared already."""
        taken = [*operands[: self.operands]]
        taken += [None] * (max(self.constants, default=-1) + 1 - len(taken))
        for k, values in self.constants.items():
            taken[k] = g.const(np.array(values, np.int64))
        for k, shape in self.shapes.items():
            taken[k] = g.Reshape(taken[k], list(shape))
        if self.unfolded is None:
            g.emit(self.type, *taken, into=[result], **self.attrs)
        else:
            folded = g.emit(self.type, *taken, **self.attrs)
            g.emit("Reshape", folded, list(self.unfolded), into=[result])


Lead: TypeAlias = tuple[int, ...]  # the dims before a value's own, as Reshape takes them
BatchedForm: TypeAlias = Callable[[Operator, Collection[int], Lead], Batched | None]
BATCHED_FORMS: dict[str, BatchedForm] = {}


def form_of(op: Operator, stacked: Collection[int], lead: Lead = (-1,)) -> Batched | None:
    """How an op is done for all steps if the operands at these positions are stacked.

    None where there is no way that is known, or where it would hold large values of all steps.
    """
    rule = BATCHED_FORMS.get(op.type)
    results = [*op.writes()]
    if rule is None or len(results) > 1:
        return None
    found = [op.inputs[k] for k in stacked]
    known = all(v is not None and _is_small(v) for v in (*found, *results))
    ranked = all(v.tensor_type.shape is not None for v in op.operands())
    return rule(op, stacked, lead) if known and ranked else None


def _is_small(v: Variable) -> bool:
    """Whether the value has a known size that is small, but not zero."""
    if not v.tensor_type.is_static or v.dtype.kind not in "biuf":
        return False
    return 0 < math.prod(v.shape) * v.dtype.itemsize <= SMALL


class Stages:
    """The stage of each op of a step.

    ``scanned`` are given for all steps, ``carried`` differ from step to step, and ``given`` is what
    the next steps need of each.
    """

    def __init__(
        self,
        ops: Sequence[Operator],
        scanned: Iterable[Variable],
        carried: Iterable[Variable],
        given: Iterable[Variable] = (),
        lead: Lead = (-1,),
    ) -> None:
        self._lead = lead
        self.stages: dict[int, Stage] = {}
        self.forms: dict[int, Batched] = {}
        self._stacked = {id(v) for v in scanned}
        self._carried = {id(v) for v in carried}
        self._given = {id(v) for v in given}
        self._inside = set(self._carried)  # what is known only inside the loop
        for op in ops:
            self._place(op, self._early(op))
        needed = set(self._given)
        for op in reversed(ops):
            if self[op] is Stage.EACH and self._can_wait(op, needed):
                self.stages[id(op)] = Stage.AFTER
            if self[op] is Stage.EACH:
                needed.update(id(v) for v in op.reads())

    def __getitem__(self, op: Operator) -> Stage:
        return self.stages[id(op)]

    def _place(self, op: Operator, stage: Stage) -> None:
        self.stages[id(op)] = stage
        found = {Stage.EACH: self._inside, Stage.BEFORE: self._stacked}.get(stage)
        if found is not None:
            found.update(id(v) for v in op.writes())

    def _early(self, op: Operator) -> Stage:
        """The stage of an op as far as its operands tell."""
        if self._is_bound(op) or any(id(v) in self._inside for v in op.reads()):
            return Stage.EACH
        stacked = self._positions(op, self._stacked)
        if not stacked:
            return Stage.ONCE
        return Stage.BEFORE if self._has_form(op, stacked) else Stage.EACH

    def _can_wait(self, op: Operator, needed: set[int]) -> bool:
        """Whether no step needs what the op gives, and all steps' values can be kept for it."""
        if self._is_bound(op) or any(id(v) in needed for v in op.writes()):
            return False
        if any(id(v) in self._carried for v in op.reads()):
            return False
        return self._has_form(op, self._positions(op, self._stacked | self._inside))

    def _is_bound(self, op: Operator) -> bool:
        """Whether each step does the op: it draws, has blocks, or makes what the next needs."""
        if op.type in RANDOM or op.definition.has_blocks:
            return True
        return any(id(v) in self._given for v in op.writes())

    def _positions(self, op: Operator, chosen: set[int]) -> list[int]:
        return [k for k, v in enumerate(op.inputs) if id(v) in chosen]

    def _has_form(self, op: Operator, stacked: Collection[int]) -> bool:
        form = form_of(op, stacked, self._lead)
        if form is not None:
            self.forms[id(op)] = form
        return form is not None


def widened(op: Operator) -> tuple[int, ...] | None:
    """The shape of the result, if operands that are not of it are better widened beforehand.

    To broadcast a scalar costs onnxruntime 0.4 µs more than to read as many numbers, if few.
    """
    if op.type not in ("Add", "Div", "Max", "Min", "Mul", "Sub") or len(op.inputs) != 2:
        return None
    result = result_of(op)
    if not all(v.tensor_type.is_static for v in (result, *op.operands())):
        return None
    size = math.prod(result.shape) * result.dtype.itemsize
    has_all = any(v.shape == result.shape for v in op.operands())
    return result.shape if has_all and 0 < size <= FEW else None


# The rules, by op.


def form(*types: str) -> Callable[[BatchedForm], BatchedForm]:
    """Register how ops of these types are done for all steps."""

    def register(function: BatchedForm) -> BatchedForm:
        BATCHED_FORMS.update(dict.fromkeys(types, function))
        return function

    return register


@form(
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Cos",
    "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round",
    "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan",
    "Tanh", "ThresholdedRelu", "Clip",
    "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow",
    "Sub", "Sum", "Where", "Xor",
)  # fmt: skip
def elementwise(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """Ranks are made equal, with ones behind the steps; what is not stacked fits as it is."""
    if op.type == "Clip" and tuple(stacked) != (0,):
        return None
    rank = max(v.ndim for v in op.operands())
    shapes = {}
    for k in stacked:
        v = op.inputs[k]
        if v is not None and v.ndim < rank:
            shapes[k] = (*lead, *[1] * (rank - v.ndim), *v.shape)
    return Batched(op.type, shapes, attrs=op.attrs)


@form(
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
def reduction(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """The axes move; all are named."""
    x, axes = op.operand("data"), op.maybe("axes")
    found = ints(axes)
    if tuple(stacked) != (0,) or (axes is not None and found is None):
        return None
    if not found and op.attrs["noop_with_empty_axes"]:
        return None
    moved = [axis % x.ndim + len(lead) for axis in found or range(x.ndim)]
    if not moved:  # of one number
        return Batched("Identity") if op.type in ("ReduceSum", "ReduceMean") else None
    return Batched(op.type, constants={1: moved}, attrs=op.attrs)


@form("ArgMax", "ArgMin", "Hardmax", "LogSoftmax", "Softmax")
def along_axis(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """The axis moves."""
    x = op.inputs[0]
    if tuple(stacked) != (0,) or x is None or not x.ndim:
        return None
    return Batched(op.type, attrs={**op.attrs, "axis": op.attrs["axis"] % x.ndim + len(lead)})


@form("Flatten", "Reshape", "Squeeze", "Unsqueeze")
def view(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """A Reshape to the shape that the result has, behind the steps."""
    (result,) = op.writes()
    if tuple(stacked) != (0,):
        return None
    return Batched("Reshape", constants={1: (*lead, *result.shape)}, operands=1)


@form("Slice")
def part(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """The axes move; all are named."""
    data, starts = op.operand("data"), ints(op.operand("starts"))
    if tuple(stacked) != (0,) or starts is None:
        return None
    axes = ints(op.maybe("axes")) if op.maybe("axes") is not None else range(len(starts))
    if axes is None:
        return None
    return Batched("Slice", constants={3: [axis % data.ndim + len(lead) for axis in axes]})


@form("Transpose")
def transpose(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """The steps stay first."""
    x = op.operand("data")
    perm = op.attrs.get("perm") or range(x.ndim)[::-1]
    ahead = range(len(lead))
    return Batched("Transpose", attrs={"perm": [*ahead, *(axis + len(lead) for axis in perm)]})


@form("Concat")
def concat(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """The axis moves; all operands have to be stacked."""
    x = op.inputs[0]
    if x is None or len(stacked) < len(op.inputs):
        return None
    return Batched("Concat", attrs={"axis": op.attrs["axis"] % x.ndim + len(lead)})


@form("Gather")
def gather(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """Rows of what is one for all steps, or the same rows of all steps."""
    axis, data = op.attrs["axis"], op.operand("data")
    if tuple(stacked) == (0,):
        return Batched("Gather", attrs={"axis": axis % data.ndim + len(lead)})
    if tuple(stacked) == (1,) and axis % data.ndim == 0:
        return Batched("Gather", attrs=op.attrs)
    return None


@form("GatherElements")
def gather_elements(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """The axis moves; both have to be stacked."""
    axis, data = op.attrs["axis"], op.operand("data")
    if len(stacked) < 2:
        return None
    return Batched("GatherElements", attrs={"axis": axis % data.ndim + len(lead)})


@form("OneHot")
def one_hot(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """The new axis is behind the steps."""
    rank = op.operand("indices").ndim + 1
    if tuple(stacked) != (0,):
        return None
    return Batched("OneHot", attrs={"axis": op.attrs["axis"] % rank + len(lead)})


@form("MatMul")
def matmul(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """A product of matrices of all steps; by one matrix for all, it is one product of all rows."""
    a, b = op.operand("A"), op.operand("B")
    if tuple(stacked) == (0,) and b.ndim == 2:
        return Batched("MatMul", {0: (-1, a.shape[-1])}, unfolded=(*lead, *result_of(op).shape))
    if tuple(stacked) == (1,) and b.ndim >= 2 and a.ndim <= b.ndim:
        return Batched("MatMul")  # [i, k] or [k] with [steps, *n, k, j]
    return Batched("MatMul") if len(stacked) == 2 and a.ndim == b.ndim >= 2 else None


@form("Gemm")
def gemm(op: Operator, stacked: Collection[int], lead: Lead) -> Batched | None:
    """By one matrix for all steps, it is one product of all rows."""
    a, c = op.operand("A"), op.maybe("C")
    if tuple(stacked) != (0,) or op.attrs["transA"]:
        return None
    if c is not None and c.ndim == 2 and c.shape[0] != 1:
        return None
    unfolded = (*lead, *result_of(op).shape)
    return Batched("Gemm", {0: (-1, a.shape[-1])}, attrs=op.attrs, unfolded=unfolded)
