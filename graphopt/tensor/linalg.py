"""Matrix products and their relatives."""

from __future__ import annotations

from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, binary, named, need_rank, pair


def addmm(
    input: TensorLike,
    x: TensorLike,
    y: TensorLike,
    beta: float = 1.0,
    alpha: float = 1.0,
    name: str | None = None,
) -> Variable:
    """The sum ``beta`` input + ``alpha`` x y        x: [i, k]   y: [k, j]   result: [i, j].

    ``input`` is broadcast to the shape of the result; ``alpha`` and ``beta`` are numbers.

    >>> addmm(1.0, x, [[1.0]] * 4)
    <Variable gemm_0 : f32[N, 1]>
    """
    left, right = pair("Gemm", x, y)
    g = recorder(left, right, input)
    bias = as_variable(g, input)
    return named(g.Gemm(left, right, bias, alpha=float(alpha), beta=float(beta)), name)


def bmm(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """Products of a batch of matrices        x: [n, i, k]   y: [n, k, j]   result: [n, i, j].

    Raises:
        ArgumentError: ``x`` or ``y`` does not have three dims.
    """
    left, right = pair("MatMul", x, y)
    need_rank(left, "bmm", 3)
    need_rank(right, "bmm", 3)
    return binary("MatMul", left, right, name)


def dot(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """Sum of x y over the last dim        x, y: [n] or [m, n]   result: [] or [m].

    >>> dot(x, x)
    <Variable reducesum_0 : f32[N]>

    Raises:
        ArgumentError: ``x`` is neither a vector nor a matrix.
    """
    left, right = pair("Mul", x, y)
    need_rank(left, "dot", 1, 2)
    g = recorder(left, right)
    return named(g.ReduceSum(g.Mul(left, right), [-1], keepdims=0), name)


def matmul(
    x: TensorLike,
    y: TensorLike,
    transpose_x: bool = False,
    transpose_y: bool = False,
    name: str | None = None,
) -> Variable:
    """Matrix product        x: [*n, i, k]   y: [*n, k, j]   result: [*n, i, j]; *n broadcast.

    A vector is a row as ``x`` and a column as ``y``; the result lacks its dim. ``transpose_x`` and
    ``transpose_y`` exchange the last two dims first.

    >>> matmul(x, x, transpose_x=True)
    <Variable matmul_0 : f32[4, 4]>
    """
    left, right = pair("MatMul", x, y)
    g = recorder(left, right)
    left = _swapped(g, left) if transpose_x else left
    right = _swapped(g, right) if transpose_y else right
    return named(g.MatMul(left, right), name)


def _swapped(g: Tape, x: Variable) -> Variable:
    return g.swap(x) if x.ndim > 1 else x


def mm(input: TensorLike, mat2: TensorLike, name: str | None = None) -> Variable:
    """Matrix product        input: [*n, i, k]   mat2: [*n, k, j]   result: [*n, i, j].

    >>> mm(x, [[1.0]] * 4)
    <Variable matmul_0 : f32[N, 1]>
    """
    return matmul(input, mat2, name=name)


def mv(x: TensorLike, vec: TensorLike, name: str | None = None) -> Variable:
    """Matrix times vector        x: [i, k]   vec: [k]   result: [i].

    >>> mv(x, [1.0, 2.0, 3.0, 4.0])
    <Variable matmul_0 : f32[N]>
    """
    return matmul(x, vec, name=name)


def outer(x: TensorLike, y: TensorLike, name: str | None = None) -> Variable:
    """All products of an element of x with one of y        x: [*n]   y: [*m]   result: [n, m].

    Both are flattened first.

    >>> outer([1.0, 2.0], [1.0, 2.0, 3.0])
    <Variable mul_0 : f32[2, 3]>
    """
    left, right = pair("Mul", x, y)
    g = recorder(left, right)
    return named(g.Mul(g.Reshape(left, [-1, 1]), g.Reshape(right, [1, -1])), name)


def t(input: TensorLike, name: str | None = None) -> Variable:
    """A matrix transposed; a vector or scalar as it is        input: [i, j]   result: [j, i].

    >>> t(x)
    <Variable transpose_0 : f32[4, N]>

    Raises:
        ArgumentError: ``input`` has more than two dims.
    """
    g = recorder(input)
    x = as_variable(g, input)
    need_rank(x, "t", 0, 1, 2)
    return named(_swapped(g, x), name)
