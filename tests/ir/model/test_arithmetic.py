import numpy as np
import pytest

import graphopt as go
from graphopt import errors


def run(build, **feeds):
    main = go.static.Program()
    with go.static.program_guard(main):
        fed = {k: go.static.data(k, v.shape, v.dtype) for k, v in feeds.items()}
        result = build(**fed)
    return go.static.Executor().run(main, feed=feeds, fetch_list=[result])[0]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("divisor", [3, -3, 70000, 1])
def test_floor_division_of_integers(dtype, divisor):
    x = np.array([7, -7, 0, 130000, -130000, 6, -6], dtype)
    np.testing.assert_array_equal(run(lambda x: x // divisor, x=x), x // divisor)
    np.testing.assert_array_equal(run(lambda x: x % divisor, x=x), x % divisor)


def test_floor_division_of_floats():
    x = np.array([7.5, -7.5], "f4")
    np.testing.assert_array_equal(run(lambda x: x // 2, x=x), x // 2)
    np.testing.assert_allclose(run(lambda x: x % 2, x=x), x % 2)
    np.testing.assert_array_equal(run(lambda x: 20 // x, x=x), 20 // x)


X = np.arange(24.0, dtype="f4").reshape(2, 3, 4)
INDICES = {
    "int": lambda x, i: x[1],
    "negative": lambda x, i: x[:, -1],
    "slices": lambda x, i: x[:, 1:, ::2],
    "backwards": lambda x, i: x[..., ::-1],
    "new axes": lambda x, i: x[None, :, 0, None],
    "ellipsis": lambda x, i: x[..., 1],
    "vector": lambda x, i: x[:, i],
    "vector and int": lambda x, i: x[0, :, i],
    "vector, then int": lambda x, i: x[:, i, 0],
    "vector and new axis": lambda x, i: x[None, i, ..., None, 2],
    "nothing": lambda x, i: x[...],
}


@pytest.mark.parametrize("kind", INDICES)
@pytest.mark.parametrize("index", [np.array([1, 0]), np.array(1), np.array([[0], [1]])])
def test_indexing_is_numpys(kind, index):
    take = INDICES[kind]
    expected = take(X, index)
    if kind == "vector and int":  # numpy puts the dims of the index first here
        expected = np.take(X[0], index, axis=1)
    if kind == "vector, then int":
        expected = np.take(X, index, axis=1)[..., 0]
    if kind == "vector and new axis":
        expected = np.take(X, index, axis=0)[None, ..., None, 2]
    np.testing.assert_array_equal(run(take, x=X, i=index), expected)


def test_bad_indices_record_nothing():
    x = go.static.data("x", [3, 4])
    i = go.static.data("i", [2], "int64")
    before = x.program.text()
    for index, error in (
        ((0, 0, 0), ValueError),
        (3, ValueError),
        ((slice(None), -5), ValueError),
        (slice(None, None, 0), ValueError),
        ((i, i), ValueError),
        ("a", TypeError),
        (1.5, TypeError),
        (x, TypeError),
    ):
        with pytest.raises(error) as found:
            x[index]
        assert isinstance(found.value, errors.GraphoptError)
    assert x.program.text() == before


def test_iteration():
    x = go.static.data("x", [3, 4])
    assert [v.shape for v in x] == [(4,)] * 3
    for open_ended in (go.static.data("y", [None, 4]), go.static.data("z", [])):
        with pytest.raises(TypeError, match="cannot be iterated"):
            list(open_ended)


@pytest.mark.parametrize("literal", [None, "3", "a", 1 + 2j, [[1.0], [1.0, 2.0]], object()])
def test_what_is_no_number(literal):
    x = go.static.data("x", [3])
    with pytest.raises(TypeError, match="cannot be used as a number"):
        x + literal
    with pytest.raises(TypeError, match="cannot be used as a number"):
        literal * x if not isinstance(literal, (str, list)) else x * literal


def test_integers_that_do_not_fit():
    small = go.static.data("a", [3], "int8")
    with pytest.raises(ValueError, match="300 is not i8"):
        small + 300
    with pytest.raises(ValueError, match="is not i32"):
        go.static.data("b", [3], "int32") + 2**40
    assert str((small + 100).tensor_type) == "i8[3]"
    assert str((small + 1.5).tensor_type) == "f32[3]"
