"""Resize by scales and by regions, which are float32 whatever X is, fed or constant."""

import numpy as np
import pytest

from graphopt.errors import GradientError
from graphopt.ir.model.program import Program
from graphopt.ops.registry.registry import DECOMPOSITIONS
from graphopt.passes.gradients.backward import gradients
from tests.ops import on_onnxruntime
from tests.ops.harness import Built, evaluate
from tests.ops.test_gradients import check, objective

TRANSFORMS = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric")
SCALED = [
    *[({"mode": "nearest", "nearest_mode": rounding, "coordinate_transformation_mode": t}, scales)
      for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
      for t in TRANSFORMS for scales in ((2.0, 3.0), (0.6, 1.7))],
    *[({"mode": mode, "coordinate_transformation_mode": t}, (1.7, 0.6))
      for mode in ("linear", "cubic") for t in (*TRANSFORMS, "align_corners")],
    *[({"mode": mode, "antialias": 1, "exclude_outside": 1}, (0.4, 1.7))
      for mode in ("linear", "cubic")],
]  # fmt: skip


def resized(attrs, scales, rng, *, fed, symbolic, dtype="f8", roi=None):
    """Resize of the last two dims of an image by scales."""
    program = Program()
    block, g, feeds = program.global_block(), program.recorder(), {}

    def operand(name, value, hidden, given):
        value = np.asarray(value)
        if not given:
            return program.constant(value)
        v = block.create_var(name, [None] * value.ndim if hidden else value.shape, value.dtype)
        v.is_data = True
        feeds[name] = value
        return v

    X = operand("X", rng.normal(size=(1, 2, 5, 4)).astype(dtype), symbolic, True)
    roi = None if roi is None else operand("roi", np.array(roi, dtype), False, fed)
    factors = operand("scales", np.array(scales, np.float32), False, fed)
    Y = g.Resize(X, roi, factors, axes=[2, 3], **attrs)
    return Built(program, feeds, [X], [Y])


@pytest.mark.parametrize("how", ["constant", "fed", "symbolic"])
@pytest.mark.parametrize(("attrs", "scales"), SCALED)
def test_scales(attrs, scales, how, rng):
    built = resized(attrs, scales, rng, fed=how != "constant", symbolic=how == "symbolic")
    assert_same(built)
    check(built.program, objective(built, rng), built.wrt, built.feeds, rng)


@pytest.mark.parametrize("how", ["constant", "fed", "symbolic"])
@pytest.mark.parametrize(("attrs", "scales"), SCALED)
def test_scales_on_onnxruntime(attrs, scales, how, rng):
    built = resized(attrs, scales, rng, fed=how != "constant", symbolic=how == "symbolic",
                    dtype="f4")  # fmt: skip
    assert_same(built, on_onnxruntime.evaluate, 1e-5)
    (dX,) = gradients(built.results, built.wrt)
    assert on_onnxruntime.evaluate(built.program, [dX], built.feeds)[0].shape == (1, 2, 5, 4)


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_regions(mode, fed, rng):
    attrs = {"mode": mode, "coordinate_transformation_mode": "tf_crop_and_resize",
             "extrapolation_value": 10.0}  # fmt: skip
    roi = (-0.2, 0.1, 0.7, 1.3)
    built = resized(attrs, (1.4, 2.0), rng, fed=fed, symbolic=fed, roi=roi)
    assert_same(built)
    check(built.program, objective(built, rng), built.wrt, built.feeds, rng)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_kept_aspects(mode, policy, rng):
    program = Program()
    X = program.global_block().create_var("X", [None] * 4, np.float64)
    X.is_data = True
    attrs = {"mode": mode, "axes": [2, 3], "keep_aspect_ratio_policy": policy}
    Y = program.recorder().Resize(X, None, None, [9, 3], **attrs)
    built = Built(program, {"X": rng.normal(size=(1, 2, 5, 4))}, [X], [Y])
    assert_same(built)
    check(program, objective(built, rng), [X], built.feeds, rng)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_kept_aspects_of_a_region(policy, rng):
    program = Program()
    X = program.global_block().create_var("X", [1, 2, 5, 4], np.float64)
    X.is_data = True
    attrs = {"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": policy,
             "coordinate_transformation_mode": "tf_crop_and_resize"}  # fmt: skip
    roi = program.constant(np.array([0.1, -0.2, 0.9, 0.7]))
    Y = program.recorder().Resize(X, roi, None, [9, 3], **attrs)
    built = Built(program, {"X": rng.normal(size=(1, 2, 5, 4))}, [X], [Y])
    assert_same(built)
    check(program, objective(built, rng), [X], built.feeds, rng)


def test_a_long_axis(rng):
    program = Program()
    X = program.global_block().create_var("X", [1, 1500], np.float64)
    X.is_data = True
    Y = program.recorder().Resize(X, None, None, [1, 2000], mode="nearest")
    built = Built(program, {"X": rng.normal(size=(1, 1500))}, [X], [Y])
    assert_same(built)
    check(program, objective(built, rng), [X], built.feeds, rng)


def test_upsampling_by_a_whole_number_only_adds_up(rng):
    built = resized({"mode": "nearest"}, (2.0, 3.0), rng, fed=False, symbolic=False)
    before = len(built.program.global_block().ops)
    gradients(built.results, built.wrt, built.results)
    made = {op.type for op in built.program.global_block().ops[before:]}
    assert made == {"Reshape", "ReduceSum"}


def test_scales_and_regions_have_no_gradient(rng):
    built = resized({"mode": "linear"}, (2.0, 2.0), rng, fed=True, symbolic=False)
    scales = built.program.global_block().vars["scales"]
    with pytest.raises(GradientError, match="and none for scales"):
        gradients(built.results, [scales])


def assert_same(built, run=None, tolerance=1e-9):
    """The decomposition computes what the op computes."""
    op = built.program.global_block().ops[-1]
    made = DECOMPOSITIONS["Resize"].results(built.program.recorder(), op)[0]
    run = run or (lambda *args: evaluate(*args)[0])
    own, found = run(built.program, [built.results[0], made], built.feeds)
    np.testing.assert_allclose(found, own, rtol=tolerance, atol=tolerance)
