"""Normalizations: options the reference evaluator lacks, and saved statistics in float32."""

import numpy as np
import pytest

from graphopt.ops.registry.cases import case, fixed
from graphopt.passes.gradients.backward import gradients
from tests.ops import harness
from tests.ops.harness import build
from tests.ops.on_onnxruntime import assert_gradient, evaluate, weighted_sum

LAYERS = [
    case(X=(2, 3, 4), Scale=fixed((4,)), B=fixed((4,)), attrs={"epsilon": 0.1}),
    case(X=(2, 3, 4), Scale=fixed((3, 4)), attrs={"axis": 1}),
]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("axis", [0, -1])
def test_lp_normalization_of_negative_numbers(axis, symbolic, rng):
    """The reference evaluator leaves out the absolute value where p is 1."""
    sample = case(input=(3, 4), attrs={"p": 1, "axis": axis})
    assert_gradient("LpNormalization", sample, rng, dtype="f8", step=1e-5, symbolic=symbolic)


@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization_of_zeros_has_no_gradient(p, rng):
    built = build("LpNormalization", case(input=(2, 3), attrs={"p": p}), rng, symbolic=False)
    built.feeds["input"][0] = 0
    (grad,) = gradients([weighted_sum(built, rng)], built.wrt)
    (value,) = evaluate(built.program, [grad], built.feeds)
    assert np.all(value[0] == 0)
    assert np.all(value[1] != 0)


def live(grads):
    return [grad for grad in grads if grad is not None]


def first_and_second(sample, dtype, run):
    """First and second derivatives of a LayerNormalization, by operand."""
    rng = np.random.default_rng(0)
    built = build("LayerNormalization", sample, rng, symbolic=True, dtype=dtype)
    found = live(gradients([weighted_sum(built, rng)], built.wrt))
    g = built.program.recorder()
    second = g.Sum(*[g.ReduceSum(g.Mul(grad, grad), keepdims=0) for grad in found])
    twice = live(gradients([second], built.wrt))
    return run(built.program, [*found, *twice], built.feeds), built.program.global_block().ops


@pytest.mark.parametrize("sample", LAYERS)
def test_saved_statistics_give_the_gradients_of_float64(sample):
    """float32 uses Mean and InvStdDev, float64 works them out again: both rules agree."""
    single, ops = first_and_second(sample, "f4", evaluate)
    double, _ = first_and_second(sample, "f8", lambda *args: harness.evaluate(*args)[0])
    assert [v is not None for v in ops[0].outputs] == [True] * 3
    for a, b in zip(single, double, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_mean_variance_normalization_through_its_body(rng):
    """It has no card: onnx's body is differentiated, which is float32 only."""
    sample = case(X=(2, 3, 2, 2))
    built = build("MeanVarianceNormalization", sample, rng, symbolic=True, dtype="f4")
    (grad,) = gradients([weighted_sum(built, rng)], built.wrt)
    (value,) = evaluate(built.program, [grad], built.feeds)
    along_ones = value.sum(axis=(0, 2, 3))
    along_x = (value * built.feeds["X"]).sum(axis=(0, 2, 3))
    np.testing.assert_allclose([along_ones, along_x], 0, atol=1e-5)  # Y ignores shift and scale
    assert abs(value).max() > 0.1


def test_group_normalization_in_float32(rng):
    """The reference evaluator's cases use stash_type=11; the default must run as well."""
    sample = case(X=(2, 4, 3), scale=fixed((4,)), bias=fixed((4,)), attrs={"num_groups": 2})
    built = build("GroupNormalization", sample, rng, symbolic=True, dtype="f4")
    target = weighted_sum(built, rng)
    value = evaluate(built.program, gradients([target], built.wrt), built.feeds)[0]
    assert value.dtype == np.float32
    assert value.shape == (2, 4, 3)
