"""Gradients of If, Loop and Scan against central differences, on both evaluators, and twice."""

import numpy as np
import pytest

from graphopt.errors import GradientError
from graphopt.ir.edit import control
from graphopt.ir.model.program import Program
from graphopt.ir.text.parse import parse
from graphopt.ir.text.verify import verify
from graphopt.passes.gradients.backward import gradients
from tests.ops import harness, on_onnxruntime

STEP = 1e-5


class Recorded:
    """A Program with fed x [3, 4], w [4] and flag, and a scalar target."""

    def __init__(self, rng, symbolic):
        self.program = Program()
        block = self.program.global_block()
        self.x = block.create_var("x", [None if symbolic else 3, 4], "float64")
        self.w = block.create_var("w", [4], "float64")
        self.flag = block.create_var("flag", [], "bool")
        for v in (self.x, self.w, self.flag):
            v.is_data = True
        self.feeds = {
            "x": rng.uniform(0.3, 1.2, (3, 4)),
            "w": rng.uniform(0.3, 1.2, 4),
            "flag": np.array(True),
        }
        self.g = self.program.recorder()

    def values(self, fetch, feeds):
        verify(self.program)
        text = self.program.text(where=False)
        assert parse(text).text(where=False) == text
        used = {k: v for k, v in feeds.items() if k != "flag" or self.reads_flag(fetch)}
        first = on_onnxruntime.evaluate(self.program, fetch, used)
        if not self.only_onnxruntime:
            second, _ = harness.evaluate(self.program, fetch, feeds)
            for a, b in zip(first, second, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
        return first

    only_onnxruntime = False

    def reads_flag(self, fetch):
        return True

    def check(self, target, rng, times=2):
        wrt = [self.x, self.w]
        for _ in range(times):
            grads = gradients([target], wrt)
            live = [(v, d) for v, d in zip(wrt, grads, strict=True) if d is not None]
            assert live
            direction = {v.name: rng.normal(size=self.feeds[v.name].shape) for v in wrt}
            above, below = (
                self.values([target], self.moved(direction, sign * STEP))[0] for sign in (1, -1)
            )
            values = self.values([d for _, d in live], self.feeds)
            actual = sum(
                float((direction[v.name] * value).sum())
                for (v, _), value in zip(live, values, strict=True)
            )
            for (v, _), value in zip(live, values, strict=True):
                assert value.shape == self.feeds[v.name].shape
            assert actual == pytest.approx(float(above - below) / (2 * STEP), rel=1e-6, abs=1e-7)
            g = self.g
            target = g.Sum(*[g.ReduceSum(g.Mul(d, d), keepdims=0) for _, d in live])

    def moved(self, direction, by):
        return {k: v + by * direction[k] if k in direction else v for k, v in self.feeds.items()}


@pytest.fixture(params=[False, True], ids=["static", "symbolic"])
def made(request, rng):
    return Recorded(rng, request.param)


def total(g, *parts):
    sums = [g.ReduceSum(p, keepdims=0) for p in parts]
    return sums[0] if len(sums) == 1 else g.Sum(*sums)


@pytest.mark.parametrize("flag", [True, False])
def test_if(made, rng, flag):
    g, x, w = made.g, made.x, made.w
    made.feeds["flag"] = np.array(flag)
    found = control.cond(
        g,
        made.flag,
        lambda g: [g.Mul(x, w), g.Exp(w)],
        lambda g: [g.Sin(x), w],
    )
    made.check(total(g, g.Mul(found[0], found[0]), found[1]), rng)


def test_nested_if_reads_what_an_outer_branch_makes(made, rng):
    g, x, w = made.g, made.x, made.w

    def then(g):
        y = g.Mul(x, w)
        return control.cond(g, made.flag, lambda g: [g.Mul(y, y)], lambda g: [x])

    (found,) = control.cond(g, made.flag, then, lambda g: [x])
    made.check(total(g, found), rng)


def test_loop_carries_captures_and_stacks(made, rng):
    g, x, w = made.g, made.x, made.w

    def body(g, i, held):
        (y,) = held
        scaled = g.Mul(y, g.Add(w, g.cast(i, y.dtype)))
        return [g.Tanh(scaled)], [g.ReduceSum(g.Mul(y, w), [0, 1], keepdims=0)]

    y, stack = control.loop(g, 3, [x], body)
    weights = g.const(rng.normal(size=(3, 1)))
    made.only_onnxruntime = True  # the reference stacks scalars to [t, 1]
    made.check(total(g, y, g.Mul(g.Reshape(stack, [-1, 1]), weights)), rng)


def test_loop_on_both_evaluators(made, rng):
    g, x, w = made.g, made.x, made.w
    y, u = control.loop(
        g, 3, [x, w], lambda g, i, v: ([g.Mul(v[0], v[1]), g.Add(v[1], g.Sin(w))], [])
    )
    made.check(total(g, y, u), rng)


def test_loop_that_never_runs(made, rng):
    g, x, w = made.g, made.x, made.w
    made.only_onnxruntime = True  # the reference cannot stack nothing
    (y,) = control.loop(g, 0, [x], lambda g, i, v: ([g.Mul(v[0], w)], []))
    made.check(total(g, g.Mul(y, x)), rng)


def test_data_dependent_trips(made, rng):
    """while sum(y) < 40: y = y (1 + w)."""
    g, x, w = made.g, made.x, made.w
    formals = [("i", control.I64), ("going", control.BOOL), ("y", x.tensor_type)]

    def body(g, i, going, y):
        grown = g.Mul(y, g.Add(w, 1.0))
        return [g.Less(g.ReduceSum(grown, keepdims=0), 40.0), grown]

    block = control.block_of(g, formals, body)
    y = g.emit("Loop", None, True, x, body=block)
    made.check(total(g, g.Mul(y, y)), rng)


def test_shapes_that_change_between_iterations(made, rng):
    g, w = made.g, made.w
    start = g.Reshape(w, [1, 4])
    start.tensor_type = type(start.tensor_type)(start.dtype, (made.program.fresh_symbol(), 4))
    (y,) = control.loop(
        g, 3, [start], lambda g, i, v: ([g.Concat(v[0], g.Mul(v[0], w), axis=0)], [])
    )
    made.check(total(g, g.Mul(y, y)), rng)


def test_nested_loops(made, rng):
    g, x, w = made.g, made.x, made.w

    def outer(g, i, held):
        inner = control.loop(g, 2, held, lambda g, j, v: ([g.Sin(g.Mul(v[0], w))], []))
        return inner, []

    (y,) = control.loop(g, 2, [x], outer)
    made.check(total(g, y), rng)


def test_carried_sequence(made, rng):
    """s grows by x w^k; y = the sum of squares of all elements."""
    g, x, w = made.g, made.x, made.w
    empty = g.SequenceConstruct(x)

    def body(g, i, held):
        return [g.SequenceInsert(held[0], g.Mul(g.SequenceAt(held[0], -1), w))], []

    (s,) = control.loop(g, 3, [empty], body)
    y = g.ConcatFromSequence(s, axis=0)
    made.only_onnxruntime = True  # the reference cannot stack the results of no iterations
    made.check(total(g, g.Mul(y, y)), rng)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_scan(made, rng, backwards, axis):
    g, x = made.g, made.x
    state = g.ReduceSum(x, [axis], keepdims=0)
    formals = [("s", state.tensor_type), ("x", control.slice_type(g, x, axis))]
    block = control.block_of(
        g, formals, lambda g, s, x: [g.Tanh(g.Add(s, x)), g.Mul(s, x), g.Sin(x)]
    )
    directions = {"scan_input_directions": [int(backwards)]}
    made.only_onnxruntime = backwards or axis == 1
    last, p, q = g.emit(
        "Scan", state, x, outputs=3, body=block, num_scan_inputs=1, scan_input_axes=[axis],
        scan_output_axes=[axis, 0], scan_output_directions=[int(backwards), 0], **directions,
    )  # fmt: skip
    made.check(total(g, last, g.Mul(p, p), g.Mul(q, q)), rng)


def test_scan_captures(made, rng):
    g, x, w = made.g, made.x, made.w
    last, stack = control.scan(
        g, [w], [x], lambda g, s, x: ([g.Mul(g.Mul(s[0], x[0]), w)], [g.Mul(s[0], x[0])])
    )
    made.check(total(g, last, g.Mul(stack, stack)), rng)


def test_only_what_the_gradient_needs_is_kept(made):
    g, x, w = made.g, made.x, made.w
    (y,) = control.loop(g, 3, [x], lambda g, i, v: ([g.Add(v[0], w)], []))
    loop = made.program.global_block().ops[-1]
    gradients([g.ReduceSum(y, keepdims=0)], [x, w])
    stacks = [v for v in loop.outputs[1:] if v is not None]
    assert len(stacks) == 1  # the number of iterations: no value of y matters
    assert stacks[0].dtype == np.int64


def test_random_ops_in_a_body_are_refused_and_nothing_changes(made):
    g, x = made.g, made.x
    (y,) = control.cond(g, made.flag, lambda g: [g.Dropout(x, 0.5, True, seed=3)], lambda g: [x])
    before = made.program.text()
    with pytest.raises(GradientError, match="Dropout inside a body"):
        gradients([g.ReduceSum(y, keepdims=0)], [x])
    assert made.program.text().startswith(before.split("\n", 1)[0][:10])
