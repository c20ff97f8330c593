import math

import numpy as np
import pytest

from graphopt.errors import ArgumentError, DTypeError, GraphoptError, ShapeError
from graphopt.initializer import (
    Assign,
    Constant,
    Initializer,
    KaimingNormal,
    KaimingUniform,
    Normal,
    TruncatedNormal,
    Uniform,
    XavierNormal,
    XavierUniform,
    fans,
)
from graphopt.ir.model.program import Program
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.state.scope import Scope
from tests.helpers import held

LINEAR = (300, 100)  # [in, out]
CONV = (64, 32, 3, 5)  # [out, in, *kernel]: fans of 480 and 960


def startup(initializer, shape, dtype="float32", seed=1):
    program = Program()
    program.random_seed = seed
    block = program.global_block()
    initializer(block.create_var("w", shape, dtype, persistable=True), block)
    return program


def drawn(initializer, shape=LINEAR, dtype="float32", seed=1):
    scope = Scope()
    Executor().run(startup(initializer, shape, dtype, seed), scope=scope)
    return held(scope, "w")


def assert_moments(values, mean, std):
    """Within five standard errors; the distributions here are no wider than a Gaussian."""
    values = values.astype(np.float64)
    error = 5 * std / math.sqrt(values.size)
    assert values.mean() == pytest.approx(mean, abs=error)
    assert values.std() == pytest.approx(std, abs=error)


def assert_uniform(values, low, high):
    assert_moments(values, (low + high) / 2, (high - low) / math.sqrt(12))
    margin = 1e-3 * (high - low)
    assert low <= values.min() < low + margin
    assert high - margin < values.max() <= high


def assert_gaussian(values, mean, std):
    assert_moments(values, mean, std)
    for bound, share in ((1, 0.682689), (2, 0.954500)):
        inside = np.mean(abs(values - mean) < bound * std)
        assert inside == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / values.size))


def density(x):
    return math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def below(x):
    """The share of a Gaussian below x."""
    return (1 + math.erf(x / math.sqrt(2))) / 2


def truncated_moments(a, b):
    """Mean and standard deviation of a standard Gaussian cut at a and b."""
    share = below(b) - below(a)
    mean = (density(a) - density(b)) / share
    spread = (a * density(a) - b * density(b)) / share
    return mean, math.sqrt(1 + spread - mean**2)


def test_constant():
    found = drawn(Constant(0.1), (2, 3))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.full((2, 3), 0.1, "f4"))
    assert drawn(Constant(), ()) == 0
    assert drawn(Constant(3), (2,), "int64").tolist() == [3, 3]


def test_assign():
    found = drawn(Assign([[1, 2], [3, 4]]), (2, 2))
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 2], [3, 4]]
    assert drawn(Assign(np.float64(0.5)), ()).dtype == np.float32
    assert drawn(Assign(np.array([1, 2])), (2,), "int64").tolist() == [1, 2]


@pytest.mark.parametrize("array", [[1.0, 2.0], [[1.0, 2.0, 3.0]], 1.0])
def test_assign_wants_the_shape_of_the_variable(array):
    with pytest.raises(ShapeError, match="does not have the shape of w") as found:
        startup(Assign(array), (3,))
    assert f"array : {list(np.shape(array))}" in str(found.value)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_normal(dtype):
    found = drawn(Normal(1.0, 2.0), dtype=dtype)
    assert found.dtype == np.dtype(dtype)
    assert_gaussian(found.astype("f8"), 1.0, 2.0)
    assert_gaussian(drawn(Normal()), 0.0, 1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_uniform(dtype):
    found = drawn(Uniform(-1.0, 3.0), dtype=dtype)
    assert found.dtype == np.dtype(dtype)
    assert_uniform(found.astype("f8"), -1.0, 3.0)
    assert_uniform(drawn(Uniform()), -1.0, 1.0)


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [(0.0, 1.0, -2.0, 2.0), (5.0, 2.0, -1.0, 3.0), (0.0, 0.1, -0.5, 0.25), (1.0, 1.0, 2.0, 3.0)],
)
def test_truncated_normal(mean, std, a, b):
    values = (drawn(TruncatedNormal(mean, std, a, b)).astype("f8") - mean) / std
    assert a - 1e-6 <= values.min() < a + 0.01
    assert b - 0.05 < values.max() <= b + 1e-6
    assert_moments(values, *truncated_moments(a, b))
    for x in np.linspace(a, b, 9)[1:-1]:
        share = (below(x) - below(a)) / (below(b) - below(a))
        error = 5 * math.sqrt(share * (1 - share) / values.size)
        assert np.mean(values < x) == pytest.approx(share, abs=error)


def test_truncated_normal_is_cut_at_two_deviations():
    assert truncated_moments(-2, 2)[1] ** 2 == pytest.approx(0.7737413)
    assert_moments(drawn(TruncatedNormal(3.0, 0.5)), 3.0, 0.5 * math.sqrt(0.7737413))


