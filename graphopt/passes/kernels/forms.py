"""Ops in the form that onnxruntime's CPU kernels are quickest at.

Each form means the same; it is not what a person would write, nor what a file should hold.
docs/performance.md has the times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Variable
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.patterns import Becomes, Site, first, ints, result_of, scalar
from graphopt.passes.kernels.fuse_products import (
    activated_product,
    bias_apart,
    bias_of_rows,
    factor_of_product,
    flags_of_product,
    product_of_turned,
    product_with_matrix,
    turned_before,
)
from graphopt.passes.kernels.walk import Forms, take
from graphopt.passes.simplify.views import VIEWS, view_of_view

FLOATS = (np.dtype("f4"), np.dtype("f8"))
MOST_ROWS = 2**20  # that are summed by a product: their ones are a constant of the graph
FEW = 2**14  # elements up to which the price of an op is its start


@dataclass(frozen=True)
class Fuse(Pass):
    """Apply each of ``FUSED_FORMS`` once, for a Program whose shapes are known.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... feed x : f32[2, 3]
    ... y : f32[3] = ReduceSum(x, [0], keepdims=0)
    ... -> y
    ... ''')
    >>> print(Fuse().run(s).text(where=False))
    step : opset 21, 1 op, 1 feed, 0 params
      feed x : f32[2, 3]
      -- forward
      y : f32[3] = MatMul([1.0, 1.0], x)
      -> y
    """

    def change(self, step: Step) -> None:
        """Take the forms, walk by walk."""
        take(step, FUSED_FORMS, LAST, VIEWED)


def sum_of_rows(s: Site, op: Operator) -> Becomes | None:
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
    x, weights = _weighted_rows(s, op, x, len(axes)) or (
        x, s.program.constant(np.ones(rows, x.dtype)))  # fmt: skip
    matrix = x if x.ndim == 2 else s.emit(op, "Reshape", x, s.number(rows, math.prod(rest)))
    if flat:
        return Becomes("MatMul", (weights, matrix))
    total = s.emit(op, "MatMul", weights, matrix)
    kept = (*[1] * len(axes), *rest) if op.attrs["keepdims"] else rest
    return Becomes("Reshape", (total, s.number(*kept)))


def _weighted_rows(
    s: Site, op: Operator, x: Variable, lead: int
) -> tuple[Variable, Variable] | None:
    """X and w [n], if x is X times a number w for each of its rows."""
    product = s.maker(x, "Mul")
    if product is None or not s.once(x):
        return None
    for wide, weights in (product.inputs, product.inputs[::-1]):
        if wide is None or weights is None or wide.tensor_type != x.tensor_type:
            continue
        if weights.shape != (*x.shape[:lead], *[1] * (x.ndim - lead)):
            continue
        return wide, s.emit(op, "Reshape", weights, s.number(math.prod(x.shape[:lead])))
    return None


def mean_of_product(s: Site, op: Operator) -> Becomes | None:
    """ReduceMean(X v) along rows = X (v / n), a product with a column: X v is not written."""
    x, axes = first(op), ints(op.maybe("axes"))
    product = s.maker(x, "Mul")
    if product is None or not axes or not op.attrs["keepdims"] or not s.once(x):
        return None
    if not x.tensor_type.is_static or x.dtype not in FLOATS or [a % x.ndim for a in axes] != [
        x.ndim - 1]:  # fmt: skip
        return None
    for wide, v in (product.inputs, product.inputs[::-1]):
        if wide is None or v is None or v.shape != x.shape[-1:] or wide.shape != x.shape:
            continue
        if not x.shape[-1]:
            continue
        share = s.program.constant(np.array(1 / x.shape[-1], x.dtype))
        column = s.emit(op, "Reshape", s.emit(op, "Mul", v, share), s.number(-1, 1))
        return Becomes("MatMul", (wide, column))
    return None


def half_of_erf(s: Site, op: Operator) -> Becomes | None:
    """Add(Mul(Erf(X), 0.5), 0.5) = HardSigmoid of the same slope: it lies in 0 .. 1. One pass."""
    for x, half in (op.inputs, op.inputs[::-1]):
        scaled = s.maker(x, "Mul")
        if scaled is None or x is None or scalar(half) != 0.5 or not s.once(x):
            continue
        for y, factor in (scaled.inputs, scaled.inputs[::-1]):
            if s.maker(y, "Erf") and scalar(factor) == 0.5 and x.dtype == FLOATS[0]:
                return Becomes("HardSigmoid", (y,), {"alpha": 0.5, "beta": 0.5})
    return None


def sum_by_twos(s: Site, op: Operator) -> Becomes | None:
    """Sum(a, b, c) = Add(Add(a, b), c) if it is large: Sum takes one thread, Add takes all."""
    if len(op.inputs) < 3 or _size(result_of(op)) <= FEW:
        return None
    total, *middle, last = op.operands()
    for x in middle:
        total = s.emit(op, "Add", total, x)
    return Becomes("Add", (total, last))


def parts_side_by_side(s: Site, op: Operator) -> Becomes | None:
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


def turned_together(s: Site, op: Operator) -> Becomes | None:
    """Concat of parts that are each turned and given an axis = one Transpose of them side by side.

    The gradient of what is split into queries, keys and values: onnxruntime would find it, too.
    """
    views = [s.maker(v, "Reshape", "Unsqueeze") for v in op.inputs]
    turned = [None if v is None else s.maker(first(v), "Transpose") for v in views]
    sources = [first(t) for v, t in zip(views, turned, strict=True) if v and t and _once(s, v, t)]
    if len(sources) < len(op.inputs) or len({v.tensor_type for v in sources}) > 1:
        return None
    perms = [t.attrs.get("perm") for t in turned if t is not None]
    perm, axis = perms[0], op.attrs["axis"] % result_of(op).ndim
    shape = first(op).tensor_type.shape
    if not perm or any(p != perm for p in perms) or not sources[0].tensor_type.is_static:
        return None
    source = sources[0].shape
    if shape != (*(order := [source[k] for k in perm])[:axis], 1, *order[axis:]):
        return None
    fixed = next(k for k, p in enumerate([*perm, -1]) if k != p)
    widened = [s.emit(op, "Unsqueeze", v, s.number(fixed)) for v in sources]
    side_by_side = s.emit(op, "Concat", *widened, axis=fixed)
    moved = [p + (p >= fixed) for p in perm]
    return Becomes("Transpose", (side_by_side,), {"perm": [*moved[:axis], fixed, *moved[axis:]]})


def _once(s: Site, view: Operator, turned: Operator) -> bool:
    """Whether a view of a transpose, and the transpose, are each read once."""
    return s.once(result_of(view)) and s.once(result_of(turned))


@dataclass(frozen=True)
class _Part:
    """A tensor with zeros before and behind it along one axis."""

    value: Variable
    axis: int
    start: int
    length: int


def _part(s: Site, pad: Operator) -> _Part | None:
    x, amounts, fill = first(pad), ints(pad.maybe("pads")), pad.maybe("constant_value")
    if not x.tensor_type.is_static or not amounts or pad.attrs["mode"] != "constant":
        return None
    if fill is not None and scalar(fill) != 0:
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


def cross_entropy_of_rows(s: Site, op: Operator) -> Becomes | None:
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
        log_prob.block.remove_var(log_prob)
    if reduction == "none":
        return Becomes("Squeeze", (each, s.number(1)))
    return Becomes(f"Reduce{reduction.capitalize()}", (each,), {"keepdims": 0})


def _at_labels(s: Site, op: Operator, log_prob: Variable) -> Variable:
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


def one_view(s: Site, op: Operator) -> Becomes | None:
    """Reshape(Reshape(x, s), t) = Reshape(x, t): other forms leave views of views."""
    found = view_of_view(s, op)
    return found if isinstance(found, Becomes) else None


def _size(x: Variable) -> int:
    """The number of elements; 0 where it is not known."""
    return math.prod(x.shape) if x.tensor_type.is_static else 0


FUSED_FORMS: Forms = {
    "Add": [parts_side_by_side, half_of_erf],
    "ReduceMean": [mean_of_product],
    "ReduceSum": [sum_of_rows],
    "SoftmaxCrossEntropyLoss": [cross_entropy_of_rows],
    "Sum": [parts_side_by_side, sum_by_twos],
    "Transpose": [product_of_turned],
}
# Forms that others would not see through.
LAST: Forms = {
    "Add": [bias_of_rows],
    "Concat": [turned_together],
    "Gemm": [bias_apart, turned_before],
    "MatMul": [flags_of_product, product_with_matrix],
    "Mul": [factor_of_product],
    "Relu": [activated_product],
}
VIEWED: Forms = {view: [one_view] for view in VIEWS}
