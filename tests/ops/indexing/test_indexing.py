"""Gradients of indexing that the cards' cases cannot hold."""

import numpy as np
import pytest

from graphopt.ir.model.program import Program
from graphopt.passes.gradients.backward import gradients
from tests.helpers import lowered
from tests.ops.harness import evaluate
from tests.ops.test_runs import run_onnxruntime

X = np.arange(6.0, dtype="f4").reshape(2, 3)


def recorded(type, *operands, results=1, **attrs):
    """A Program with x : f32[2, 3] and one op over it: x, and the op's result or results.

    A name among the operands is that of a fed i64[4].
    """
    program = Program()
    block = program.global_block()
    x = block.create_var("x", [2, 3], "float32")
    given = [block.create_var(v, [4], "int64") if isinstance(v, str) else v for v in operands]
    return program, x, program.recorder().emit(type, x, *given, outputs=results, **attrs)


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize(
    ("mode", "pads", "expected"),
    [
        ("constant", [1, -1, 0, -1], [[0, 1, 0], [0, 1, 0]]),
        ("edge", [1, -1, 0, -1], [[0, 2, 0], [0, 1, 0]]),
        ("reflect", [1, -1, 0, -1], [[0, 1, 0], [0, 2, 0]]),
        ("wrap", [1, -1, 0, -1], [[0, 1, 0], [0, 2, 0]]),
        ("edge", [-1, 0, 2, 1], [[0, 0, 0], [3, 3, 6]]),
        ("wrap", [0, -1, 1, 0], [[0, 2, 2], [0, 1, 1]]),
    ],
)
def test_pads_may_be_negative(mode, pads, expected, fed):
    """On onnxruntime: onnx's reference evaluator refuses them."""
    given = np.array(pads)
    program, x, y = recorded("Pad", "pads" if fed else given, mode=mode)
    (grad,) = gradients([y], [x])
    assert grad is not None
    feeds = {"x": X, **({"pads": given} if fed else {})}
    inputs = [program.global_block().vars[name] for name in feeds]
    (found,) = run_onnxruntime(lowered(program, inputs, [grad]).model, feeds)
    assert found.tolist() == expected


def test_space_to_depth_of_columns_first(rng):
    """The attribute is opset 28's, which onnxruntime does not run yet."""
    program = Program()
    program.opset = 28
    x = program.global_block().create_var("x", [1, 2, 4, 2], "float64")
    y = program.recorder().emit("SpaceToDepth", x, blocksize=2, mode="CRD")
    weight = program.recorder().const(rng.normal(size=(1, 8, 2, 1)))
    (grad,) = gradients([y], [x], [weight])
    value = rng.normal(size=(1, 2, 4, 2))
    (moved, dX), _ = evaluate(program, [y, grad], {"x": value})
    assert (moved * weight.value).sum() == pytest.approx((value * dX).sum())


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
    model = lowered(program, [x], [grad]).model
    (found,) = run_onnxruntime(model, {"x": np.zeros((0, 3), "f4")})
    assert found.shape == (0, 3)
