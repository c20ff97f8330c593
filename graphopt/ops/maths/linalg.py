"""Matrix products."""

from __future__ import annotations

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.registry.cases import case
from graphopt.ops.registry.registry import Grads, gradient
from graphopt.ops.tools.counting import up_to


@gradient(
    "Det",
    cases=[case(X=(3, 3)), case(X=(2, 4, 4)), case(X=(2, 3, 2, 2)), case(X=(2, 1, 1))],
)
def det(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = det X        X: [*n, k, k]   Y: [*n]. Derivatives are cofactors, for a singular X too."""
    return {"X": g.Mul(g.Unsqueeze(dY, [-2, -1]), _cofactors(g, op.operand("X")))}


@gradient(
    "Gemm",
    cases=[
        case(A=(2, 3), B=(3, 4), C=(4,)),
        case(A=(3, 2), B=(4, 3), C=(2, 1), attrs={"transA": 1, "transB": 1, "alpha": 0.5}),
        case(A=(2, 3), B=(3, 4), C=(), attrs={"beta": 2.0}),
        case(A=(2, 3), B=(4, 3), attrs={"transB": 1}),
    ],
)
def gemm(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = alpha A' B' + beta C        A': [i, k]   B': [k, j]   C: broadcasts to Y: [i, j]."""
    A, B = op.operand("A"), op.operand("B")
    ta, tb, alpha, beta = (op.attrs[k] for k in ("transA", "transB", "alpha", "beta"))
    if ta:
        dA = g.Gemm(B, dY, transA=tb, transB=1, alpha=alpha)  # [k, i]
    else:
        dA = g.Gemm(dY, B, transB=1 - tb, alpha=alpha)  # [i, k]
    if tb:
        dB = g.Gemm(dY, A, transA=1, transB=ta, alpha=alpha)  # [j, k]
    else:
        dB = g.Gemm(A, dY, transA=1 - ta, alpha=alpha)  # [k, j]
    dC = dY if beta == 1 else g.Mul(dY, beta)
    return {"A": dA, "B": dB, "C": dC}


@gradient(
    "MatMul",
    cases=[
        case(A=(2, 3), B=(3, 4)),
        case(A=(5, 2, 3), B=(3, 4)),
        case(A=(2, 3), B=(5, 3, 4)),
        case(A=(2, 1, 2, 3), B=(4, 3, 2)),
        case(A=(3,), B=(3,)),
        case(A=(3,), B=(2, 3, 4)),
        case(A=(2, 5, 3), B=(3,)),
    ],
)
def matmul(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = A B        A: [*n, i, k]   B: [*n, k, j]   Y: [*n, i, j]; a vector has no i, or no j."""
    A, B = op.operand("A"), op.operand("B")
    a, b = A.tensor_type.rank, B.tensor_type.rank  # None, which is not known, is taken for matrices
    if b == 2 and a != 1:
        return _times_matrix(g, A, B, dY)
    row, column = a == 1, b == 1
    A2 = g.Unsqueeze(A, [0]) if row else A  # [*n, i, k]
    B2 = g.Unsqueeze(B, [1]) if column else B  # [*n, k, j]
    if column:
        dY = g.Unsqueeze(dY, [-1])
    if row:
        dY = g.Unsqueeze(dY, [-2])
    dA = g.MatMul(dY, g.swap(B2))  # [*n, i, k]
    dB = g.MatMul(g.swap(A2), dY)  # [*n, k, j]
    return {"A": g.Squeeze(dA, [-2]) if row else dA, "B": g.Squeeze(dB, [-1]) if column else dB}


def _cofactors(g: Tape, X: Variable) -> Variable:
    """(-1)^(i + j) times the determinant of X without row i and column j: [*n, k, k].

    ONNX has no inverse, which a singular X would not have either. Takes k^4 elements per matrix.
    """
    n, k = X.ndim - 2, g.dim_of(X, -1)
    others = _others(g, k)  # [k, k - 1]
    minors = g.Gather(g.Gather(X, others, axis=-2), others, axis=-1)  # [*n, i, k - 1, j, k - 1]
    minors = g.Transpose(minors, perm=[*range(n), n, n + 2, n + 1, n + 3])
    even = g.Sub(1, g.Mul(g.Mod(up_to(g, k), 2), 2))  # 1, -1, 1, ..
    signs = g.cast(g.Mul(g.Unsqueeze(even, [1]), even), X.dtype)  # [k, k]
    return typed(g.Mul(g.Det(minors), signs), X)


def _others(g: Tape, k: Variable) -> Variable:
    """Row i counts up to k and leaves out i: i64[k, k - 1]        k: [1]."""
    count, skipped = up_to(g, g.Sub(k, 1)), g.Unsqueeze(up_to(g, k), [1])
    rows: Variable = g.Add(count, g.cast(g.GreaterOrEqual(count, skipped), count.dtype))
    return rows


def _times_matrix(g: Tape, A: Variable, B: Variable, dY: Variable) -> Grads:
    """B: [k, j], the same for all of A: [*n, i, k]. Two products of matrices, transposed by flags.

    The product with the transposed A sums over *n at once; a batch would first make [*n, k, j].
    """
    rows, upstream = _as_matrix(g, A), _as_matrix(g, dY)  # [n i, k], [n i, j]
    dA = g.Gemm(upstream, B, transB=1)  # [n i, k]
    dB = g.Gemm(rows, upstream, transA=1)  # [k, j]
    return {"A": g.reshape_like(dA, A), "B": typed(dB, B)}


def _as_matrix(g: Tape, x: Variable) -> Variable:
    """All dims but the last as one."""
    return x if x.tensor_type.rank == 2 else g.Flatten(x, axis=-1)
