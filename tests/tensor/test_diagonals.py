import numpy as np
import pytest

from graphopt import tensor as tn
from graphopt.errors import ArgumentError
from tests.tensor.recording import assert_gradient, both, fed, run

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize("offset", [-2, -1, 0, 1, 3])
def test_diag(offset):
    for x in (X[0], X[0].T, X[0, 0]):
        np.testing.assert_array_equal(both(lambda x: tn.diag(x, offset), x), np.diag(x, offset))
    assert_gradient(lambda x: tn.diag(x, offset, padding_value=2.0), X[0, 0])


def test_diag_beyond_the_matrix():
    assert both(lambda x: tn.diag(x, 7), X[0]).shape == (0,)


def test_padding_value():
    found = both(lambda x: tn.diag(x, padding_value=9), np.array([1, 2]))
    np.testing.assert_array_equal(found, [[1, 9], [9, 2]])


@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (2, 0), (-1, -2)])
@pytest.mark.parametrize("offset", [-1, 0, 2])
def test_diagonal(axes, offset):
    found = both(lambda x: tn.diagonal(x, offset, *axes), X)
    np.testing.assert_array_equal(found, np.diagonal(X, offset, *axes))
    assert_gradient(lambda x: tn.diagonal(x, offset, *axes), X)


def test_errors():
    with pytest.raises(ArgumentError, match="diag takes a 1-D or 2-D tensor"):
        tn.diag(fed("x", X))
    with pytest.raises(ArgumentError, match="axis1 and axis2 are both 1"):
        run(lambda x: tn.diagonal(x, 0, 1, -2), X)
