"""Rules for ops that only move or view elements, and for casts."""

from __future__ import annotations

import numpy as np

from graphopt.ir.model.dropout import drops
from graphopt.ir.model.operator import Operator, Values
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import Dim, Shape, from_onnx_dtype
from graphopt.passes.engine.patterns import (
    Becomes,
    Site,
    first,
    ints,
    result_of,
    rule,
    same_shape,
    same_type,
    scalar,
    sole,
    spreads,
)

VIEWS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
SPREADING = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max",
    "Min", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip
REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")


@rule("Identity")
def identity(s: Site, op: Operator) -> Variable | None:
    """Identity(x) = x."""
    return first(op)


@rule("Concat", "Max", "Mean", "Min", "Sum")
def of_one(s: Site, op: Operator) -> Variable | None:
    """Sum(x) = x."""
    return first(op) if len(op.inputs) == 1 else None


@rule("Cast")
def cast(s: Site, op: Operator) -> Variable | Becomes | None:
    """Cast(x, its dtype) = x, and Cast(Cast(x)) without the one between if that keeps all."""
    x, to = first(op), from_onnx_dtype(op.attrs["to"])
    if x.dtype == to:
        return x
    inner = s.maker(x, "Cast")
    if inner is None:
        return None
    if _holds(x.dtype, first(inner).dtype) and to.kind in "biuf":
        if first(inner).dtype == to:
            return first(inner)
        return Becomes("Cast", (first(inner),), dict(op.attrs))
    return None


def _holds(wide: np.dtype, narrow: np.dtype) -> bool:
    """Whether a dtype has all numbers of another: float64 has not all of int64."""
    if wide.kind not in "biuf" or narrow.kind not in "biuf":
        return False
    rounds = wide.kind == "f" and narrow.kind in "iu" and narrow.itemsize >= 8
    return np.can_cast(narrow, wide, "safe") and not rounds


def _fixed_target(s: Site, op: Operator) -> bool:
    """Whether a view's shape is known: one that is computed may be there to order the ops."""
    target = op.inputs[1] if len(op.inputs) > 1 else None
    return target is None or isinstance(target, Constant) or s.maker(target, "Shape") is not None


@rule("Expand", *VIEWS)
def same_view(s: Site, op: Operator) -> Variable | None:
    """Reshape(x, its shape) = x, and so for the other views."""
    x = first(op)
    return x if same_shape(x, result_of(op)) and _fixed_target(s, op) else None


@rule(*VIEWS)
def view_of_view(s: Site, op: Operator) -> Becomes | None:
    """Reshape(Reshape(x, s), t) = Reshape(x, t), and so for the other views."""
    inner = s.maker(first(op), *VIEWS)
    if inner is None or not _fixed_target(s, op) or not _fixed_target(s, inner):
        return None
    source, target = first(inner), target_of(result_of(op).tensor_type.shape)
    if target is None:
        return None
    shape = s.program.constant(np.array(target, np.int64))
    return Becomes("Reshape", (source, shape), {"allowzero": int(0 in target)})


def target_of(shape: Shape | None) -> list[int] | None:
    """What to Reshape to for this shape; None where it has two open dims."""
    if shape is None:
        return None
    dims = [d if isinstance(d, int) else -1 for d in shape]
    return dims if dims.count(-1) <= ("0" not in map(str, dims)) else None


@rule("Transpose")
def same_order(s: Site, op: Operator) -> Variable | None:
    """Transpose(x, 0 1 2 …) = x."""
    perm = op.attrs.get("perm")
    return first(op) if perm and perm == sorted(perm) else None


@rule("Transpose")
def transpose_of_transpose(s: Site, op: Operator) -> Becomes | None:
    """Transpose(Transpose(x, p), q) = Transpose(x, p q).

    Unless q only swaps the last two dims: onnxruntime takes such a one into MatMul.
    """
    inner = s.maker(first(op), "Transpose")
    if inner is None:
        return None
    p, q = inner.attrs.get("perm"), op.attrs.get("perm")
    if not p or not q:
        return None
    both = [p[k] for k in q]
    if both != sorted(both) and (_swaps_last(q) or not s.once(first(op))):
        return None
    return Becomes("Transpose", (first(inner),), {"perm": both})


def _swaps_last(perm: list[int]) -> bool:
    n = len(perm)
    return n > 2 and perm == [*range(n - 2), n - 1, n - 2]


