"""Slopes where a function has a kink, or operands tie: Paddle's conventions."""

import numpy as np
import pytest

from graphopt.ir.model.program import Program
from graphopt.passes.gradients.backward import gradients
from tests.ops.harness import evaluate


def slopes(type, *operands, dtype="f8", **attrs):
    """d(sum of the result)/d(operand) for each operand; None is an omitted one."""
    program = Program()
    feeds = {f"x{k}": np.asarray(v, dtype) for k, v in enumerate(operands) if v is not None}
    block = program.global_block()
    fed = {name: block.create_var(name, value.shape, value.dtype) for name, value in feeds.items()}
    given = [fed.get(f"x{k}") for k in range(len(operands))]
    result = program.recorder().emit(type, *given, **attrs)
    grads = [grad for grad in gradients([result], [*fed.values()]) if grad is not None]
    return [value.tolist() for value in evaluate(program, grads, feeds)[0]]


UNARY = [
    ("Abs", {}, {-2: -1, 0: 0, 2: 1}),
    ("Celu", {"alpha": 0.5}, {0: 1, 2: 1}),
    ("Elu", {"alpha": 0.5}, {0: 0.5, 2: 1}),
    ("HardSigmoid", {"alpha": 0.25}, {-3: 0, -2: 0, 0: 0.25, 2: 0, 3: 0}),
    ("HardSwish", {}, {-4: 0, -3: 0, 0: 0.5, 3: 1, 4: 1}),
    ("LeakyRelu", {"alpha": 0.25}, {-2: 0.25, 0: 1, 2: 1}),
    ("Relu", {}, {-2: 0, 0: 0, 2: 1}),
    ("Selu", {"alpha": 0.5, "gamma": 2.0}, {0: 1, 2: 2}),
    ("ThresholdedRelu", {"alpha": 0.5}, {0: 0, 0.5: 0, 2: 1}),
]


@pytest.mark.parametrize(("type", "attrs", "expected"), UNARY, ids=[u[0] for u in UNARY])
def test_unary(type, attrs, expected):
    dtype = "f4" if type == "Celu" else "f8"  # onnx's Celu takes nothing else
    (found,) = slopes(type, list(expected), dtype=dtype, **attrs)
    assert found == list(expected.values())


@pytest.mark.parametrize("type", ["Ceil", "Floor", "Round", "Sign"])
def test_steps_have_no_slope(type):
    program = Program()
    x = program.global_block().create_var("x", [2], "float64")
    assert gradients([program.recorder().emit(type, x)], [x]) == [None]


def test_clip_passes_the_gradient_on_its_bounds():
    X = [-2.0, -1.0, 0.0, 1.0, 2.0]
    assert slopes("Clip", X, -1.0, 1.0) == [[0, 1, 1, 1, 0], 1, 1]
    assert slopes("Clip", X, None, 1.0) == [[1, 1, 1, 1, 0], 1]


def test_clip_by_bounds_in_the_wrong_order_is_the_upper_one():
    assert slopes("Clip", [-2.0, 0.0, 2.0], 1.0, -1.0) == [[0, 0, 0], 0, 3]


@pytest.mark.parametrize("type", ["Max", "Min"])
def test_equal_operands_share(type):
    assert slopes(type, [1.0], [1.0]) == [[0.5], [0.5]]
    assert slopes(type, [0.0, 1.0], [0.0, 1.0]) == [[0.5, 0.5]] * 2
    assert slopes(type, [3.0], [3.0], [3.0], [3.0]) == [[0.25]] * 4


@pytest.mark.parametrize("type", ["ReduceMax", "ReduceMin"])
def test_equal_elements_share(type):
    assert slopes(type, [[1.0, 1.0], [1.0, 1.0]]) == [[[0.25, 0.25], [0.25, 0.25]]]


def test_prelu_at_zero_is_on_the_right():
    assert slopes("PRelu", [-2.0, 0.0, 2.0], [0.5]) == [[0.5, 1, 1], [-2]]


def test_power_of_a_base_that_is_not_positive():
    base, exponent = slopes("Pow", [-2.0, 0.0, 0.0, 0.0], [3.0, 2.0, 1.0, 0.0])
    assert base == [12, 0, 1, 0]
    assert exponent == [0, 0, 0, 0]
    program = Program()
    x = program.global_block().create_var("x", [2], "float64")
    grads = gradients([program.recorder().Pow(x, 0.0)], [x])
    assert grads[0] is not None
    assert evaluate(program, [grads[0]], {"x": np.zeros(2)})[0][0].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("x", "expected"),
    [([2.0, 3.0, 4.0], [12, 8, 6]), ([2.0, 0.0, 4.0], [0, 8, 0]), ([0.0, 0.0, 4.0], [0, 0, 0])],
)
def test_product_with_zeros(x, expected):
    assert slopes("ReduceProd", x) == [expected]


def test_equal_elements_of_unique_share():
    assert slopes("Unique", [3.0, 1.0, 3.0]) == [[0.5, 1, 0.5]]


def test_norms_of_zero():
    assert slopes("ReduceL1", [0.0, 0.0]) == [[0, 0]]
    assert slopes("ReduceL2", [0.0, 0.0]) == [[0, 0]]


def test_softmax_of_a_masked_row_that_is_replaced():
    """Attention in files does so: NaN, of -inf alone, is not what the loss depends on."""
    program = Program()
    g, x = program.recorder(), program.global_block().create_var("x", [2, 2], "float64")
    P = g.Softmax(x)
    y = g.Where(g.IsNaN(P), 0.0, P)
    feeds = {"x": np.array([[-np.inf, -np.inf], [0.0, 0.0]])}
    first = gradients([g.Mul(y, np.array([1.0, 3.0]))], [x])[0]
    assert first is not None
    second = gradients([g.Mul(first, np.array([1.0, 2.0]))], [x])[0]
    assert second is not None
    with np.errstate(invalid="ignore"):
        values = evaluate(program, [first, second], feeds)[0]
    assert values[0].tolist() == [[0, 0], [-0.5, 0.5]]
    assert values[1].tolist() == [[0, 0], [0, 0]]
