"""Dropout's gradient uses the very mask of the run: checked on onnxruntime, without a seed."""

import numpy as np
import pytest

from graphopt.ir.model.program import Program
from graphopt.passes.gradients.backward import gradients
from tests.ops.on_onnxruntime import evaluate

X = np.arange(1.0, 2001.0, dtype=np.float32).reshape(40, 50)


def values(ratio=None, training=None, **feeds):
    """Y and dY/dX of a Dropout whose operands are fed or constant."""
    program = Program()
    block = program.global_block()
    x = block.create_var("x", [None, 50])
    operands = [
        block.create_var(name, [], feeds[name].dtype.name) if name in feeds else given
        for name, given in (("ratio", ratio), ("training", training))
    ]
    y = program.recorder().Dropout(x, *operands)
    (dx,) = gradients([y], [x])
    return evaluate(program, [y, dx], {"x": X, **feeds})


@pytest.mark.parametrize(("ratio", "kept"), [(None, 0.5), (0.25, 0.75), (0.0, 1.0)])
def test_the_gradient_has_the_mask_and_the_scale_of_the_run(ratio, kept):
    y, dx = values(ratio, True)
    np.testing.assert_allclose(y, dx * X, rtol=1e-6)
    np.testing.assert_allclose(dx[dx != 0], 1 / kept, rtol=1e-6)
    assert abs((dx != 0).mean() - kept) < 0.06


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fed_ratio_of_any_float_dtype(dtype):
    y, dx = values(training=True, ratio=np.array(0.25, dtype))
    np.testing.assert_allclose(y, dx * X, rtol=1e-6)


def test_a_fed_training_mode():
    on = values(0.25, training=np.array(True))
    off = values(0.25, training=np.array(False))
    np.testing.assert_allclose(on[0], on[1] * X, rtol=1e-6)
    assert np.any(on[1] == 0)
    np.testing.assert_array_equal(off[0], X)
    np.testing.assert_array_equal(off[1], np.ones_like(X))


@pytest.mark.parametrize("training", [None, False])
def test_without_training_the_gradient_passes(training):
    y, dx = values(0.25, training)
    np.testing.assert_array_equal(y, X)
    np.testing.assert_array_equal(dx, np.ones_like(X))
