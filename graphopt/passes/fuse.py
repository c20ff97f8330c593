"""Ops in the form that onnxruntime's CPU kernels are quickest at.

Each form is plain ONNX and means the same; it is not what a person would write, nor what a file
should hold. docs/performance.md has the times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from graphopt.ir.operator import Operator
from graphopt.ir.program import Program
from graphopt.ir.variable import Variable
from graphopt.passes.change import Change
from graphopt.passes.dead import drop_dead
from graphopt.passes.rules import Becomes, first, ints, result_of, scalar
from graphopt.passes.simplify import Sweep

FLOATS = (np.dtype("f4"), np.dtype("f8"))
MOST_ROWS = 2**20  # that are summed by a product: their ones are a constant of the graph
FEW = 2**14  # elements up to which the price of an op is its start


@dataclass(frozen=True)
class Fuse(Change):
    """Apply each of ``FORMS`` once, for a Program whose shapes are known.

    >>> from graphopt.ir.parse import parse
    >>> p = parse('''
    ... feed x : f32[2, 3]
    ... y : f32[3] = ReduceSum(x, [0], keepdims=0)
    ... ''')
    >>> print(Fuse(keep=("y",)).run(p).text(where=False))
    program : opset 21, 1 op, 1 feed, 0 params
      feed x : f32[2, 3]
      -- forward
      y : f32[3] = MatMul([1.0, 1.0], x)
    """

    keep: tuple[str, ...] = ()

    def change(self, program: Program) -> None:
        """Take the forms, in one walk."""
        Walk(program, self.keep).run()
        drop_dead(program, self.keep)


class Walk(Sweep):
    """A sweep with rules of its own."""

    def _apply(self, op: Operator) -> Becomes | None:
        for form in FORMS.get(op.type, ()):
            self.made = []
            found = form(self, op)
            if found is not None:
                return found
        return None

    def number(self, *values: int) -> Variable:
        """Integers as a constant: i64[n]."""
        return self.program.constant(np.array(values, np.int64))


Form: TypeAlias = Callable[[Walk, Operator], Becomes | None]


def sum_of_rows(s: Walk, op: Operator) -> Becomes | None:
    """ReduceSum(X) over the first axes = MatMul(ones, X), X as a matrix: up to ten times as quick.

    onnxruntime adds row to row; its product is blocked, vectorized and shared by all threads.
    """
    x, axes = first(op), ints(op.maybe("axes"))
    shape = x.tensor_type.shape
    if not axes or shape is None or not x.tensor_type.is_static or x.dtype not in FLOATS:
        return None
    if {axis % len(shape) for axis in axes} != set(range(len(axes))) or len(axes) == len(shape):
        return None
    rows, rest = math.prod(x.shape[: len(axes)]), x.shape[len(axes) :]
    if not 0 < rows <= MOST_ROWS or not math.prod(rest):
        return None
    flat = len(rest) == 1 and not op.attrs["keepdims"]
    matrix = x if x.ndim == 2 else s.emit(op, "Reshape", x, s.number(rows, math.prod(rest)))
    ones = s.program.constant(np.ones(rows, x.dtype))
    if flat:
        return Becomes("MatMul", (ones, matrix))
    total = s.emit(op, "MatMul", ones, matrix)
    kept = (*[1] * len(axes), *rest) if op.attrs["keepdims"] else rest
    return Becomes("Reshape", (total, s.number(*kept)))


def sum_by_twos(s: Walk, op: Operator) -> Becomes | None:
    """Sum(a, b, c) = Add(Add(a, b), c) if it is large: Sum takes one thread, Add takes all."""
    if len(op.inputs) < 3 or _size(result_of(op)) <= FEW:
        return None
    total, *middle, last = op.operands()
    for x in middle:
        total = s.emit(op, "Add", total, x)
    return Becomes("Add", (total, last))


def parts_side_by_side(s: Walk, op: Operator) -> Becomes | None:
    """Sum(Pad(a), Pad(b)) = Concat(a, b) where the zeros of each are around the others.

    What the gradients of slices that share a tensor come to.
    """
    pads = [s.maker(v, "Pad") for v in op.inputs]
    found = [_part(s, pad) for pad in pads if pad is not None and s.once(result_of(pad))]
    parts = [part for part in found if part is not None]
    if len(parts) < len(op.inputs) or len({part.axis for part in parts}) > 1:
        return None
    parts.sort(key=lambda part: part.start)
    ends = [part.start + part.length for part in parts]
    width = result_of(op).shape[parts[0].axis]
    if [0, *ends] != [*(part.start for part in parts), width]:
        return None
    return Becomes("Concat", tuple(part.value for part in parts), {"axis": parts[0].axis})


@dataclass(frozen=True)
class _Part:
    """A tensor with zeros before and behind it along one axis."""

    value: Variable
    axis: int
    start: int
    length: int


def _part(s: Walk, pad: Operator) -> _Part | None:
    x, amounts, fill = first(pad), ints(pad.maybe("pads")), pad.maybe("constant_value")
    if not x.tensor_type.is_static or not amounts or pad.attrs["mode"] != "constant":
        return None
    if (fill is not None and scalar(fill) != 0) or not s.still(pad, x):
        return None
    axes = [*range(x.ndim)] if pad.maybe("axes") is None else ints(pad.maybe("axes"))
    if axes is None:
        return None
    before, after = amounts[: len(axes)], amounts[len(axes) :]
    padded = [(a % x.ndim, b) for a, b, c in zip(axes, before, after, strict=True) if b or c]
    if len(padded) != 1 or min(amounts) < 0:
        return None
    [(axis, start)] = padded
    return _Part(x, axis, start, x.shape[axis])


def cross_entropy_of_rows(s: Walk, op: Operator) -> Becomes | None:
    """SoftmaxCrossEntropyLoss of a matrix = -LogSoftmax along its rows, at the labels.

    onnxruntime takes the scores for [n, c, 1] and normalizes the middle: five times as slow.
    """
    scores, log_prob, reduction = op.operand("scores"), op.result("log_prob"), op.attrs["reduction"]
    if scores.tensor_type.rank != 2 or scores.dtype not in FLOATS:
        return None
    if op.maybe("weights") is not None or (log_prob is not None and s.kept(log_prob)):
        return None
    if reduction != "none" and "ignore_index" in op.attrs:
        return None  # a mean over the labels that count
    own = s.emit(op, "LogSoftmax", scores, axis=-1)  # [n, c]
    each = _at_labels(s, op, own)  # [n, 1]
    if log_prob is not None:
        s.stand(own, log_prob)
        op.outputs = op.outputs[:1]
    if reduction == "none":
        return Becomes("Squeeze", (each, s.number(1)))
    return Becomes(f"Reduce{reduction.capitalize()}", (each,), {"keepdims": 0})


def _at_labels(s: Walk, op: Operator, log_prob: Variable) -> Variable:
    """The negated log probability of each label, 0 where it is ignored: [n, 1]."""
    constant, labels, ignore = (
        s.program.constant,
        op.operand("labels"),
        op.attrs.get("ignore_index"),
    )
    column = s.emit(op, "Unsqueeze", labels, s.number(1))
    if ignore is None:
        return s.emit(op, "Neg", s.emit(op, "GatherElements", log_prob, column, axis=1))
    ignored = s.emit(op, "Equal", column, constant(np.array(ignore, labels.dtype)))
    label = s.emit(op, "Where", ignored, constant(np.array(0, labels.dtype)), column)
    loss = s.emit(op, "Neg", s.emit(op, "GatherElements", log_prob, label, axis=1))
    return s.emit(op, "Where", ignored, constant(np.array(0, loss.dtype)), loss)


def product_of_turned(s: Walk, op: Operator) -> Becomes | None:
    """A' B with rows and columns exchanged and moved = B' A moved: what moves then are whole rows.

    The gradient of transposed keys. Transposes that only exchange rows and columns cost nothing
    before a product: onnxruntime's optimizer takes them into it.
    """
    inner, perm = s.maker(first(op), "MatMul"), op.attrs.get("perm")
    if inner is None or not perm or not s.once(first(op)):
        return None
    left, right = inner.operands()
    turned, rank = s.maker(left, "Transpose"), len(perm)
    if turned is None or rank < 3 or right.tensor_type.rank != rank:
        return None
    swap = [*range(rank - 2), rank - 1, rank - 2]
    after = [swap[axis] for axis in perm]
    if turned.attrs.get("perm") != swap or after[-1] != rank - 1:
        return None
    if not (s.still(turned, first(turned)) and s.still(inner, right)):
        return None
    operands = s.emit(op, "Transpose", right, perm=swap), first(turned)
    if after == [*range(rank)]:
        return Becomes("MatMul", operands)
    return Becomes("Transpose", (s.emit(op, "MatMul", *operands),), {"perm": after})


def _size(x: Variable) -> int:
    """The number of elements; 0 where it is not known."""
    return math.prod(x.shape) if x.tensor_type.is_static else 0


FORMS: Mapping[str, Sequence[Form]] = {
    "Add": [parts_side_by_side],
    "ReduceSum": [sum_of_rows],
    "SoftmaxCrossEntropyLoss": [cross_entropy_of_rows],
    "Sum": [parts_side_by_side, sum_by_twos],
    "Transpose": [product_of_turned],
}