@rule("Transpose")
def transpose_of_ones(s: Site, op: Operator) -> Becomes | None:
    """Transpose(x) = Reshape(x) where it only moves dims of 1."""
    shape, perm = first(op).tensor_type.shape, op.attrs.get("perm")
    target = target_of(result_of(op).tensor_type.shape)
    if not perm or shape is None or target is None:
        return None
    moved = [k for k in perm if shape[k] != 1]
    if moved != sorted(moved) or 0 in shape:
        return None
    return Becomes("Reshape", (first(op), s.program.constant(np.array(target, np.int64))))


@rule("Slice")
def whole_slice(s: Site, op: Operator) -> Variable | None:
    """Slice(x, all of it, in steps of 1) = x."""
    steps = op.maybe("steps")
    forward = steps is None or scalar(steps) == 1
    return first(op) if forward and same_shape(first(op), result_of(op)) else None


@rule("Tile")
def tiled_once(s: Site, op: Operator) -> Variable | None:
    """Tile(x, 1 1 …) = x."""
    return first(op) if scalar(op.inputs[1]) == 1 else None


@rule("Pad")
def padded_by_nothing(s: Site, op: Operator) -> Variable | None:
    """Pad(x, 0 0 …) = x."""
    return first(op) if scalar(op.inputs[1]) == 0 else None


@rule("Dropout")
def dropping_nothing(s: Site, op: Operator) -> Variable | None:
    """Dropout(x) = x while it does not train."""
    return first(op) if drops(op) is False and sole(op) else None


@rule("Where")
def where_known(s: Site, op: Operator) -> Variable | None:
    """Where(true, x, y) = x, Where(false, x, y) = y, Where(c, x, x) = x."""
    condition, x, y = op.operands()
    taken = scalar(condition)
    chosen = x if taken or x is y else y
    known = taken is not None or x is y
    return chosen if known and same_type(chosen, result_of(op)) else None


@rule(*SPREADING)
def spread_anyway(s: Site, op: Operator) -> Becomes | None:
    """Add(Expand(x), y) = Add(x, y) where y has the whole shape."""
    wide = result_of(op).tensor_type.shape
    for k, v in enumerate(op.inputs):
        inner = s.maker(v, "Expand")
        if inner is None:
            continue
        whole = any(w is not None and w.tensor_type.shape == wide and j != k
                    for j, w in enumerate(op.inputs))  # fmt: skip
        if whole and wide is not None and spreads(first(inner).tensor_type.shape, wide):
            return Becomes(op.type, _put(op.inputs, k, first(inner)), dict(op.attrs))
    return None


def _put(inputs: Values, k: int, v: Variable | None) -> tuple[Variable | None, ...]:
    return (*inputs[:k], v, *inputs[k + 1 :])


@rule(*REDUCTIONS)
def over_ones(s: Site, op: Operator) -> Variable | Becomes | None:
    """ReduceSum(x, axes of length 1) = Squeeze(x, axes), or x if the axes stay."""
    x, axes = first(op), _axes(op)
    if axes is None or any(_length(x, k) != 1 for k in axes):
        return None
    if op.attrs["keepdims"]:
        return x
    return Becomes("Squeeze", (x, s.program.constant(np.array(axes, np.int64))))


@rule("ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum")
def reduce_of_reduce(s: Site, op: Operator) -> Becomes | None:
    """ReduceSum(ReduceSum(x, a), b) = ReduceSum(x, a b) if both keep dims or both do not."""
    inner, outer_axes = s.maker(first(op), op.type), _axes(op)
    if inner is None or outer_axes is None or not s.once(first(op)):
        return None
    axes, rank = _axes(inner), first(inner).tensor_type.rank
    keep = op.attrs["keepdims"]
    if axes is None or rank is None or keep != inner.attrs["keepdims"]:
        return None
    left = [*range(rank)] if keep else [k for k in range(rank) if k not in axes]
    both = sorted({*axes, *(left[k] for k in outer_axes)})
    return Becomes(
        op.type, (first(inner), s.program.constant(np.array(both, np.int64))), {"keepdims": keep}
    )


def _axes(op: Operator) -> list[int] | None:
    """The axes of a reduction, from 0; None where they or the rank are not known, or none."""
    found, rank = ints(op.inputs[1] if len(op.inputs) > 1 else None), first(op).tensor_type.rank
    if not found or rank is None:
        return None
    return [k % rank for k in found]


def _length(x: Variable, axis: int) -> Dim:
    assert x.tensor_type.shape is not None
    return x.tensor_type.shape[axis]
