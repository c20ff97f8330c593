import numpy as np
import pytest

from graphopt import tensor as tn
from graphopt.errors import ArgumentError, ShapeError
from graphopt.scoping import default_main_program
from tests.tensor.recording import both, fed, run

X = np.arange(12, dtype=np.float32).reshape(3, 4)

CREATED = [
    (lambda: tn.arange(5), np.arange(5)),
    (lambda: tn.arange(1, 7, 2), np.arange(1, 7, 2)),
    (lambda: tn.arange(0.0, 1.0, 0.25), np.arange(0, 1, 0.25).astype("f4")),
    (lambda: tn.arange(3, dtype="float64"), np.arange(3.0)),
    (lambda: tn.eye(2, 3), np.eye(2, 3, dtype=np.float32)),
    (lambda: tn.full([2, 3], 7, "int32"), np.full((2, 3), 7, np.int32)),
    (lambda: tn.full(3, 0.5), np.full(3, 0.5, np.float32)),
    (lambda: tn.full([], 0.5), np.float32(0.5)),
    (lambda: tn.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype=np.float32)),
    (lambda: tn.ones([2]), np.ones(2, np.float32)),
    (lambda: tn.zeros([2, 1], "bool"), np.zeros((2, 1), bool)),
    (lambda: tn.assign([[1.5, 2.0]]), np.array([[1.5, 2.0]], "f4")),
    (lambda: tn.assign(np.arange(3.0)), np.arange(3.0)),
]
LIKE = [
    (tn.ones_like, np.ones_like(X)),
    (lambda x: tn.zeros_like(x, "int64"), np.zeros_like(X, np.int64)),
    (lambda x: tn.full_like(x, 2.0), np.full_like(X, 2.0)),
    (lambda x: tn.full_like(x, x[0, 1]), np.full_like(X, 1.0)),
    (lambda x: tn.full([tn.shape(x)[0], 2], 1.0), np.ones((3, 2), np.float32)),
    (lambda x: tn.zeros(tn.shape(x)), np.zeros_like(X)),
    (lambda x: tn.full([2], x[0, 1]), np.ones(2, np.float32)),
    (lambda x: tn.arange(tn.shape(x)[0]), np.arange(3)),
    (lambda x: tn.linspace(x[0, 1], x[1, 0], 4), np.linspace(1, 4, 4, dtype=np.float32)),
    (lambda x: tn.linspace(x[0, 1], 2.0, 1), np.ones(1, np.float32)),
    (tn.assign, X),
    (tn.tril, np.tril(X)),
    (lambda x: tn.triu(x, 1), np.triu(X, 1)),
    (lambda x: tn.tril(x, -1), np.tril(X, -1)),
]


@pytest.mark.parametrize(("function", "expected"), CREATED)
def test_created(function, expected):
    found = run(function)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("function", "expected"), LIKE)
def test_like(function, expected):
    found = both(function, X)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_arange_step():
    with pytest.raises(ArgumentError, match="step cannot be 0"):
        tn.arange(0, 3, 0)


def test_assign_to_a_persistable():
    x = fed("x", X)
    kept = default_main_program().global_block().create_var("kept", [3, 4], persistable=True)
    assert tn.assign(x, kept) is kept
    assert tn.assign(tn.add(kept, 1.0), kept) is kept
    assert tn.assign(np.zeros((3, 4)), output=kept) is kept
    writers = [op for op in kept.block.ops if op.outputs[0] is kept]
    assert len(writers) == 3


def test_assign_once():
    block = default_main_program().global_block()
    x, y = fed("x", X), block.create_var("y", [3, 4])
    tn.assign(x, y)
    with pytest.raises(ArgumentError, match="y has a value already"):
        tn.assign(x, y)
    with pytest.raises(ArgumentError, match="x has a value already"):
        tn.assign(y, x)


def test_assign_checks_the_type():
    x = fed("x", X)
    other = default_main_program().global_block().create_var("other", [4, 3], persistable=True)
    with pytest.raises(ShapeError, match="other has another type"):
        tn.assign(x, other)
