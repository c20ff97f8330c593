"""Scatters: updates that share an index, ties, and zeros among factors."""

import numpy as np
import pytest

from graphopt.ir.model.program import Program
from graphopt.passes.gradients.backward import gradients
from tests.ops import harness, on_onnxruntime

EVALUATORS = {
    "reference": lambda *args: harness.evaluate(*args)[0],
    "onnxruntime": on_onnxruntime.evaluate,
}
TYPES = ["ScatterElements", "ScatterND"]


def scattered(type, data, indices, updates, reduction, fed):
    """Y, and the gradients of sum(Y weight) for weights 1, 2, ..; by name of evaluator."""
    program = Program()
    block = program.global_block()
    feeds = {"x": np.array(data, "f4"), "u": np.array(updates, "f4")}
    x, u = (block.create_var(name, v.shape, "float32") for name, v in feeds.items())
    given = np.array(indices if type == "ScatterElements" else [[k] for k in indices])
    if fed:
        feeds["where"] = given
    where = block.create_var("where", given.shape, "int64") if fed else given
    g = program.recorder()
    y = g.emit(type, x, where, u, reduction=reduction)
    weights = g.const(np.arange(1.0, len(data) + 1).astype("f4"))
    fetch = [y, *gradients([y], [x, u], [weights])]
    return {name: [v.tolist() for v in run(program, fetch, feeds)]
            for name, run in EVALUATORS.items()}  # fmt: skip


@pytest.mark.parametrize("fed", [False, True])
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(
    ("reduction", "data", "indices", "updates", "expected"),
    [
        # The last update stays, on both evaluators, and has the gradient.
        ("none", [9, 9, 9], [1, -2, 0], [4, 5, 6], [[6, 5, 9], [0, 0, 3], [0, 2, 1]]),
        ("add", [9, 9, 9], [1, -2, 0], [4, 5, 6], [[15, 18, 9], [1, 2, 3], [2, 2, 1]]),
        ("mul", [9, 2, 9], [1, -2, 0], [0, 5, 6], [[54, 0, 9], [6, 0, 3], [20, 0, 9]]),
        ("mul", [9, 2, 9], [1, -2, 1], [0, 0, 6], [[9, 0, 9], [1, 0, 3], [0, 0, 0]]),
        ("max", [9, 2, 9], [1, -2, 0], [4, 4, 9], [[9, 4, 9], [0.5, 0, 3], [1, 1, 0.5]]),
        ("min", [9, 2, 9], [1, -2, 0], [4, 1, 9], [[9, 1, 9], [0.5, 0, 3], [0, 2, 0.5]]),
    ],
)
def test_shared_indices(type, reduction, data, indices, updates, expected, fed):
    for found in scattered(type, data, indices, updates, reduction, fed).values():
        assert found == expected


@pytest.mark.parametrize("type", TYPES)
def test_second_derivative_beside_a_zero(type):
    """Y = x u0 u1 with u0 = 0: d(dY/dx)/du0 = u1, d(dY/du1)/du0 = x."""
    program = Program()
    block = program.global_block()
    x, u = block.create_var("x", [1], "float64"), block.create_var("u", [2], "float64")
    where = np.array([0, 0] if type == "ScatterElements" else [[0], [0]])
    g = program.recorder()
    dx, du = gradients([g.emit(type, x, where, u, reduction="mul")], [x, u])
    assert dx is not None
    second = [gradients([part], [u])[0] for part in (dx, g.Gather(du, 1))]
    feeds = {"x": np.array([3.0]), "u": np.array([0.0, 5.0])}
    assert [v.tolist() for v in harness.evaluate(program, second, feeds)[0]] == [[5, 0], [3, 0]]
