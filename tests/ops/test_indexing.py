"""Gradients of indexing that the cards' cases cannot hold."""

import numpy as np
import pytest

from graphopt.errors import GradientError
from graphopt.ir.program import Program
from graphopt.onnxio.write import lower
from graphopt.passes.backward import gradients
from tests.ops.harness import evaluate
from tests.ops.test_runs import run_onnxruntime

X = np.arange(6.0, dtype="f4").reshape(2, 3)


def recorded(type, *operands, results=1, **attrs):
    """A Program with x : f32[2, 3] and one op over it: x, and the op's result or results."""
    program = Program()
    x = program.global_block().create_var("x", [2, 3], "float32")
    return program, x, program.recorder().emit(type, x, *operands, outputs=results, **attrs)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("constant", [[0, 1, 0], [0, 1, 0]]),
        ("edge", [[0, 2, 0], [0, 1, 0]]),
        ("reflect", [[0, 1, 0], [0, 2, 0]]),
    ],
)
def test_pads_may_be_negative(mode, expected):
    """On onnxruntime: onnx's reference evaluator refuses them."""
    program, x, y = recorded("Pad", np.array([1, -1, 0, -1]), mode=mode)
    (grad,) = gradients([y], [x])
    assert grad is not None
    (found,) = run_onnxruntime(lower(program, [x], [grad]).model, {"x": X})
    assert found.tolist() == expected


@pytest.mark.parametrize("type", ["ScatterElements", "ScatterND"])
def test_other_reductions_are_refused(type):
    operands = [np.array([[0, 1]]), np.ones((1, 2) if type == "ScatterElements" else 1, "f4")]
    _, x, y = recorded(type, *operands, reduction="max")
    with pytest.raises(GradientError, match="reduction 'max'"):
        gradients([y], [x])


def test_a_part_that_is_not_used_has_gradient_zero():
    program, x, parts = recorded("Split", results=3, axis=1, num_outputs=3)
    (grad,) = gradients([parts[1]], [x])
    assert grad is not None
    (found,), _ = evaluate(program, [grad], {"x": X})
    assert found.tolist() == [[0, 1, 0], [0, 1, 0]]


def test_dims_of_size_zero():
    program = Program()
    x = program.global_block().create_var("x", [None, 3], "float32")
    y = program.recorder().Slice(x, [0], [5], [0], [2])
    (grad,) = gradients([y], [x])
    assert grad is not None
    model = lower(program, [x], [grad]).model
    (found,) = run_onnxruntime(model, {"x": np.zeros((0, 3), "f4")})
    assert found.shape == (0, 3)
