import numpy as np
import pytest

from graphopt import nn
from graphopt.errors import ArgumentError, ShapeError
from graphopt.nn import functional as F  # noqa: N812 - Paddle's habit
from tests.tensor.recording import assert_gradient, fed, run

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 6, 4, 5))
W, B = RNG.normal(size=6), RNG.normal(size=6)


def grouped(x, groups, epsilon=1e-5):
    flat = x.astype("f8").reshape(len(x), groups, -1)
    off = flat - flat.mean(-1, keepdims=True)
    return (off / np.sqrt(off.var(-1, keepdims=True) + epsilon)).reshape(x.shape)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("opened", [False, (0,), (0, 2, 3)])
def test_group_norm(dtype, groups, opened):
    x, w, b = X.astype(dtype), W.astype(dtype), B.astype(dtype)
    found = run(lambda x: F.group_norm(x, groups, 1e-3, w, b), x, opened=opened)
    expected = grouped(x, groups, 1e-3) * W[:, None, None] + B[:, None, None]
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 7), (2, 6, 3, 2, 2)])
def test_group_norm_of_other_ranks(shape):
    x = RNG.normal(size=shape).astype("f4")
    found = run(lambda x: F.group_norm(x, 2, weight=W.astype("f4")), x)
    expected = grouped(x, 2) * W.reshape(-1, *[1] * (len(shape) - 2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


MEANS = [
    ("group", lambda x: F.group_norm(x, 2), lambda x: grouped(x, 2)),
    ("instance", F.instance_norm, lambda x: grouped(x, 6)),
    ("layer", lambda x: F.layer_norm(x, [6, 4, 5]), lambda x: grouped(x, 1)),
]


@pytest.mark.parametrize(
    ("function", "expected"), [m[1:] for m in MEANS], ids=[m[0] for m in MEANS]
)
@pytest.mark.parametrize("mean", [1000.0, -30000.0])
def test_a_mean_that_is_large_beside_the_spread(function, expected, mean):
    x = (X + mean).astype("f4")
    wanted = expected(x)
    rounding = np.spacing(np.float32(abs(mean)))  # of the mean, beside a spread of 1
    np.testing.assert_allclose(run(function, x), wanted, atol=4 * rounding)


def test_gradients():
    x, w = X[:2, :, :2, :2], RNG.normal(size=20)
    assert_gradient(
        lambda x, w, b: F.group_norm(x, 3, 1e-3, w, b), x, W, B, dims=(False, (0,), (0, 2))
    )
    assert_gradient(lambda x, w: F.rms_norm(x, [4, 5], w, 1e-3), X[0], w, dims=(False, (0,)))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rms_norm(dtype):
    x = X.astype(dtype)
    for opened in (False, (0, 1)):
        found = run(lambda x: F.rms_norm(x, 5, eps=1e-3), x, opened=opened)
        expected = X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-3)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    weight = RNG.normal(size=(4, 5)).astype(dtype)
    whole = X / np.sqrt((X**2).mean((2, 3), keepdims=True) + 1e-5) * weight
    for w in (weight, weight.ravel()):
        found = run(lambda x, w: F.rms_norm(x, (4, 5), w), x, w)
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)


def test_errors():
    x = fed("x", X)
    with pytest.raises(ShapeError, match="4 groups do not divide the channels"):
        F.group_norm(x, 4)
    with pytest.raises(ArgumentError, match="group_norm takes a 2-D"):
        F.group_norm(x[0, 0, 0], 1)
    with pytest.raises(ShapeError, match=r"rms_norm: the last dims of x are not \[4\]"):
        F.rms_norm(x, 4)
    for function in (
        lambda f: F.group_norm(x, 2, data_format=f),
        lambda f: nn.InstanceNorm2D(6, data_format=f)(x),
    ):
        with pytest.raises(ArgumentError, match="data_format cannot be 'NWHC'"):
            function("NWHC")


def test_instance_norm_with_channels_last():
    """They were normalized along the wrong dims."""
    weight, bias = W.astype("f4"), B.astype("f4")
    x = X.astype("f4")
    expected = run(lambda x: F.instance_norm(x, weight=weight, bias=bias), x)
    last = x.transpose(0, 2, 3, 1)
    found = run(lambda x: F.instance_norm(x, weight=weight, bias=bias, data_format="NHWC"), last)
    np.testing.assert_allclose(found.transpose(0, 3, 1, 2), expected, rtol=1e-5, atol=1e-6)
    assert nn.InstanceNorm2D(6, data_format="NHWC")(fed("y", last)).shape == last.shape
