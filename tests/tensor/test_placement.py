import numpy as np
import pytest

from graphopt import tensor as tn
from graphopt.errors import ArgumentError
from tests.tensor.recording import assert_gradient, both, fed, run

X = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
INDEX = np.array([[0, 2, 1, 0], [2, 2, 0, 1]])
NEW = np.arange(1, 9, dtype=np.float32).reshape(2, 4)


def placed(rule, include_self=True, x=X, values=NEW, axis=0):
    """Element by element; ``rule`` combines the list of what meets at one place."""
    y = x.copy()
    meets: dict = {}
    for at in np.ndindex(*INDEX.shape):
        place = list(at)
        place[axis] = INDEX[at]
        meets.setdefault(tuple(place), []).append(values[at])
    for place, found in meets.items():
        y[place] = rule(([x[place]] if include_self else []) + found)
    return y


RULES = [
    ("add", sum), ("multiply", np.prod), ("mul", np.prod), ("amax", max), ("amin", min),
    ("mean", np.mean),
]  # fmt: skip


@pytest.mark.parametrize(("reduce", "rule"), RULES, ids=[r[0] for r in RULES])
@pytest.mark.parametrize("include_self", [True, False])
def test_put_along_axis(reduce, rule, include_self):
    found = both(lambda x: tn.put_along_axis(x, INDEX, NEW, 0, reduce, include_self), X)
    np.testing.assert_allclose(found, placed(rule, include_self), rtol=1e-6)


def test_put_along_axis_of_integers():
    n = np.array([[5, -3, 4]])
    for reduce, expected in (("amax", [[2, 1, 4]]), ("amin", [[2, 1, 4]])):
        found = run(lambda x, r=reduce: tn.put_along_axis(x, [[0, 1]], [[2, 1]], 1, r, False), n)
        np.testing.assert_array_equal(found, expected)


def test_put_along_axis_broadcasts():
    expected = X.copy()
    expected[1] = 99.0
    found = both(lambda x: tn.put_along_axis(x, [[1]], 99.0, 0), X)
    np.testing.assert_array_equal(found, expected)
    narrow = both(lambda x: tn.put_along_axis(x, [[1]], 99.0, 0, broadcast=False), X)
    expected[1, 1:] = X[1, 1:]
    np.testing.assert_array_equal(narrow, expected)


@pytest.mark.parametrize("reduce", ["add", "mean"])
@pytest.mark.parametrize("include_self", [True, False])
def test_gradient_of_put_along_axis(reduce, include_self):
    assert_gradient(lambda x, v: tn.put_along_axis(x, INDEX, v, 0, reduce, include_self), X, NEW)


def test_gradient_of_assigned_elements():
    at = np.array([[0], [2], [1]])
    assert_gradient(lambda x, v: tn.put_along_axis(x, at, v, 1), X, NEW[0, :3, None])


def test_put_along_axis_rules():
    with pytest.raises(ArgumentError, match="reduce cannot be 'sum'"):
        tn.put_along_axis(fed("x", X), INDEX, NEW, 0, "sum")


def test_masked_fill():
    expected = np.where(X > 0, np.float32(2), X)
    np.testing.assert_array_equal(both(lambda x: tn.masked_fill(x, x > 0.0, 2), X), expected)
    column = np.array([[True], [False], [True]])
    found = both(lambda x, v: tn.masked_fill(x, column, v), X, np.float64(2.0))
    np.testing.assert_array_equal(found, np.where(column, np.float32(2), X))
    assert_gradient(lambda x, v: tn.masked_fill(x, column, v), X, 2.0)


def test_scatter_nd():
    index, updates = np.array([[1, 1], [0, 1], [1, 1]]), np.array([9.0, 10.0, 11.0], "f4")
    added = np.zeros((3, 4), "f4")
    np.add.at(added, tuple(index.T), updates)
    np.testing.assert_allclose(
        both(lambda x, u: tn.scatter_nd_add(x, index, u), X, updates), X + added, rtol=1e-6
    )
    found = both(lambda u: tn.scatter_nd(index, u, [3, 4]), updates)
    np.testing.assert_array_equal(found, added)
    rows = both(lambda x: tn.scatter_nd_add(x, [[2]], X[:1]), X)
    np.testing.assert_allclose(rows[2], X[2] + X[0], rtol=1e-6)
    assert_gradient(lambda x, u: tn.scatter_nd_add(x, index, u), X, updates)
