"""Rules are made of ops that have rules: a gradient can be differentiated, in dY as well.

A rule is linear in dY. So S = sum(u rule(dY)), with any u, is the sum of dY dS/d(dY) too.
"""

import pytest

from graphopt.passes.gradients.backward import gradients
from tests.ops import harness
from tests.ops.harness import build
from tests.ops.test_gradients import ALL


def evaluate(program, fetch, feeds):
    return harness.evaluate(program, fetch, feeds)[0]


def with_cotangents(built, rng):
    """One fed dY per result, and the feeds with a value for each."""
    values = evaluate(built.program, built.results, built.feeds)
    block, feeds, cotangents = built.program.global_block(), dict(built.feeds), []
    for k, (result, value) in enumerate(zip(built.results, values, strict=True)):
        dY = block.create_var(f"dY{k}", value.shape, result.dtype)
        dY.tensor_type, dY.is_data = result.tensor_type, True
        feeds[dY.name] = rng.normal(size=value.shape).astype(value.dtype)
        cotangents.append(dY)
    return cotangents, feeds


def weighted_sum(built, parts, feeds, rng):
    """S = the sum of u part over all parts, u being random numbers."""
    g = built.program.recorder()
    sums = []
    for part, value in zip(parts, evaluate(built.program, parts, feeds), strict=True):
        u = g.const(rng.normal(size=value.shape).astype(value.dtype))
        sums.append(g.ReduceSum(g.Mul(part, u), keepdims=0))
    return g.Sum(*sums)


@pytest.mark.parametrize(("card", "case", "symbolic"), ALL)
def test_gradient_of_the_gradient(card, case, symbolic, rng):
    built = build(card.type, case, rng, symbolic=symbolic)
    cotangents, feeds = with_cotangents(built, rng)
    first = [grad for grad in gradients(built.results, built.wrt, cotangents) if grad is not None]
    total = weighted_sum(built, first, feeds, rng)
    second = gradients([total], [*cotangents, *built.wrt])  # a GradientError names a missing card
    along = second[: len(cotangents)]
    expected, *found = evaluate(built.program, [total, *along], feeds)
    actual = sum(
        float((feeds[dY.name] * value).sum()) for dY, value in zip(cotangents, found, strict=True)
    )
    assert actual == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
