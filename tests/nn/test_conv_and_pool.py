from typing import Any

import numpy as np
import pytest

from graphopt.errors import ArgumentError, ShapeError
from graphopt.nn import functional as F  # noqa: N812 - Paddle's habit
from graphopt.passes.gradients.backward import gradients
from graphopt.scoping import default_main_program
from tests.ops.on_onnxruntime import evaluate
from tests.tensor.recording import both, fed, run

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 6, 5)).astype("f4")
W = RNG.normal(size=(6, 2, 3, 2)).astype("f4")
B = RNG.normal(size=6).astype("f4")


def correlate(x, w, stride, pads, dilation, groups):
    """Cross-correlation, one window at a time."""
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    kernel = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    size = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *size))
    per = w.shape[0] // groups
    for o in range(w.shape[0]):
        c = slice(o // per * w.shape[1], (o // per + 1) * w.shape[1])
        for i in range(size[0]):
            for j in range(size[1]):
                rows = i * stride[0] + dilation[0] * np.arange(w.shape[2])
                columns = j * stride[1] + dilation[1] * np.arange(w.shape[3])
                window = x[:, c][:, :, rows][:, :, :, columns]
                y[:, o, i, j] = (window * w[o]).sum((1, 2, 3))
    return y


FORMS = [
    (1, [(1, 1), (1, 1)]),
    ([1], [(1, 1), (1, 1)]),
    ([2, 1], [(2, 2), (1, 1)]),
    ([1, 0, 2, 1], [(1, 0), (2, 1)]),
    ([[0, 0], [0, 0], [1, 0], [2, 1]], [(1, 0), (2, 1)]),
    ([[1, 0], [2, 1]], [(1, 0), (2, 1)]),
    ("VALID", [(0, 0), (0, 0)]),
]


@pytest.mark.parametrize(("padding", "pads"), FORMS, ids=[str(f[0]) for f in FORMS])
def test_conv2d_padding(padding, pads):
    expected = correlate(X, W, [2, 1], pads, [1, 2], 2) + B[:, None, None]

    def conv(x):
        return F.conv2d(x, W, B, stride=[2, 1], padding=padding, dilation=[1, 2], groups=2)

    for opened in (False, True):
        np.testing.assert_allclose(run(conv, X, opened=opened), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, [3, 2]])
