"""Gradients to the scales of quantized numbers: in float32, the ops take no float64.

Results are linear in the scales, so that differences over large steps are exact.
"""

import numpy as np
import pytest

from graphopt.ir.model.program import Program
from graphopt.ops.containers.quantization import small
from graphopt.ops.registry.registry import CARDS
from graphopt.passes.gradients.backward import gradients
from tests.ops.on_onnxruntime import assert_gradient, evaluate


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("number", range(len(CARDS["DequantizeLinear"].cases)))
def test_scale(number, symbolic, rng):
    sample = CARDS["DequantizeLinear"].cases[number]
    assert_gradient("DequantizeLinear", sample, rng, dtype="f4", step=0.25, symbolic=symbolic)


@pytest.mark.parametrize("symbolic", [False, True])
def test_scale_beside_a_zero_point(symbolic, rng):
    sample = CARDS["DequantizeLinear"].cases[1]
    sample = type(sample)({**sample.inputs, "x_zero_point": small((3,))}, sample.attrs)
    assert_gradient("DequantizeLinear", sample, rng, dtype="f4", step=0.25, symbolic=symbolic)


def test_scale_that_is_found_from_the_numbers():
    """scale = (max - min) / 255, and dequantized numbers are a multiple of it."""
    program = Program()
    x = program.global_block().create_var("x", [3], "float32")
    g = program.recorder()
    quantized, scale, zero = g.DynamicQuantizeLinear(x, outputs=3)
    (grad,) = gradients([g.DequantizeLinear(quantized, scale, zero)], [x])
    X = np.array([-1.0, 0.5, 2.0], "f4")
    fetched = evaluate(program, [grad, quantized, zero], {"x": X})
    steps = float(fetched[1].astype("i8").sum() - 3 * int(fetched[2]))
    np.testing.assert_allclose(fetched[0], np.array([-1, 0, 1]) * steps / 255, rtol=1e-5)


@pytest.mark.parametrize("type", ["QuantizeLinear", "DynamicQuantizeLinear"])
def test_integers_have_no_gradient(type):
    program = Program()
    x = program.global_block().create_var("x", [3], "float32")
    g = program.recorder()
    quantized = (
        g.QuantizeLinear(x, 0.5, np.int8(0))
        if type == "QuantizeLinear"
        else g.DynamicQuantizeLinear(x, outputs=3)[0]
    )
    assert gradients([g.Cast(quantized, to=1)], [x]) == [None]
