"""Products in the form that onnxruntime's CPU kernels are quickest at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from graphopt.ir.operator import Operator
from graphopt.ir.variable import Variable
from graphopt.passes.rules import Becomes, first, result_of

if TYPE_CHECKING:
    from graphopt.passes.fuse import Walk

FLOAT = np.dtype("f4")
SWAP = [0, 2, 1]
MANY_ROWS, BROAD = 64, 512  # of the operands of a product whose left one is turned by itself
WIDE = 2**17  # elements of a product from which the bias is better added behind it


def product_of_turned(s: Walk, op: Operator) -> Becomes | None:
    """A' B with rows and columns exchanged and moved = B' A moved: what moves then are whole rows.

    The gradient of transposed keys.
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


def turned_apart(s: Walk, op: Operator) -> Becomes | None:
    """A product of heads, of which one is transposed twice: views keep the two apart.

    onnxruntime takes a transpose of rows and columns into its product, unless it has merged it with
    the transpose before it: then heads are copied once as they are and once turned.
    """
    operands = list(op.operands())
    if not all(map(_is_batch, operands)) or operands[0].shape[:-2] != operands[1].shape[:-2]:
        return None
    plain = [_unswapped(s, v) for v in operands]
    if not any(s.maker(v, "Transpose") for v in plain):
        return None
    batch, flat = math.prod(operands[0].shape[:-2]), []
    for v, before in zip(operands, plain, strict=True):
        source = v if before is None else before
        matrices = s.emit(op, "Reshape", source, s.number(batch, *source.shape[-2:]))
        flat.append(matrices if before is None else s.emit(op, "Transpose", matrices, perm=SWAP))
    return Becomes("Reshape", (s.emit(op, "MatMul", *flat), s.number(*result_of(op).shape)))


def _is_batch(v: Variable) -> bool:
    return v.tensor_type.is_static and v.ndim > 2 and v.dtype == FLOAT


def _unswapped(s: Walk, v: Variable) -> Variable | None:
    """X, if v is X with its last two dims exchanged."""
    maker = s.maker(v, "Transpose")
    if maker is None or not s.still(maker, first(maker)):
        return None
    rank = v.ndim
    swap = [*range(rank - 2), rank - 1, rank - 2]
    return first(maker) if maker.attrs.get("perm") == swap else None


def bias_apart(s: Walk, op: Operator) -> Becomes | None:
    """Gemm(A, B, c) = Add(Gemm(A, B), c) if it is large: Gemm spreads c by one thread."""
    y, bias = result_of(op), op.maybe("C")
    if bias is None or bias.tensor_type.rank != 1 or not _is_wide(y) or op.attrs["beta"] != 1:
        return None
    attrs = {**op.attrs, "beta": 1.0}
    return Becomes("Add", (s.emit(op, "Gemm", op.operand("A"), op.operand("B"), **attrs), bias))


def turned_before(s: Walk, op: Operator) -> Becomes | None:
    """Gemm(A, B, transA=1) = Gemm(Transpose(A), B) where B is broad.

    Gemm turns A anew for every 128 columns of B.
    """
    a, y = op.operand("A"), result_of(op)
    if not op.attrs["transA"] or not a.tensor_type.is_static or not y.tensor_type.is_static:
        return None
    if a.dtype != FLOAT or a.shape[0] < MANY_ROWS or y.shape[1] < BROAD:
        return None
    turned = s.emit(op, "Transpose", a, perm=[1, 0])
    return Becomes("Gemm", (turned, *op.inputs[1:]), {**op.attrs, "transA": 0})


def product_with_matrix(s: Walk, op: Operator) -> Becomes | None:
    """MatMul(X, W) of a large X [*n, k] and a matrix = Gemm over [n, k].

    onnxruntime would do the same, but take the bias in, which ``bias_apart`` keeps out.
    """
    x, w = op.operands()
    y = result_of(op)
    if not (_is_batch(x) and w.tensor_type.rank == 2 and _is_wide(y)):
        return None
    rows = s.emit(op, "Reshape", x, s.number(math.prod(x.shape[:-1]), x.shape[-1]))
    return Becomes("Reshape", (s.emit(op, "Gemm", rows, w), s.number(*y.shape)))


def _is_wide(v: Variable) -> bool:
    return v.tensor_type.is_static and v.dtype == FLOAT and math.prod(v.shape) >= WIDE