def test_conv2d_same(stride):
    steps = [stride] * 2 if isinstance(stride, int) else stride

    def conv(x):
        return F.conv2d(x, W, stride=stride, padding="same", groups=2)

    found = run(conv, X)
    assert found.shape[2:] == tuple(-(-n // s) for n, s in zip(X.shape[2:], steps, strict=True))
    np.testing.assert_allclose(run(conv, X, opened=True), found, rtol=1e-5, atol=1e-6)


def test_channels_last():
    last = X.transpose(0, 2, 3, 1)
    expected = run(lambda x: F.conv2d(x, W, B, groups=2), X).transpose(0, 2, 3, 1)
    found = run(lambda x: F.conv2d(x, W, B, groups=2, data_format="NHWC"), last)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    pairs = [[0, 0], [1, 0], [0, 1], [0, 0]]
    padded = run(lambda x: F.conv2d(x, W, padding=pairs, groups=2, data_format="NHWC"), last)
    assert padded.shape == (2, 5, 5, 6)
    pooled = run(lambda x: F.max_pool2d(x, 2, data_format="NHWC"), last)
    np.testing.assert_array_equal(
        pooled, run(lambda x: F.max_pool2d(x, 2), X).transpose(0, 2, 3, 1)
    )


def test_conv1d_and_conv3d_are_conv2d_with_other_dims():
    x, w = X[:, :, :, 0], W[:, :, :, 0]
    expected = correlate(x[..., None], w[..., None], [1, 1], [(1, 1), (0, 0)], [1, 1], 2)[..., 0]
    found = run(lambda x: F.conv1d(x, w, padding=1, groups=2), x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    deep = run(lambda x: F.conv3d(x, W[..., None], padding=[1, 1, 0], groups=2), X[..., None])
    flat = run(lambda x: F.conv2d(x, W, padding=1, groups=2), X)
    np.testing.assert_allclose(deep[..., 0], flat, rtol=1e-5, atol=1e-6)


def test_conv2d_transpose_sizes():
    w = RNG.normal(size=(4, 3, 3, 2)).astype("f4")

    def conv(x, **options):
        return run(lambda x: F.conv2d_transpose(x, w, stride=2, **options), x)

    assert conv(X).shape == (2, 3, 13, 10)
    assert conv(X, output_size=[14, 11]).shape == (2, 3, 14, 11)
    np.testing.assert_array_equal(conv(X, output_size=[14, 10]), conv(X, output_padding=[1, 0]))
    with pytest.raises(ArgumentError, match=r"output_size cannot be \[15, 10\]"):
        conv(X, output_size=[15, 10])
    x = fed("x", X, opened=True)
    with pytest.raises(ArgumentError, match="known spatial dims"):
        F.conv2d_transpose(x, w, output_size=9)
    with pytest.raises(ArgumentError, match="'SAME' needs an input"):
        F.conv2d_transpose(x, w, padding="SAME")


def test_conv_transposes_of_one_and_three_dims():
    w = RNG.normal(size=(4, 3, 3, 2)).astype("f4")
    options: Any = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    flat = run(lambda x: F.conv2d_transpose(x, w, B, **options), X)
    deep = run(
        lambda x: F.conv3d_transpose(x, w[..., None], B, [2, 2, 1], [1, 1, 0], [1, 1, 0], groups=2),
        X[..., None],
    )
    np.testing.assert_allclose(deep[..., 0], flat, rtol=1e-5, atol=1e-5)
    line, kernel = X[:, :, :, :1], w[:, :, :, :1]
    thin = run(lambda x: F.conv2d_transpose(x, kernel, B, [2, 1], [1, 0], [1, 0], groups=2), line)
    found = run(lambda x: F.conv1d_transpose(x, kernel[..., 0], B, **options), line[..., 0])
    np.testing.assert_allclose(found, thin[..., 0], rtol=1e-5, atol=1e-5)
    last = run(
        lambda x: F.conv1d_transpose(x, kernel[..., 0], B, **options, data_format="NLC"),
        line[..., 0].swapaxes(1, 2),
    )
    np.testing.assert_allclose(last.swapaxes(1, 2), found, rtol=1e-5, atol=1e-5)
    sized = run(
        lambda x: F.conv1d_transpose(x, kernel[..., 0], stride=2, output_size=14), line[..., 0]
    )
    assert sized.shape == (2, 3, 14)
    with pytest.raises(ArgumentError, match="conv1d_transpose takes a 3-D tensor"):
        F.conv1d_transpose(fed("x", X), kernel[..., 0])


def test_conv_errors():
    x = fed("x", X)
    with pytest.raises(ShapeError, match="x has 4 channels, the weight is for 2"):
        F.conv2d(x, W)
    with pytest.raises(ShapeError, match="x has 4 channels, the weight is for 6"):
        F.conv2d_transpose(x, W)
    with pytest.raises(ArgumentError, match="padding cannot be"):
        F.conv2d(x, W, padding=[1, 2, 3], groups=2)
    with pytest.raises(ArgumentError, match="'SAME' or 'VALID'"):
        F.conv2d(x, W, padding="FULL", groups=2)
    with pytest.raises(ArgumentError, match="stride cannot be"):
        F.conv2d(x, W, stride=[1, 2, 3], groups=2)
    with pytest.raises(ArgumentError, match="use NCHW or NHWC"):
        F.conv2d(x, W, data_format="CHWN")
    with pytest.raises(ArgumentError, match="takes a 3-D tensor"):
        F.conv1d(x, W)


def windows(x, k, s):
    rows = range(0, x.shape[2] - k + 1, s)
    columns = range(0, x.shape[3] - k + 1, s)
    return np.stack(
        [np.stack([x[:, :, i : i + k, j : j + k] for j in columns], 2) for i in rows], 2
    )


def test_pools():
    cut = windows(X, 3, 2)
    np.testing.assert_array_equal(both(lambda x: F.max_pool2d(x, 3, 2), X), cut.max((-1, -2)))
    np.testing.assert_allclose(
        both(lambda x: F.avg_pool2d(x, 3, 2), X), cut.mean((-1, -2)), rtol=1e-5, atol=1e-6
    )
    by_five = both(lambda x: F.avg_pool2d(x, 3, 2, divisor_override=5), X)
    np.testing.assert_allclose(by_five, cut.sum((-1, -2)) / 5, rtol=1e-5, atol=1e-6)
    line = X[:, :, 0]
    np.testing.assert_array_equal(
        both(lambda x: F.max_pool1d(x, 5), line), line.max(-1, keepdims=True)
    )
    np.testing.assert_allclose(
        both(lambda x: F.avg_pool1d(x, 5), line), line.mean(-1, keepdims=True), rtol=1e-5
    )


def test_max_pool_mask():
    y, mask = both(lambda x: F.max_pool2d(x, 3, 2, return_mask=True), X)
    flat = X.reshape(2, 4, -1)
    np.testing.assert_array_equal(
        np.take_along_axis(flat, mask.reshape(2, 4, -1), 2).reshape(y.shape), y
    )


def test_adaptive_pools():
    np.testing.assert_allclose(
        both(lambda x: F.adaptive_avg_pool2d(x, 1), X)[..., 0, 0],
        X.mean((2, 3)),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        both(lambda x: F.adaptive_max_pool2d(x, 1), X)[..., 0, 0], X.max((2, 3))
    )
    halves = X.reshape(2, 4, 2, 3, 5).max(3).max(-1, keepdims=True)
    np.testing.assert_array_equal(run(lambda x: F.adaptive_max_pool2d(x, [2, 1]), X), halves)
    thirds = run(lambda x: F.adaptive_avg_pool1d(x, 3), X[:, :, 0])
    expected = np.stack([X[:, :, 0, a:b].mean(-1) for a, b in ((0, 2), (1, 4), (3, 5))], -1)
    np.testing.assert_allclose(thirds, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ArgumentError, match="needs known spatial dims"):
        F.adaptive_avg_pool2d(fed("y", X, opened=True), 2)


def cells(size, count):
    return [slice(k * size // count, -(-(k + 1) * size // count)) for k in range(count)]


@pytest.mark.parametrize("sizes", [(4, 3), (5, 2), (6, 5), (1, 4), (7, 1)])
def test_adaptive_maxima_of_uneven_cells(sizes):
    expected = np.array([
        [X[:, :, rows, columns].max((2, 3)) for columns in cells(5, sizes[1])]
        for rows in cells(6, sizes[0])
    ]).transpose(2, 3, 0, 1)  # fmt: skip
    np.testing.assert_array_equal(run(lambda x: F.adaptive_max_pool2d(x, sizes), X), expected)
    y, mask = run(lambda x: F.adaptive_max_pool2d(x, sizes, return_mask=True), X)
    np.testing.assert_array_equal(y, expected)
    found = np.take_along_axis(X.reshape(2, 4, -1), mask.reshape(2, 4, -1), 2)
    np.testing.assert_array_equal(found.reshape(y.shape), expected)


def test_adaptive_maxima_of_a_line():
    line = X[:, :, 0]
    expected = np.stack([line[:, :, a:b].max(-1) for a, b in ((0, 2), (1, 4), (3, 5))], -1)
    np.testing.assert_array_equal(run(lambda x: F.adaptive_max_pool1d(x, 3), line), expected)
    y, mask = run(lambda x: F.adaptive_max_pool1d(x, 3, return_mask=True), line)
    np.testing.assert_array_equal(np.take_along_axis(line, mask, 2), y)


def test_adaptive_maxima_take_the_first_of_equals():
    x = fed("x", np.zeros((1, 1, 3, 3), "f4"))
    [grad] = gradients([F.adaptive_max_pool2d(x, 2)], [x])
    [found] = evaluate(default_main_program(), [grad], {"x": np.zeros((1, 1, 3, 3), "f4")})
    np.testing.assert_array_equal(found[0, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])
