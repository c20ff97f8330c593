"""Random nests of control flow: gradients, twice, and every way to copy, print and write them."""

from random import Random

import numpy as np
import onnx
import pytest

from graphopt.ir.edit import control
from graphopt.ir.model.program import Program
from graphopt.ir.text.parse import parse
from graphopt.ir.text.verify import verify
from graphopt.onnxio.read import read
from graphopt.onnxio.source import open_model
from graphopt.passes.gradients.backward import gradients
from graphopt.passes.select.prune import Prune
from tests.helpers import lowered
from tests.ops import on_onnxruntime
from tests.passes.random_programs import RandomProgram

STEP = 1e-5


def close(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def live(variables):
    return [v for v in variables if v is not None]


def directional(made, target, direction):
    """The central difference of a target along a direction."""
    ends = []
    for sign in (1, -1):
        moved = {k: made.feeds[k] + sign * STEP * d for k, d in direction.items()}
        ends += on_onnxruntime.evaluate(made.program, [target], made.feeds | moved)
    return float(ends[0] - ends[1]) / (2 * STEP)


def check(made, target, rng):
    """The gradients of a target, checked."""
    grads = gradients([target], made.wrt)
    values = on_onnxruntime.evaluate(made.program, live(grads), made.feeds)
    direction = {v.name: rng.normal(size=made.feeds[v.name].shape) for v in made.wrt}
    reached = [v for v, d in zip(made.wrt, grads, strict=True) if d is not None]
    actual = 0.0
    for v, value in zip(reached, values, strict=True):
        assert value.shape == made.feeds[v.name].shape
        actual += float((direction[v.name] * value).sum())
    assert actual == pytest.approx(directional(made, target, direction), rel=2e-6, abs=2e-6)
    return live(grads)


@pytest.mark.parametrize("seed", range(15))
def test_first_and_second_derivatives(seed):
    made, rng = RandomProgram(Random(seed)), np.random.default_rng(0)
    before = on_onnxruntime.evaluate(made.program, [made.target], made.feeds)
    grads = check(made, made.target, rng)
    close(on_onnxruntime.evaluate(made.program, [made.target], made.feeds), before)
    g = made.program.recorder()
    check(made, g.Sum(*[g.ReduceSum(g.Sin(d), keepdims=0) for d in grads]), rng)


@pytest.mark.parametrize("seed", range(15))
def test_copies_print_and_run_alike(seed):
    made = RandomProgram(Random(seed))
    fetch = [made.target, *live(gradients([made.target], made.wrt))]
    values = on_onnxruntime.evaluate(made.program, fetch, made.feeds)
    verify(made.program)
    text = made.program.text(where=False)
    for copy in (parse(text), made.program.clone()):
        verify(copy)
        assert copy.text(where=False) == text
    pruned = Prune(fetch=tuple(v.name for v in fetch)).run(made.program)
    verify(pruned)
    kept = pruned.global_block().vars
    feeds = {k: v for k, v in made.feeds.items() if k in kept}
    close(on_onnxruntime.evaluate(pruned, [kept[v.name] for v in fetch], feeds), values)


@pytest.mark.parametrize("seed", range(15))
def test_written_and_read_back(seed):
    made = RandomProgram(Random(seed))
    block = made.program.global_block()
    model = lowered(made.program, [block.vars[k] for k in made.feeds], [made.target]).model
    onnx.checker.check_model(model, full_check=True)
    back = read(open_model(model))
    verify(back.program)
    wrt = [back.program.global_block().vars[v.name] for v in made.wrt]
    found = [*back.fetch_vars, *gradients(back.fetch_vars, wrt)]
    expected = [made.target, *gradients([made.target], made.wrt)]
    assert [v is None for v in found] == [v is None for v in expected]
    feeds = {**made.feeds, **back.values}  # constants of the file are weights
    close(
        on_onnxruntime.evaluate(back.program, live(found), feeds),
        on_onnxruntime.evaluate(made.program, live(expected), made.feeds),
    )


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("shape", [[3], [None]])
def test_branches_of_different_lengths(flag, shape):
    """What reaches the If's result has another length in each branch."""
    program = Program()
    x = program.global_block().create_var("x", shape, "float64")
    condition = program.global_block().create_var("flag", [], "bool")
    x.is_data = condition.is_data = True
    g = program.recorder()
    (y,) = control.cond(
        g, condition, lambda g: [g.Add(x, 1.0)], lambda g: [g.Concat(g.Sin(x), x, axis=0)]
    )
    grads = gradients([g.ReduceSum(g.Mul(y, y), keepdims=0)], [x])
    feeds = {"x": np.array([0.3, 0.5, 0.7]), "flag": np.array(flag)}
    (found,) = on_onnxruntime.evaluate(program, grads, feeds)
    v = feeds["x"]
    expected = 2 * (v + 1) if flag else 2 * (np.sin(v) * np.cos(v) + v)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
