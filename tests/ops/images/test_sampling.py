"""GridSample where the two evaluators differ, and regions without a single element."""

import numpy as np
import pytest

from graphopt.ops.registry.cases import case, i64
from graphopt.ops.registry.registry import DECOMPOSITIONS
from graphopt.passes.gradients.backward import gradients
from tests.ops.harness import build, evaluate
from tests.ops.test_gradients import check, objective


def grid(shape, rng):
    return rng.uniform(-1.3, 1.3, shape)


@pytest.mark.parametrize("corners", [0, 1])
def test_cubic_samples_beyond_the_border(corners, rng):
    """onnxruntime moves a sample that is outside along one axis to the border along all of them.

    The reference evaluator moves it along that axis alone, and so does the decomposition.
    """
    attrs = {"mode": "cubic", "padding_mode": "border", "align_corners": corners}
    built = build("GridSample", case(X=(1, 2, 3, 4), grid=(1, 3, 3, 2), attrs=attrs), rng,
                  symbolic=False)  # fmt: skip
    built.feeds["grid"] = grid((1, 3, 3, 2), rng)
    op = built.program.global_block().ops[-1]
    made = DECOMPOSITIONS["GridSample"].results(built.program.recorder(), op)[0]
    own, found = evaluate(built.program, [built.results[0], made], built.feeds)[0]
    np.testing.assert_allclose(found, own, rtol=1e-9, atol=1e-9)
    check(built.program, objective(built, rng), built.wrt, built.feeds, rng)


def test_samples_of_a_single_element(rng):
    attrs = {"padding_mode": "reflection", "align_corners": 1}
    built = build("GridSample", case(X=(1, 1, 1, 3), grid=(1, 2, 2, 2), attrs=attrs), rng,
                  symbolic=False)  # fmt: skip
    built.feeds["grid"] = np.array([[[[0.3, 0.1], [-0.4, 0.9]], [[1.2, -0.2], [0.7, 0.0]]]])
    found = evaluate(built.program, gradients(built.results, built.wrt), built.feeds)[0]
    assert all(np.isfinite(value).all() for value in found)
    assert found[0].sum() == pytest.approx(4)


def test_an_empty_region_has_no_gradient(rng):
    sample = case(X=(1, 1, 3, 3), rois=np.array([[0.5, 0.5, 0.5, 0.5]]), batch_indices=i64(0))
    built = build("RoiAlign", sample, rng, symbolic=True)
    (dX,) = evaluate(built.program, gradients(built.results, built.wrt), built.feeds)[0]
    np.testing.assert_array_equal(dX, np.zeros((1, 1, 3, 3)))
