import numpy as np
import pytest

from graphopt import tensor as tn
from tests.tensor.recording import assert_gradient, both, run

X = np.array([[0.3, -1.2, 0.0, 2.0, 0.7], [2.5, -0.4, 0.9, 1.1, -3.0]], np.float32)


@pytest.mark.parametrize("axis", [0, 1, -1, None])
@pytest.mark.parametrize(
    ("function", "expected"), [(tn.cumsum, np.cumsum), (tn.cumprod, np.cumprod)]
)
def test_same_as_numpy(function, expected, axis):
    for opened in (False, True):
        found = run(lambda x: function(x, axis), X, opened=opened)
        np.testing.assert_allclose(found, expected(X, axis), rtol=1e-5)
        double = run(lambda x: function(x, axis, dtype="float64"), X, opened=opened)
        assert double.dtype == np.float64
        np.testing.assert_allclose(double, expected(X.astype("f8"), axis))


def test_product_of_integers():
    n = np.array([[1, 2, 3], [4, -5, 6]])
    np.testing.assert_array_equal(both(lambda x: tn.cumprod(x, 1), n), n.cumprod(1))
    np.testing.assert_array_equal(both(lambda x: tn.cumprod(x, 0), n[:1]), n[:1])


@pytest.mark.parametrize("axis", [0, 1, None])
def test_gradient_of_a_product(axis):
    assert_gradient(lambda x: tn.cumprod(x, axis), X)
