import numpy as np
import pytest

from graphopt import tensor as tn
from graphopt.errors import ArgumentError
from tests.tensor.recording import both, fed

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
N = np.array([[1, 2, 4], [5, -7, 3]])
AXES = [None, 0, -1, [0, 2], [-1, 1]]
FUNCTIONS = [
    (tn.sum, np.sum), (tn.mean, np.mean), (tn.max, np.max), (tn.min, np.min), (tn.amax, np.max),
    (tn.amin, np.min), (tn.prod, np.prod),
    (tn.logsumexp, lambda x, axis, keepdims: np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))),
    (tn.var, lambda x, axis, keepdims: np.var(x, axis, keepdims=keepdims, ddof=1)),
    (tn.std, lambda x, axis, keepdims: np.std(x, axis, keepdims=keepdims, ddof=1)),
]  # fmt: skip


@pytest.mark.parametrize(("function", "expected"), FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("keepdim", [False, True])
def test_reduction(function, expected, axis, keepdim):
    found = both(lambda x: function(x, axis=axis, keepdim=keepdim), X)
    axes = tuple(axis) if isinstance(axis, list) else axis
    np.testing.assert_allclose(
        found, expected(X, axis=axes, keepdims=keepdim), rtol=2e-5, atol=1e-6
    )


@pytest.mark.parametrize("p", [None, "fro", 0, 1, 2, 3, np.inf, -np.inf])
def test_norm(p):
    order = 2 if p in (None, "fro") else p
    found = both(lambda x: tn.norm(x, p, axis=1), X)
    np.testing.assert_allclose(found, np.linalg.norm(X, order, axis=1), rtol=1e-5)
    assert both(lambda x: tn.norm(x, p), X).shape == ()


def test_norms_without_a_name():
    with pytest.raises(ArgumentError, match="p cannot be 'nuc'"):
        tn.norm(fed("x", X), "nuc")


def test_integers():
    assert both(tn.mean, N) == 1  # 8 / 6
    assert both(lambda x: tn.mean(x, axis=0), N).tolist() == [3, -2, 3]
    assert both(tn.sum, N.astype(np.int32)).dtype == np.int64
    assert both(tn.sum, N > 2).item() == 3
    assert both(lambda x: tn.sum(x, dtype="float64"), N).dtype == np.float64
    assert both(tn.max, N) == 5


def test_truth():
    np.testing.assert_array_equal(both(lambda x: tn.all(x, axis=0), N > 1), [False, False, True])
    np.testing.assert_array_equal(both(lambda x: tn.any(x, axis=1), N < 0), [False, True])


def test_logsumexp_of_large_numbers():
    big = np.array([[1000.0, 1000.0], [-1000.0, -1000.0]], "f4")
    np.testing.assert_allclose(
        both(lambda x: tn.logsumexp(x, axis=1), big), big[:, 0] + np.log(2), rtol=1e-6
    )


def test_scalars_and_biased_variance():
    assert both(lambda x: tn.sum(x, axis=-1), np.float32(3.0)) == 3.0
    np.testing.assert_allclose(both(lambda x: tn.var(x, unbiased=False), X), X.var(), rtol=1e-5)
    np.testing.assert_allclose(both(lambda x: tn.sum(x, axis=[]), X), X.sum(), rtol=1e-5)
