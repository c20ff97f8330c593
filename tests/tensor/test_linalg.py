import numpy as np
import pytest

from graphopt import tensor as tn
from graphopt.errors import ArgumentError, ShapeError
from tests.tensor.recording import assert_gradient, both, fed, run

RNG = np.random.default_rng(2)
A, B = RNG.normal(size=(2, 3, 4)).astype("f4"), RNG.normal(size=(2, 4, 5)).astype("f4")
V = RNG.normal(size=4).astype("f4")
EINSUMS = [
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
    ("i,j->ij", [(2,), (3,)]), ("ij,ij->", [(2, 3), (2, 3)]), ("ij->ji", [(2, 3)]),
    ("ij->i", [(2, 3)]), ("bhtd,bhsd->bhts", [(2, 2, 3, 4), (2, 2, 5, 4)]),
    ("abcd,cde->abe", [(2, 3, 4, 5), (4, 5, 2)]), ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 2)]),
    ("ij,kj->ki", [(2, 3), (4, 3)]), ("ab,cd->dbca", [(2, 3), (4, 5)]), ("i,i->i", [(3,), (3,)]),
    ("ij,jk", [(2, 3), (3, 4)]), ("aij,b->ab", [(2, 3, 4), (5,)]), ("b a, a -> b", [(2, 3), (3,)]),
    ("ii->i", [(3, 3)]), ("ii", [(3, 3)]), ("iji->ij", [(3, 2, 3)]), ("iii->i", [(3, 3, 3)]),
    ("iij,jk->ik", [(3, 3, 2), (2, 4)]), ("ii,jj->ij", [(2, 2), (3, 3)]),
    ("...ij,...jk->...ik", [(2, 3, 4), (4, 5)]), ("i...->...", [(2, 3, 4)]),
    ("...ii->...i", [(2, 4, 3, 3)]), ("b...,b...->...", [(2, 3, 4), (2, 3, 4)]),
    ("...i,i...", [(2, 3), (3,)]), ("i...j,...->j...i", [(2, 3, 4, 5), (4,)]), ("...->...", [(2,)]),
]  # fmt: skip


@pytest.mark.parametrize(("equation", "shapes"), EINSUMS, ids=[e for e, _ in EINSUMS])
def test_einsum(equation, shapes):
    arrays = [RNG.normal(size=s).astype("f4") for s in shapes]
    expected = np.einsum(equation, *arrays)
    for opened in (False, True):
        found = run(lambda *v: tn.einsum(equation, *v), *arrays, opened=opened)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,ij->ij", [(1, 3), (2, 3)]), ("ij,kj->i", [(2, 1), (4, 3)]),
        ("...i,...i->...i", [(2, 1, 3), (4, 3)]), ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 2)]),
        ("ij,ij->", [(1, 1), (1, 1)]),
    ],
)  # fmt: skip
def test_einsum_broadcasts_dims_of_one(equation, shapes):
    arrays = [RNG.normal(size=s).astype("f4") for s in shapes]
    found = run(lambda *v: tn.einsum(equation, *v), *arrays)
    np.testing.assert_allclose(found, np.einsum(equation, *arrays), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [("iij,jk->ik", [(3, 3, 2), (2, 4)]), ("...ij,...jk->...ik", [(2, 3, 4), (4, 5)])],
)
def test_einsum_gradient(equation, shapes):
    arrays = [RNG.normal(size=s) for s in shapes]
    assert_gradient(lambda *v: tn.einsum(equation, *v), *arrays)


@pytest.mark.parametrize(
    "equation", ["ij,jk", "i->i", "ij->k", "ij->ii", "ijk->i", "...j->j", "i..j->i", "......->"]
)
def test_einsum_errors(equation):
    with pytest.raises(ArgumentError, match="does not fit the operands"):
        tn.einsum(equation, fed("x", np.zeros((2, 2), "f4")))


def test_einsum_of_a_matrix_without_a_diagonal():
    with pytest.raises(ArgumentError, match="dims of x labelled 'i' differ"):
        tn.einsum("ii->i", fed("x", A[0]))


def test_products():
    def near(found, expected):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    near(both(tn.matmul, A, B), A @ B)
    near(both(tn.bmm, A, B), A @ B)
    near(both(tn.mm, A, B), A @ B)
    near(both(tn.matmul, A, V), A @ V)
    near(both(lambda v, b: tn.matmul(v, b, transpose_x=True), V, B), V @ B)
    near(both(lambda a: tn.matmul(a, a, transpose_y=True), A), A @ A.swapaxes(1, 2))
    near(both(tn.mv, A[0], V), A[0] @ V)
    near(both(tn.outer, A[0], V), np.outer(A[0], V))
    near(both(tn.dot, V, V), V @ V)
    near(both(tn.dot, A[0], A[0]), (A[0] * A[0]).sum(1))
    near(
        both(lambda a, b: tn.addmm(1.0, a, b, beta=2.0, alpha=0.5), A[0], B[0]),
        2 + 0.5 * A[0] @ B[0],
    )


def test_errors():
    a, b = fed("a", A), fed("b", B)
    with pytest.raises(ShapeError, match="MatMul cannot take these inputs"):
        tn.matmul(a, b, transpose_y=True)
    with pytest.raises(ArgumentError, match="bmm takes a 3-D tensor"):
        tn.bmm(fed("m", A[0]), b)
