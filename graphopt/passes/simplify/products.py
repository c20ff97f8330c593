"""Rules for products of matrices: factors, transposes and biases move into Gemm."""

from __future__ import annotations

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.variable import Variable
from graphopt.passes.engine.patterns import Becomes, Site, first, result_of, rule
from graphopt.passes.simplify.numbers import FLOAT_KINDS, is_plain, scaled, scaled_once

SIDES = ("transA", "transB")


@rule("MatMul")
def transposed_operand(s: Site, op: Operator) -> Becomes | None:
    """MatMul(A, Transpose(B)) = Gemm(A, B, transB=1) for matrices, and so for A."""
    if not _is_matmul_of_matrices(op):
        return None
    found = [_untransposed(s, v) for v in op.operands()]
    if all(v is None for v in found):
        return None
    inputs = [v if t is None else t for v, t in zip(op.operands(), found, strict=True)]
    attrs = {side: int(t is not None) for side, t in zip(SIDES, found, strict=True)}
    return Becomes("Gemm", tuple(inputs), attrs)


@rule("Gemm")
def transpose_into_gemm(s: Site, op: Operator) -> Becomes | None:
    """Gemm(Transpose(A), B) = Gemm(A, B, transA=1), and so for B."""
    for k, side in enumerate(SIDES):
        plain = _untransposed(s, op.inputs[k])
        if plain is not None:
            inputs = (*op.inputs[:k], plain, *op.inputs[k + 1 :])
            return Becomes("Gemm", inputs, {**op.attrs, side: 1 - op.attrs[side]})
    return None


def _untransposed(s: Site, v: Variable | None) -> Variable | None:
    """A, if v is Transpose(A) of a matrix."""
    inner = s.maker(v, "Transpose")
    if inner is None or first(inner).tensor_type.rank != 2:
        return None
    return first(inner) if inner.attrs.get("perm") in (None, [1, 0]) else None


def _is_matmul_of_matrices(op: Operator) -> bool:
    return all(v.tensor_type.rank == 2 and v.dtype in FLOAT_KINDS for v in _factors(op))


@rule("Add")
def bias_into_gemm(s: Site, op: Operator) -> Becomes | None:
    """Add(MatMul(A, B), c) = Gemm(A, B, c) for matrices and a vector c along the rows."""
    for product, bias in (op.inputs, op.inputs[::-1]):
        inner = s.maker(product, "Gemm", "MatMul")
        if inner is None or product is None or bias is None or not s.once(product):
            continue
        if not _takes_bias(inner, bias):
            continue
        attrs = {**inner.attrs, "beta": 1.0} if inner.type == "Gemm" else {}
        return Becomes("Gemm", (*inner.inputs[:2], bias), attrs)
    return None


def _takes_bias(op: Operator, bias: Variable) -> bool:
    result, shape = result_of(op).tensor_type.shape, bias.tensor_type.shape
    if shape is None or result is None or len(op.inputs) > 2 or not _is_matmul_of_matrices(op):
        return False
    return shape == result[1:]


@rule("Mul")
def factor_into_gemm(s: Site, op: Operator) -> Becomes | None:
    """Mul(Gemm(A, B), c) = Gemm(A, B, alpha=c)."""
    found = scaled(op)
    inner = None if found is None else s.maker(found[0], "Gemm", "MatMul")
    if found is None or inner is None or not s.once(found[0]):
        return None
    if not _is_matmul_of_matrices(inner):
        return None
    attrs = dict(inner.attrs) if inner.type == "Gemm" else {"alpha": 1.0, "beta": 1.0}
    attrs.update(alpha=attrs["alpha"] * found[1], beta=attrs["beta"] * found[1])
    attrs["beta"] = attrs["beta"] if len(inner.inputs) > 2 else 1.0
    return Becomes("Gemm", tuple(inner.inputs), attrs) if _plain(attrs, op) else None


@rule("Gemm")
def factor_from_operand(s: Site, op: Operator) -> Becomes | None:
    """Gemm(Mul(A, c), B) = Gemm(A, B, alpha=c), and so for B."""
    for k in range(2):
        found = scaled_once(s, op.inputs[k])
        if found is None or found[0].tensor_type.rank != 2:
            continue
        attrs = {**op.attrs, "alpha": op.attrs["alpha"] * found[1]}
        if _plain(attrs, op):
            return Becomes("Gemm", (*op.inputs[:k], found[0], *op.inputs[k + 1 :]), attrs)
    return None


def _plain(attrs: dict[str, float], op: Operator) -> bool:
    """Whether alpha and beta can be written: they are single precision, whatever the operands."""
    factors, dtype = [attrs["alpha"], attrs["beta"]], result_of(op).dtype
    exact = dtype.itemsize <= 4 or all(float(np.float32(f)) == f for f in factors)
    return exact and all(is_plain(f, np.dtype("f4")) for f in factors if f)


def _factors(op: Operator) -> list[Variable]:
    return [v for v in op.inputs[:2] if v is not None]
