import numpy as np
import pytest

import graphopt as go
from graphopt.errors import ArgumentError, ArgumentTypeError, DTypeError
from graphopt.scoping import program_guard

LARGE = [100, 200]


def run(record, steps=1, **feeds):
    """What ``record`` draws in some runs of a Program that was never started."""
    main = go.static.Program()
    main.random_seed = 3
    with program_guard(main, go.static.Program()):
        variables = [go.static.data(k, [None] * v.ndim, v.dtype) for k, v in feeds.items()]
        found = record(*variables)
    exe, scope = go.static.Executor(), go.static.Scope()
    values = [exe.run(main, feeds, [found], scope=scope)[0] for _ in range(steps)]
    for value in values:
        assert value.dtype == found.dtype
        assert all(d in (-1, e) for d, e in zip(found.shape, value.shape, strict=True))
    return values[0] if steps == 1 else values


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rand_and_uniform(dtype):
    u = run(lambda: go.rand(LARGE, dtype)).astype("f8")
    assert 0 <= u.min() < 0.01 < 0.99 < u.max() < 1
    u = run(lambda: go.uniform(LARGE, dtype, min=-3, max=5)).astype("f8")
    assert -3 <= u.min() < -2.9
    assert 4.9 < u.max() < 5
    assert abs(u.mean() - 1) < 0.1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_randn(dtype):
    for draw in (go.randn, go.standard_normal):
        z = run(lambda draw=draw: draw(LARGE, dtype)).astype("f8")
        assert abs(z.mean()) < 0.05
        assert abs(z.std() - 1) < 0.05


def test_normal():
    z = run(lambda: go.normal(3.0, 2.0, LARGE))
    assert abs(z.mean() - 3) < 0.1
    assert abs(z.std() - 2) < 0.1
    rows = np.arange(100, dtype="f4")[:, None] * np.ones(200, "f4")
    z = run(lambda mean: go.normal(mean, 2.0), mean=rows)
    assert abs((z - rows).std() - 2) < 0.1
    z = run(lambda std: go.normal(1.0, std), std=rows)
    np.testing.assert_allclose(z[0], 1)
    assert abs(((z - 1) / np.maximum(rows, 1))[1:].std() - 1) < 0.05


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_randint(dtype):
    k = run(lambda: go.randint(-2, 3, LARGE, dtype))
    np.testing.assert_allclose(np.bincount(k.reshape(-1) + 2), 4000, atol=300)
    assert set(np.unique(run(lambda: go.randint(4, shape=LARGE)))) == {0, 1, 2, 3}
    assert run(lambda: go.randint(4)).shape == (1,)


def test_randint_of_a_wide_range():
    k = run(lambda: go.randint(0, 2**31, LARGE))
    assert len(np.unique(k)) > 19_990
    assert abs(k.mean() / 2**30 - 1) < 0.02


def test_randperm():
    first, second = run(lambda: go.randperm(1000), steps=2)
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    np.testing.assert_array_equal(np.sort(second), np.arange(1000))
    assert (first != second).mean() > 0.9
    assert run(lambda: go.randperm(3, "int32")).dtype == np.int32


def test_bernoulli():
    p = np.full(LARGE, 0.2, "f4")
    assert abs(run(go.bernoulli, x=p).mean() - 0.2) < 0.02
    assert abs(run(lambda x: go.bernoulli(x, 0.9), x=p).mean() - 0.9) < 0.02


@pytest.mark.parametrize("opened", [True, False])
def test_multinomial(opened):
    weights = np.tile(np.array([1.0, 0.0, 3.0, 6.0], "f4"), (2, 1))

    def drawn(samples, replacement):
        def record(*fed):
            return go.multinomial(fed[0] if opened else weights, samples, replacement)

        return run(record, **({"x": weights} if opened else {}))

    often = drawn(20_000, True)
    assert often.shape == (2, 20_000)
    for row in often:
        shares = np.bincount(row, minlength=4) / 20_000
        np.testing.assert_allclose(shares, [0.1, 0, 0.3, 0.6], atol=0.02)
    np.testing.assert_array_equal(np.sort(drawn(3, False)), [[0, 2, 3]] * 2)


def test_multinomial_of_a_vector():
    found = run(lambda x: go.multinomial(x, 5, True), x=np.array([0.0, 1.0], "f4"))
    np.testing.assert_array_equal(found, np.ones(5))


def test_a_shape_may_hold_variables():
    def record(x):
        return go.uniform([go.shape(x)[0], 3]) + go.randn(go.shape(x))[:, :3]

    assert run(record, x=np.ones((7, 5), "f4")).shape == (7, 3)


def test_every_run_and_every_op_draws_anew():
    pairs = run(lambda: go.stack([go.rand([50]), go.rand([50])]), steps=3)
    assert len({row.tobytes() for pair in pairs for row in pair}) == 6


def test_an_op_of_its_own_seed():
    """Equal seeds draw equal numbers in a run; the next run draws others."""
    first, second = run(
        lambda: go.stack([go.uniform([9], seed=5), go.uniform([9], seed=5)]), steps=2
    )
    np.testing.assert_array_equal(first[0], first[1])
    assert not np.array_equal(first, second)


def test_refusals():
    with pytest.raises(ArgumentTypeError, match="the shape is a list of ints"):
        go.uniform(3)
    with pytest.raises(DTypeError, match="draws floats, not int64"):
        go.rand([3], "int64")
    with pytest.raises(ValueError, match="no integer in"):
        go.randint(3, 3)
    with pytest.raises(ArgumentError, match="cannot have the shape"):
        go.randn([-1, 3])
    with pytest.raises(ArgumentError, match="numbers alone have no shape"):
        go.normal(0.0, 1.0)
    with pytest.raises(ArgumentError, match="n must be positive"):
        go.randperm(0)
    with pytest.raises(ArgumentError, match="3 samples of 2 classes"):
        go.multinomial(np.ones(2, "f4"), 3)
