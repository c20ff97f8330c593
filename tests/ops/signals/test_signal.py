"""Transforms whose axis and lengths are fed: onnx's type inference knows no rank for some."""

from typing import Any

import numpy as np
import pytest

from graphopt.ops.registry.cases import case, ints, scalar
from graphopt.ops.registry.registry import DECOMPOSITIONS, ZERO
from tests.ops import harness, on_onnxruntime
from tests.ops.harness import build
from tests.ops.test_gradients import check, objective

FRAMES: dict[str, Any] = {"signal": (2, 9, 1), "frame_step": ints((), 3, low=2)}
FED = [
    ("DFT", case(input=(4, 2, 2), axis=ints((), -2, low=-3))),
    ("DFT", case(input=(4, 3, 2, 1), dft_length=ints((), 6, low=5), axis=ints((), 2, low=1))),
    ("DFT", case(input=(4, 2, 2), dft_length=ints((), 4, low=3), axis=ints((), 1),
                 attrs={"inverse": 1})),
    ("DFT", case(input=(6, 2, 1), axis=ints((), 1), attrs={"onesided": 1})),
    ("DFT", case(input=(4, 2, 2), axis=ints((), 1), attrs={"onesided": 1, "inverse": 1})),
    ("DFT", case(input=(2, 6, 2), dft_length=scalar(5), attrs={"onesided": 1, "inverse": 1})),
    ("STFT", case(**FRAMES, window=(4,))),
    ("STFT", case(**FRAMES, frame_length=ints((), 5, low=4))),
    ("STFT", case(**FRAMES, window=(4,), frame_length=ints((), 5, low=4), attrs={"onesided": 0})),
    ("STFT", case(signal=(2, 9, 2), frame_step=ints((), 4, low=3), frame_length=scalar(4),
                  attrs={"onesided": 0})),
]  # fmt: skip


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("type", "sample"), FED)
def test_gradient(type, sample, symbolic, rng):
    built = build(type, sample, rng, symbolic=symbolic)
    live = check(built.program, objective(built, rng), built.wrt, built.feeds, rng)
    g = built.program.recorder()
    second = g.Sum(*[g.ReduceSum(g.Mul(grad, grad), keepdims=0) for _, grad in live])
    check(built.program, second, built.wrt, built.feeds, rng)


@pytest.mark.parametrize(("type", "sample"), FED[:5])
def test_gradient_on_onnxruntime(type, sample, rng):
    on_onnxruntime.assert_gradient(type, sample, rng, dtype="f4", step=0.1, symbolic=True)


@pytest.mark.parametrize("onesided", [0, 1])
def test_decomposition_of_a_short_time_transform(onesided, rng):
    built = build("STFT", case(**FRAMES, window=(4,), attrs={"onesided": onesided}), rng,
                  symbolic=True)  # fmt: skip
    op = built.program.global_block().ops[-1]
    made = DECOMPOSITIONS["STFT"].results(built.program.recorder(), op)[0]
    own, found = harness.evaluate(built.program, [op.outputs[0], made], built.feeds)[0]
    np.testing.assert_allclose(found, own, rtol=1e-9, atol=1e-9)


def test_windows_have_no_derivative():
    assert {"HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix"} <= set(ZERO)
