import math
from typing import Any

import numpy as np
import pytest

from graphopt import tensor as tn
from graphopt.errors import ArgumentError, ArgumentTypeError, DTypeError
from graphopt.ir.model.program import Program
from tests.tensor.recording import assert_gradient, both, fed, run

X = np.array([[0.3, -1.2, 0.0], [2.5, -0.4, 0.9]], np.float32)
POSITIVE = np.abs(X) + np.float32(0.25)
UNIT = X / 4

UNARY = [
    (tn.abs, np.abs, X),
    (tn.acos, np.arccos, UNIT),
    (tn.asin, np.arcsin, UNIT),
    (tn.atan, np.arctan, X),
    (tn.ceil, np.ceil, X),
    (tn.cos, np.cos, X),
    (tn.cosh, np.cosh, X),
    (tn.exp, np.exp, X),
    (tn.expm1, np.expm1, X),
    (tn.floor, np.floor, X),
    (tn.log, np.log, POSITIVE),
    (tn.log10, np.log10, POSITIVE),
    (tn.log1p, np.log1p, POSITIVE),
    (tn.log2, np.log2, POSITIVE),
    (tn.neg, np.negative, X),
    (tn.reciprocal, np.reciprocal, POSITIVE),
    (tn.round, np.round, X),
    (tn.rsqrt, lambda x: 1 / np.sqrt(x), POSITIVE),
    (tn.sign, np.sign, X),
    (tn.sin, np.sin, X),
    (tn.sinh, np.sinh, X),
    (tn.sqrt, np.sqrt, POSITIVE),
    (tn.square, np.square, X),
    (tn.tan, np.tan, X),
    (tn.tanh, np.tanh, X),
    (tn.trunc, np.trunc, X),
    (tn.erf, np.vectorize(math.erf), X),
    (tn.isfinite, np.isfinite, X),
    (tn.isnan, np.isnan, X),
    (tn.isinf, np.isinf, X),
    (tn.logical_not, np.logical_not, X),
]
BINARY = [
    (tn.add, np.add),
    (tn.subtract, np.subtract),
    (tn.multiply, np.multiply),
    (tn.divide, np.divide),
    (tn.maximum, np.maximum),
    (tn.minimum, np.minimum),
    (tn.fmax, np.fmax),
    (tn.fmin, np.fmin),
    (tn.equal, np.equal),
    (tn.not_equal, np.not_equal),
    (tn.less_than, np.less),
    (tn.less_equal, np.less_equal),
    (tn.greater_than, np.greater),
    (tn.greater_equal, np.greater_equal),
    (tn.logical_and, np.logical_and),
    (tn.logical_or, np.logical_or),
    (tn.logical_xor, np.logical_xor),
    (tn.floor_divide, np.floor_divide),
    (tn.mod, np.mod),
]


@pytest.mark.parametrize(
    ("function", "expected", "x"), UNARY, ids=lambda v: getattr(v, "__name__", "")
)
def test_unary(function, expected, x):
    np.testing.assert_allclose(both(function, x), expected(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("function", "expected"), BINARY, ids=lambda v: v.__name__)
@pytest.mark.parametrize("y", [np.array([[0.3, 2.0, -0.7]], "f4"), np.float32(-0.4)])
def test_binary(function, expected, y):
    np.testing.assert_allclose(both(function, X, y), expected(X, y), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("function", "expected"), BINARY[:6], ids=lambda v: v.__name__)
def test_numbers_and_arrays_become_constants(function, expected):
    np.testing.assert_allclose(both(lambda x: function(x, 2.0), X), expected(X, 2.0), rtol=1e-6)
    np.testing.assert_allclose(
        both(lambda x: function(2.0, x), POSITIVE), expected(2.0, POSITIVE), rtol=1e-6
    )
    row = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(both(lambda x: function(x, row), X), expected(X, row), rtol=1e-6)


def test_two_constants():
    np.testing.assert_array_equal(run(lambda: tn.add(np.array([1, 2], "f4"), 3.0)), [4, 5])


def test_integers():
    a, b = np.array([-7, 7, -5, 6]), np.array([2, -2, 3, 3])
    np.testing.assert_array_equal(both(tn.floor_divide, a, b), a // b)
    np.testing.assert_array_equal(both(tn.mod, a, b), a % b)
    np.testing.assert_allclose(both(tn.divide, a, b), (a / b).astype("f4"))
    assert both(lambda x: tn.multiply(x, 0.5), a).dtype == np.float32
    assert both(lambda x: tn.add(x, 2), a).dtype == np.int64


def test_an_integer_variable_beside_a_float_one_is_refused():
    with pytest.raises(DTypeError, match="cast one of them"):
        tn.add(fed("a", np.zeros(2, np.int64)), fed("b", np.zeros(2, np.float32)))


def test_nan():
    x, y = np.array([np.nan, 1.0, 2.0], "f4"), np.array([1.0, np.nan, 0.0], "f4")
    np.testing.assert_array_equal(both(tn.fmax, x, y), np.fmax(x, y))
    np.testing.assert_array_equal(both(tn.fmin, x, y), np.fmin(x, y))
    np.testing.assert_array_equal(both(tn.isnan, x), np.isnan(x))
    z = np.array([np.inf, -np.inf, np.nan, 1.0], "f4")
    np.testing.assert_array_equal(both(tn.isfinite, z), np.isfinite(z))
    np.testing.assert_array_equal(both(tn.isinf, z), np.isinf(z))


@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (None, 0.2), (0.1, None)])
def test_clip(low, high):
    np.testing.assert_array_equal(
        both(lambda x: tn.clip(x, low, high), X),
        np.clip(
            X, None if low is None else np.float32(low), None if high is None else np.float32(high)
        ),
    )


