"""The gradient of a MaxPool by products equals the one by positions, ties and infinities too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.model.program import Program
from graphopt.ops.registry.formulations import AS_IS, FORMULATIONS, MEASURED
from graphopt.passes.engine.dead import DeadCode
from graphopt.passes.gradients.backward import gradients
from graphopt.passes.kernels.formulate import Formulate, chosen
from graphopt.passes.select.functional import functional
from tests.ops.kernels.test_blocked_conv import run

TYPE = "MaxPoolGradient"


def pooled(shape, kernel):
    """A Program with a MaxPool of X, and dX for a fed dY."""
    program = Program()
    block = program.global_block()
    X = block.create_var("X", shape)
    g = program.recorder()
    Y = g.MaxPool(X, kernel_shape=kernel, strides=kernel)
    dY = block.create_var("dY", Y.shape)
    X.is_data = dY.is_data = True
    (dX,) = gradients([Y], [X], [dY])
    return program, dX


def formulated(program, result):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AS_IS, TYPE, lambda *_: float("inf"))
        new = Formulate().run(functional(program, fetch=[result]))
    return DeadCode().run(new)


@given(
    rows=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    cols=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    levels=st.integers(1, 4),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_portable_one(rows, cols, levels, seed):
    """Few levels make ties."""
    (height, k), (width, j) = rows, cols
    program, dX = pooled([2, 3, height * k, width * j], [k, j])
    if not any(op.type == TYPE for op in program.global_block().ops):
        assert (k, j) == (1, 1)
    rng = np.random.default_rng(seed)
    feeds = {
        "X": rng.integers(0, levels, (2, 3, height * k, width * j)).astype("f4"),
        "dY": rng.normal(size=(2, 3, height, width)).astype("f4"),
    }
    feeds["X"].ravel()[rng.integers(0, feeds["X"].size, 2)] = [np.inf, -np.inf]
    expected = run(Formulate().run(functional(program, fetch=[dX])), feeds)
    np.testing.assert_array_equal(run(formulated(program, dX), feeds), expected)


def test_no_positions_are_asked_for():
    program, dX = pooled([2, 3, 4, 4], [2, 2])
    new = formulated(program, dX)
    (pool,) = [op for op in new.global_block().ops if op.type == "MaxPool"]
    assert len(pool.outputs) == 1
    assert "ScatterND" not in [op.type for op in new.global_block().ops]


def test_windows_that_leave_a_rest_go_by_positions():
    program, dX = pooled([2, 3, 5, 4], [2, 2])
    (op,) = [op for op in program.global_block().ops if op.type == TYPE]
    assert not FORMULATIONS[TYPE][0].fits(op, MEASURED)
    found = chosen(op, MEASURED)
    assert found is not None
    assert found.name == "portable"


def test_costs_choose():
    for width, name in ((28, "by products"), (2048, "portable")):
        program, _ = pooled([8, 8, 28, width], [2, 2])
        (op,) = [op for op in program.global_block().ops if op.type == TYPE]
        found = chosen(op, MEASURED)
        assert found is not None
        assert found.name == name
