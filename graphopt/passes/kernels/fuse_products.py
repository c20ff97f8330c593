"""Products in the form that onnxruntime's CPU kernels are quickest at."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.variable import Variable
from graphopt.ops.kernels.fused import ACTIVATED, PRODUCT
from graphopt.passes.engine.patterns import Becomes, Site, first, result_of
from graphopt.passes.simplify.numbers import scaled

FLOAT = np.dtype("f4")
MANY_ROWS, BROAD = 64, 512  # of the operands of a product whose left one is turned by itself
WIDE = 2**17  # elements of a product from which the bias is better added behind it


def product_of_turned(s: Site, op: Operator) -> Becomes | None:
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
    operands = s.emit(op, "Transpose", right, perm=swap), first(turned)
    if after == [*range(rank)]:
        return Becomes("MatMul", operands)
    return Becomes("Transpose", (s.emit(op, "MatMul", *operands),), {"perm": after})


def flags_of_product(s: Site, op: Operator) -> Becomes | None:
    """MatMul(A, Transpose(B)) = FusedMatMul(A, B, transB=1) for stacks; so for A, and factors."""
    operands = list(op.operands())
    if not all(map(_is_batch, operands)) or operands[0].shape[:-2] != operands[1].shape[:-2]:
        return None
    (a, turned_a, one), (b, turned_b, other) = (_bare(s, v) for v in operands)
    if a is operands[0] and b is operands[1]:
        return None
    attrs = {"transA": int(turned_a), "transB": int(turned_b), "alpha": one * other}
    return Becomes(PRODUCT, (a, b), attrs)


def _bare(s: Site, v: Variable) -> tuple[Variable, bool, float]:
    """X, whether it is turned, and c, if v is c X or c X', in whatever order; v itself if not."""
    turned, factor = False, 1.0
    while True:
        inner = s.maker(v, "Mul")
        found = None if inner is None else scaled(inner)
        before = _unswapped(s, v)
        if before is not None:
            v, turned = before, not turned
        elif inner is not None and found is not None:
            v, factor = found[0], factor * found[1]
        else:
            return v, turned, factor


def factor_of_product(s: Site, op: Operator) -> Becomes | None:
    """Mul(MatMul(A, B), c) = FusedMatMul(A, B, alpha=c) for stacks."""
    found = scaled(op)
    inner = None if found is None else s.maker(found[0], "MatMul", PRODUCT)
    if found is None or inner is None or not all(map(_is_batch, inner.operands())):
        return None
    if not s.once(found[0]):
        return None
    attrs = {**inner.attrs, "alpha": inner.attrs.get("alpha", 1.0) * found[1]}
    return Becomes(PRODUCT, tuple(inner.inputs), attrs)


def activated_product(s: Site, op: Operator) -> Becomes | None:
    """Relu(Gemm(A, B, c)) = FusedGemm of the same: one pass less over the result."""
    inner = s.maker(first(op), "Gemm")
    if inner is None or not s.once(first(op)) or first(op).dtype != FLOAT:
        return None
    return Becomes(ACTIVATED, tuple(inner.inputs), {**inner.attrs, "activation": op.type})


def _is_batch(v: Variable) -> bool:
    return v.tensor_type.is_static and v.ndim > 2 and v.dtype == FLOAT


def _unswapped(s: Site, v: Variable) -> Variable | None:
    """X, if v is X with its last two dims exchanged."""
    maker = s.maker(v, "Transpose")
    if maker is None:
        return None
    rank = v.ndim
    swap = [*range(rank - 2), rank - 1, rank - 2]
    return first(maker) if maker.attrs.get("perm") == swap else None


def bias_apart(s: Site, op: Operator) -> Becomes | None:
    """Gemm(A, B, c) = Add(Gemm(A, B), c) if it is large: Gemm spreads c by one thread."""
    y, bias = result_of(op), op.maybe("C")
    if bias is None or bias.tensor_type.rank != 1 or not _is_wide(y) or op.attrs["beta"] != 1:
        return None
    attrs = {**op.attrs, "beta": 1.0}
    return Becomes("Add", (s.emit(op, "Gemm", op.operand("A"), op.operand("B"), **attrs), bias))


def turned_before(s: Site, op: Operator) -> Becomes | None:
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


def product_with_matrix(s: Site, op: Operator) -> Becomes | None:
    """MatMul(X, W) of X [*n, k] and a matrix = Gemm over [n, k]. onnxruntime would do the same."""
    x, w = op.operands()
    y = result_of(op)
    if not (_is_batch(x) and _is_batch(y) and w.tensor_type.rank == 2) or w.shape[1] == 1:
        return None
    rows = s.emit(op, "Reshape", x, s.number(math.prod(x.shape[:-1]), x.shape[-1]))
    return Becomes("Reshape", (s.emit(op, "Gemm", rows, w), s.number(*y.shape)))


def bias_of_rows(s: Site, op: Operator) -> Becomes | None:
    """Add(MatMul(X, W), c), as the form above leaves it, = Gemm with c, unless it is large."""
    for product, bias in (op.inputs, op.inputs[::-1]):
        view = s.maker(product, "Reshape")
        gemm = None if view is None else s.maker(first(view), "Gemm")
        if view is None or gemm is None or product is None or bias is None:
            continue
        if not all(v.tensor_type.is_static for v in (product, bias, first(view))):
            continue
        if len(gemm.inputs) > 2 or _is_wide(product) or bias.shape != result_of(gemm).shape[1:]:
            continue
        if not (product.shape[-1:] == bias.shape and s.once(product) and s.once(first(view))):
            continue
        whole = s.emit(op, "Gemm", *gemm.operands(), bias, **gemm.attrs)
        return Becomes("Reshape", (whole, s.number(*product.shape)))
    return None


def _is_wide(v: Variable) -> bool:
    return v.tensor_type.is_static and v.dtype == FLOAT and math.prod(v.shape) >= WIDE