def test_truncated_normal_cut_far_out_is_a_gaussian():
    assert_gaussian(drawn(TruncatedNormal(a=-9.0, b=9.0)), 0.0, 1.0)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_truncated_normal_in_other_dtypes(dtype):
    found = drawn(TruncatedNormal(), dtype=dtype)
    assert found.dtype == np.dtype(dtype)
    assert_moments(found, 0.0, math.sqrt(0.7737413))


def test_fans():
    assert fans(LINEAR) == (300, 100)
    assert fans(CONV) == (480, 960)
    assert fans((4, 3, 2)) == (6, 8)
    assert fans((5,)) == (5, 5)
    assert fans(()) == (1, 1)


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), [(LINEAR, 300, 100), (CONV, 480, 960)])
def test_xavier(shape, fan_in, fan_out):
    std = math.sqrt(2 / (fan_in + fan_out))
    assert_gaussian(drawn(XavierNormal(), shape), 0.0, std)
    limit = math.sqrt(6 / (fan_in + fan_out))
    assert_uniform(drawn(XavierUniform(), shape), -limit, limit)


def test_xavier_with_given_fans_and_gain():
    assert_gaussian(drawn(XavierNormal(fan_in=6, fan_out=2, gain=3.0)), 0.0, 1.5)
    assert_uniform(drawn(XavierUniform(fan_in=20)), -math.sqrt(6 / 120), math.sqrt(6 / 120))
    assert_uniform(drawn(XavierUniform(fan_out=0)), -math.sqrt(6 / 300), math.sqrt(6 / 300))


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), [(LINEAR, 300, 100), (CONV, 480, 960)])
def test_kaiming(shape, fan_in, fan_out):
    assert_gaussian(drawn(KaimingNormal(), shape), 0.0, math.sqrt(2 / fan_in))
    assert_gaussian(drawn(KaimingNormal(mode="fan_out"), shape), 0.0, math.sqrt(2 / fan_out))
    limit = math.sqrt(6 / fan_in)
    assert_uniform(drawn(KaimingUniform(), shape), -limit, limit)


GAINS = [
    ("relu", 0.0, math.sqrt(2)),
    ("leaky_relu", 0.0, math.sqrt(2)),
    ("leaky_relu", 0.5, math.sqrt(1.6)),
    ("tanh", 0.0, 5 / 3),
    ("linear", 0.0, 1.0),
    ("selu", 0.0, 0.75),
]


@pytest.mark.parametrize(("nonlinearity", "slope", "gain"), GAINS)
def test_kaiming_gains(nonlinearity, slope, gain):
    initializer = KaimingNormal(4, slope, nonlinearity)
    assert_gaussian(drawn(initializer), 0.0, gain / 2)
    assert_uniform(
        drawn(KaimingUniform(12, slope, nonlinearity)),
        -gain / 2,
        gain / 2,
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(1.0, 0.0),
        lambda: TruncatedNormal(a=2.0, b=-2.0),
        lambda: TruncatedNormal(a=1.0, b=1.0),
        lambda: KaimingNormal(nonlinearity="gelu"),
        lambda: KaimingUniform(mode="fan_avg"),
    ],
)
def test_arguments(make):
    with pytest.raises(ArgumentError):
        make()


def test_the_known_gains_are_listed():
    with pytest.raises(GraphoptError, match="leaky_relu"):
        KaimingNormal(nonlinearity="leaky")


@pytest.mark.parametrize("initializer", [Normal(), Uniform(), TruncatedNormal(), XavierNormal()])
def test_integers_are_not_drawn(initializer):
    with pytest.raises(DTypeError, match="only floats") as found:
        startup(initializer, (3,), "int64")
    assert "w : i64[3]" in str(found.value)


def test_shapes_without_elements_and_without_dims():
    assert drawn(Normal(), (0, 3)).shape == (0, 3)
    assert drawn(XavierUniform(), ()).shape == ()


@pytest.mark.parametrize("kind", [Normal, Uniform, TruncatedNormal, XavierNormal, KaimingUniform])
def test_a_seed_of_its_own(kind):
    first = drawn(kind(seed=7), (9,), seed=0)
    np.testing.assert_array_equal(drawn(kind(seed=7), (9,), seed=0), first)
    np.testing.assert_array_equal(drawn(kind(seed=7), (9,), seed=3), first)
    assert not np.array_equal(drawn(kind(seed=8), (9,), seed=0), first)


def test_repr():
    assert repr(Constant(0.5)) == "Constant(value=0.5)"
    assert repr(Normal(0.0, 0.1)) == "Normal(mean=0.0, std=0.1, seed=0)"


def test_an_initializer_of_ones_own():
    class Eye(Initializer):
        def assign(self, g, w, shape):
            g.EyeLike(g.ConstantOfShape(np.array(shape)), dtype=1, into=[w])

    np.testing.assert_array_equal(drawn(Eye(), (2, 3)), np.eye(2, 3))
