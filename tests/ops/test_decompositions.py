"""A decomposition computes what its op computes."""

import numpy as np
import pytest

from graphopt.ops.registry.registry import CARDS, DECOMPOSITIONS
from tests.ops import harness, on_onnxruntime
from tests.ops.float32_only import FLOAT32_ONLY, UNKNOWN_TO_ONNXRUNTIME
from tests.ops.harness import build
from tests.ops.test_gradients import SINGLE

ALL = [
    pytest.param(card, case, symbolic, id=f"{type}-{number}-{'symbolic' if symbolic else 'static'}")
    for type, card in sorted(DECOMPOSITIONS.items())
    for number, case in enumerate(card.cases)
    for symbolic in (False, True)
]
# The reference evaluator is wrong, or slow, or lacks an option: see the op's own tests.
ON_ONNXRUNTIME = FLOAT32_ONLY - UNKNOWN_TO_ONNXRUNTIME

ROUNDED = {"ai.onnx.preview::FlexAttention"}  # the reference's body has float32 in it


@pytest.mark.parametrize(("card", "case", "symbolic"), ALL)
def test_decomposition_equals_op(card, case, symbolic, rng):
    dtype = "f4" if card.type in {*SINGLE, *ROUNDED} else "f8"
    built = build(card.type, case, rng, symbolic=symbolic, dtype=dtype)
    op = built.program.global_block().ops[-1]
    made = card.results(built.program.recorder(), op)
    pairs = [(own, found) for own, found in zip(op.outputs, made, strict=True) if found is not None]
    assert pairs
    fetch = [v for pair in pairs for v in pair]
    if card.type in ON_ONNXRUNTIME:
        values = on_onnxruntime.evaluate(built.program, fetch, built.feeds)
    else:
        values, _ = harness.evaluate(built.program, fetch, built.feeds)
    for expected, actual in zip(values[::2], values[1::2], strict=True):
        assert actual.dtype == expected.dtype
        rel = 1e-9 if dtype == "f8" else 1e-5
        np.testing.assert_allclose(actual, expected, rtol=rel, atol=rel)


def test_an_op_has_one_page():
    assert not set(CARDS) & set(DECOMPOSITIONS)