def test_clip_with_variables():
    low = np.array([0.1], "f4")
    np.testing.assert_array_equal(
        both(lambda x, m: tn.clip(x, min=m), X, low), np.clip(X, low, None)
    )


NEAR_ZERO = np.concatenate([
    sign * 10.0 ** -np.arange(0.1, 18, 0.1) for sign in (1, -1)
] + [np.linspace(-0.99, 20, 2001)])  # fmt: skip


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("function", "expected"), [(tn.expm1, np.expm1), (tn.log1p, np.log1p)])
def test_near_zero(function, expected, dtype):
    x = NEAR_ZERO.astype(dtype)
    wanted = expected(x.astype(np.longdouble))
    np.testing.assert_allclose(both(function, x), wanted, rtol=2 * np.finfo(dtype).eps)


def test_far_from_zero():
    x = np.array([np.inf, -np.inf, np.nan, -1.0, 80.0, 1e30, -200.0], "f4")
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(run(tn.expm1, x), np.expm1(x), rtol=1e-6)
        np.testing.assert_allclose(run(tn.log1p, x), np.log1p(x), rtol=1e-6)


def test_gradients_of_compositions():
    x, y = X.astype("f8") + 0.05, np.array([[0.3, 2.0, -0.7], [-3.0, -0.2, 0.4]])
    assert_gradient(tn.expm1, x)
    assert_gradient(tn.log1p, np.abs(x) - 0.5)
    assert_gradient(tn.atan2, x, y)


def test_atan2_on_the_axes():
    up = np.array([0.0, 0.0, 1.0, -1.0, 0.0, 1.0, -1.0, -1.0], "f4")
    right = np.array([0.0, 1.0, 0.0, 0.0, -1.0, -1.0, 1.0, -1.0], "f4")
    np.testing.assert_allclose(both(tn.atan2, up, right), np.arctan2(up, right), rtol=1e-6)
    np.testing.assert_allclose(run(tn.atan2, X, right[:3]), np.arctan2(X, right[:3]), rtol=1e-6)
    np.testing.assert_allclose(both(lambda x: tn.atan2(x, -0.4), X), np.arctan2(X, -0.4), rtol=1e-6)


def test_isclose():
    x = np.array([1.0, 1.0, np.inf, np.inf, 1.0, np.nan, np.inf], "f4")
    y = np.array([1.001, 1.1, np.inf, -np.inf, np.inf, np.nan, np.nan], "f4")
    options: Any
    for options in ({}, {"rtol": 0.01}, {"atol": 0.2, "equal_nan": True}):
        found = both(lambda x, y, o=options: tn.isclose(x, y, **o), x, y)
        np.testing.assert_array_equal(found, np.isclose(x, y, **options))
    assert both(lambda x: tn.allclose(x, x), X)
    assert not both(lambda x: tn.allclose(x, x + 0.1), X)


def test_round_to_decimals():
    x = np.array([1.234, -0.456, 25.0], "f4")
    np.testing.assert_allclose(both(lambda x: tn.round(x, 1), x), np.round(x, 1), rtol=1e-6)
    np.testing.assert_allclose(both(lambda x: tn.round(x, -1), x), np.round(x, -1), rtol=1e-6)


def test_scale():
    np.testing.assert_allclose(both(lambda x: tn.scale(x, 2.0, 1.0), X), X * 2 + 1)
    np.testing.assert_allclose(
        both(lambda x: tn.scale(x, 2.0, 1.0, bias_after_scale=False), X), (X + 1) * 2
    )
    factor = np.float32(3.0)
    np.testing.assert_allclose(both(lambda x, s: tn.scale(x, s), X, factor), X * 3)


def test_lerp_gives_the_weight_no_gradient():
    x, y, w = (fed(n, X) for n in "xyw")
    z = tn.lerp(x, y, w)
    assert w.stop_gradient is False
    copies = [v for op in z.block.ops if op.type == "Identity" for v in op.writes()]
    assert [v.stop_gradient for v in copies] == [True]


def test_increment():
    assert both(tn.increment, np.float32(1.0)) == 2.0
    counter = fed("counter", np.zeros(1, np.int64))
    counter.persistable = True
    assert tn.increment(counter) is counter
    with pytest.raises(ArgumentTypeError):
        tn.increment(1.0)  # type: ignore[arg-type]


def test_name():
    x = fed("x", X)
    assert tn.add(x, 1.0, name="sum").name == "sum"
    assert tn.add(x, 1.0, name="sum").name == "sum_0"
    y = tn.squeeze(x, axis=0, name="same")
    assert (x.name, y.name) == ("x", "same")


def test_what_is_not_a_tensor_is_refused():
    with pytest.raises(ArgumentTypeError, match="a Variable, a number or an array"):
        tn.exp("x")


def test_variables_of_two_programs_are_refused():
    other = Program().global_block().create_var("y", [2, 3])
    with pytest.raises(ArgumentError, match="different Programs"):
        tn.add(fed("x", X), other)


def test_axis_errors():
    x = fed("x", X)
    with pytest.raises(ArgumentError, match="axis 2 is out of range for x"):
        tn.sum(x, axis=2)
    with pytest.raises(ArgumentError, match="twice"):
        tn.sum(x, axis=[0, -2])
    with pytest.raises(ArgumentTypeError, match="an axis is an int"):
        tn.sum(x, axis=1.5)  # type: ignore[arg-type]
