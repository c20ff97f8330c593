"""Gradients of ops without float64.

What such an op computes is compared, on onnxruntime, with its decomposition (test_decompositions).
Here the gradients are compared with central differences of the decomposition in float64: the
reference evaluator lacks some options, and differs from onnxruntime in others.
"""

import numpy as np
import pytest

from graphopt.ops.registry.registry import DECOMPOSITIONS
from graphopt.passes.gradients.backward import gradients
from tests.ops import on_onnxruntime
from tests.ops.float32_only import FLOAT32_ONLY, UNKNOWN_TO_ONNXRUNTIME, evaluate
from tests.ops.harness import build

STEP = 1e-5
ALL = [
    pytest.param(type, case, symbolic, id=f"{type}-{number}-{'symbolic' if symbolic else 'static'}")
    for type in sorted(FLOAT32_ONLY)
    for number, case in enumerate(DECOMPOSITIONS[type].cases)
    for symbolic in (False, True)
]


def in_float64(feeds):
    return {k: v.astype("f8") if v.dtype.kind == "f" else v for k, v in feeds.items()}


def weighted(g, results, weights):
    """The sum of all cos(weight result): no element has the derivative of another."""
    parts = [g.Cos(g.Mul(v, weight)) for v, weight in zip(results, weights, strict=True)]
    return g.Sum(*[g.ReduceSum(part, keepdims=0) for part in parts])


def assert_derivative(program, target, grads, wrt, feeds, rng):
    """The gradients along random directions against central differences of ``target``."""
    values = evaluate(program, [grad for grad in grads if grad is not None], feeds)
    live = [v for v, grad in zip(wrt, grads, strict=True) if grad is not None]
    assert live
    for _ in range(2):
        direction = {v.name: rng.normal(size=feeds[v.name].shape) for v in wrt}
        above, below = (
            evaluate(program, [target], {k: v + s * STEP * direction[k] if k in direction else v
                                         for k, v in feeds.items()})[0]
            for s in (1, -1)
        )  # fmt: skip
        actual = sum(
            float((direction[v.name] * x).sum()) for v, x in zip(live, values, strict=True)
        )
        assert actual == pytest.approx(float(above - below) / (2 * STEP), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(("type", "case", "symbolic"), ALL)
def test_gradient(type, case, symbolic, rng):
    built = build(type, case, rng, symbolic=symbolic, dtype="f4")
    g, feeds = built.program.recorder(), in_float64(built.feeds)
    op = built.program.global_block().ops[-1]
    twins = DECOMPOSITIONS[type].results(g, op)
    pairs = [pair for pair in zip(op.outputs, twins, strict=True) if pair[1] is not None]
    weights = rng.uniform(0.5, 1.5, len(pairs)).tolist()
    target = weighted(g, [own for own, _ in pairs], weights)
    twin = weighted(g, [twin for _, twin in pairs], weights)
    grads, through = gradients([target], built.wrt), gradients([twin], built.wrt)
    assert_derivative(built.program, twin, through, built.wrt, feeds, rng)
    live = [grad for grad in through if grad is not None]
    if type not in UNKNOWN_TO_ONNXRUNTIME:
        own = [grad for grad in grads if grad is not None]
        values = on_onnxruntime.evaluate(built.program, own, built.feeds)
        for found, right in zip(values, evaluate(built.program, live, feeds), strict=True):
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, right, rtol=1e-3, atol=1e-4)
    second = g.Sum(*[g.ReduceSum(g.Mul(v, v), keepdims=0) for v in live])
    again = gradients([second], built.wrt)
    assert_derivative(built.program, second, again, built.wrt, feeds, rng)
