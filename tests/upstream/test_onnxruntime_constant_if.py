"""onnxruntime inlines an If of a constant condition wrongly where it is inside another If.

A sum over axes that are found at run time then sees a wrong shape, and the run fails. Without its
graph optimizations the model runs.
"""

import numpy as np
import pytest

from graphopt.ir.edit import control
from graphopt.ir.model.program import Program
from tests.ops import on_onnxruntime


@pytest.mark.xfail(strict=True, reason="the inlined branch is lost")
def test_a_constant_if_inside_an_if():
    program = Program()
    block = program.global_block()
    x = block.create_var("x", [3], "float64")
    flag = block.create_var("flag", [], "bool")
    x.is_data = flag.is_data = True
    g = program.recorder()
    s = g.Sin(x)

    def orelse(g):
        (y,) = control.cond(g, g.Less(g.const(1), 2), lambda g: [s], lambda g: [s])
        differs = g.NonZero(g.Not(g.Equal(g.Shape(s), g.Shape(y))))
        return [g.ReduceSum(y, g.Reshape(differs, [-1]), noop_with_empty_axes=1)]

    (y,) = control.cond(g, flag, lambda g: [g.Cos(x)], orelse)
    feeds = {"x": np.ones(3), "flag": np.array(False)}
    (found,) = on_onnxruntime.evaluate(program, [y], feeds)
    np.testing.assert_allclose(found, np.sin(np.ones(3)))
