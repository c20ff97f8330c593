"""Options of Attention that its cases leave out."""

from typing import Any

import numpy as np
import pytest

from graphopt.ops.layers.attention import HEADS, PAST
from graphopt.ops.registry.cases import Draw, bools, case
from graphopt.ops.registry.registry import DECOMPOSITIONS
from graphopt.passes.gradients.backward import gradients
from tests.ops import harness
from tests.ops.float32_only import evaluate
from tests.ops.harness import build
from tests.ops.test_gradients import check, objective

CACHED = Draw(
    (2,), lambda *_: np.array([1, 4])
)  # valid keys: fewer than there are queries, or more
BLIND = Draw((3, 5), lambda *_: np.array([[True] * 5, [False] * 5, [True, False] * 2 + [True]]))
GROUPED: dict[str, Any] = {"Q": (2, 6, 3, 4), "K": (2, 2, 5, 4), "V": (2, 2, 5, 3)}
OPTIONS = [
    case(**HEADS, attn_mask=BLIND),
    case(**HEADS, attn_mask=BLIND, attrs={"qk_matmul_output_mode": 3}, results=4),
    case(**HEADS, attn_mask=(3, 3)),  # the last two keys are not seen
    case(**HEADS, attn_mask=bools((2, 2, 3, 4)), attrs={"softcap": 2.0}),
    case(**HEADS, attrs={"qk_matmul_output_mode": 0}, results=4),
    case(**HEADS, attrs={"qk_matmul_output_mode": 1, "softcap": 1.3}, results=4),
    case(**HEADS, attn_mask=(3, 5), attrs={"qk_matmul_output_mode": 2}, results=4),
    case(**HEADS, nonpad_kv_seqlen=CACHED),
    case(**HEADS, nonpad_kv_seqlen=CACHED, attrs={"is_causal": 1}),
    case(**HEADS, attrs={"left_window_size": 1, "right_window_size": 1}),
    case(**HEADS, **PAST, attrs={"left_window_size": 2, "is_causal": 1}, results=3),
    case(**HEADS, **PAST, attn_mask=(7,), results=3),
    case(**GROUPED, attrs={"scale": 0.25}),
    case(**GROUPED, attn_mask=(2, 6, 3, 5), attrs={"is_causal": 1}),
    case(Q=(2, 3, 8), K=(2, 4, 4), V=(2, 4, 6), attrs={"q_num_heads": 4, "kv_num_heads": 2}),
    case(Q=(2, 3, 4), K=(2, 4, 4), V=(2, 4, 6), **PAST, results=3,
         attrs={"q_num_heads": 2, "kv_num_heads": 2, "is_causal": 1}),
]  # fmt: skip
OPTIONS[-1].inputs.update(case(past_key=(2, 2, 2, 2), past_value=(2, 2, 2, 3)).inputs)


@pytest.mark.parametrize("sample", OPTIONS)
def test_decomposition_and_gradient(sample, rng):
    built = build("Attention", sample, rng, symbolic=False)
    op = built.program.global_block().ops[-1]
    made = DECOMPOSITIONS["Attention"].results(built.program.recorder(), op)
    values = harness.evaluate(built.program, [*op.outputs, *made], built.feeds)[0]
    for own, found in zip(values[: len(made)], values[len(made) :], strict=True):
        np.testing.assert_allclose(found, own, rtol=1e-9, atol=1e-9)
    live = check(built.program, objective(built, rng), built.wrt, built.feeds, rng)
    g = built.program.recorder()
    second = g.Sum(*[g.ReduceSum(g.Mul(grad, grad), keepdims=0) for _, grad in live])
    check(built.program, second, built.wrt, built.feeds, rng)


@pytest.mark.parametrize("sample", OPTIONS)
def test_open_dims(sample, rng):
    """The gradient is that of known dims.

    onnx's checker does not accept such a model: for products of open dims it infers 0.
    """
    seed, found = rng.integers(100), []
    for symbolic in (False, True):
        built = build("Attention", sample, np.random.default_rng(seed), symbolic=symbolic)
        g = built.program.recorder()
        total = g.Sum(*[g.ReduceSum(g.Sin(v), keepdims=0) for v in built.results])
        grads = [grad for grad in gradients([total], built.wrt) if grad is not None]
        found.append(evaluate(built.program, grads, built.feeds))
    for known, opened in zip(*found, strict=True):
        np.testing.assert_allclose(opened, known, rtol=1e-9, atol=1e-9)
