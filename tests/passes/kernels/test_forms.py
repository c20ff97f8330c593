"""Each form alone: what it makes of a small Program, and that both runtimes see no difference."""

from random import Random

import numpy as np
import pytest

import graphopt as go
from graphopt.ir.text.parse import parse
from graphopt.passes.kernels.forms import FEW, FUSED_FORMS, Fuse
from graphopt.passes.select.prune import Prune, assigns_state
from graphopt.runtime.front.executor import Executor
from tests.passes.both_runtimes import (
    RUNTIMES,
    Runner,
    agree,
    as_step,
    lines,
    rewritten,
    sample_values,
)
from tests.passes.random_programs import RandomProgram

DECLARED = """
feed x : f32[2, 3, 4]
feed m : f32[5, 3]
feed d : f64[5, 3]
feed i : i64[5, 3]
feed n : f32[N, 3]
feed k : i64[5]
feed k32 : i32[5]
feed wt : f32[3]
feed p : f32[2, 1, 4]
feed q : f32[2, 2, 4]
feed r : f32[2, 3, 5]
feed u : f32[2, 4, 3]
feed w4 : f32[4]
feed x64 : f64[2, 3, 4]
feed r64 : f64[2, 3, 5]
feed w23 : f32[2, 3, 1]
"""
LOSS = "SoftmaxCrossEntropyLoss(m, k"
# form: (ops, what they become)
CASES = {
    "sum_of_rows": (
        "y : f32[3] = ReduceSum(m, [0], keepdims=0)",
        "y : f32[3] = MatMul([1.0, 1.0, 1.0, 1.0, 1.0], m)",
    ),
    "sum_of_rows, kept": (
        "y : f32[1, 3] = ReduceSum(m, [-2])",
        "matmul_0 : f32[3] = MatMul([1.0, 1.0, 1.0, 1.0, 1.0], m)\n"
        "y : f32[1, 3] = Reshape(matmul_0, [1, 3])",
    ),
    "sum_of_rows of two dims": (
        "y : f32[4] = ReduceSum(x, [1, 0], keepdims=0)",
        "reshape_0 : f32[6, 4] = Reshape(x, [6, 4])\n"
        "y : f32[4] = MatMul([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], reshape_0)",
    ),
    "sum_of_rows of matrices": (
        "y : f32[3, 4] = ReduceSum(x, [0], keepdims=0)",
        "reshape_0 : f32[2, 12] = Reshape(x, [2, 12])\n"
        "matmul_0 : f32[12] = MatMul([1.0, 1.0], reshape_0)\n"
        "y : f32[3, 4] = Reshape(matmul_0, [3, 4])",
    ),
    "sum_of_rows in double precision": (
        "y : f64[3] = ReduceSum(d, [0], keepdims=0)",
        "y : f64[3] = MatMul(f64([1.0, 1.0, 1.0, 1.0, 1.0]), d)",
    ),
    "sum_of_rows that are weighted": (
        "t : f32[2, 3, 4] = Mul(w23, x)\ny : f32[4] = ReduceSum(t, [0, 1], keepdims=0)",
        "reshape_0 : f32[6] = Reshape(w23, [6])\n"
        "reshape_1 : f32[6, 4] = Reshape(x, [6, 4])\n"
        "y : f32[4] = MatMul(reshape_0, reshape_1)",
    ),
    "mean_of_product": (
        "t : f32[2, 3, 4] = Mul(x, w4)\ny : f32[2, 3, 1] = ReduceMean(t, [-1])",
        "mul_0 : f32[4] = Mul(w4, 0.25)\n"
        "reshape_0 : f32[4, 1] = Reshape(mul_0, [-1, 1])\n"
        "y : f32[2, 3, 1] = MatMul(x, reshape_0)",
    ),
    "half_of_erf": (
        "e : f32[2, 3, 4] = Erf(x)\nh : f32[2, 3, 4] = Mul(0.5, e)\ny : f32[2, 3, 4] = Add(h, 0.5)",
        "e : f32[2, 3, 4] = Erf(x)\ny : f32[2, 3, 4] = HardSigmoid(e, alpha=0.5)",
    ),
    "parts_side_by_side": (
        "a : f32[2, 3, 4] = Pad(p, [2, 0], _, [1])\n"
        "b : f32[2, 3, 4] = Pad(q, [0, 0, 0, 0, 1, 0])\n"
        "y : f32[2, 3, 4] = Add(a, b)",
        "y : f32[2, 3, 4] = Concat(q, p, axis=1)",
    ),
    "parts_side_by_side of many": (
        "a : f32[2, 4, 4] = Pad(p, [1, 2], 0.0, [1])\n"
        "b : f32[2, 4, 4] = Pad(q, [2, 0], 0.0, [-2])\n"
        "c : f32[2, 4, 4] = Pad(p, [0, 3], 0.0, [1])\n"
        "y : f32[2, 4, 4] = Sum(a, b, c)",
        "y : f32[2, 4, 4] = Concat(p, p, q, axis=1)",
    ),
    "cross_entropy_of_rows": (
        f'y : f32[5] = {LOSS}, reduction="none")',
        "logsoftmax_0 : f32[5, 3] = LogSoftmax(m)\n"
        "unsqueeze_0 : i64[5, 1] = Unsqueeze(k, [1])\n"
        "gatherelements_0 : f32[5, 1] = GatherElements(logsoftmax_0, unsqueeze_0, axis=1)\n"
        "neg_0 : f32[5, 1] = Neg(gatherelements_0)\n"
        "y : f32[5] = Squeeze(neg_0, [1])",
    ),
    "cross_entropy_of_rows, its mean": (
        f"y : f32[], z : f32[5, 3] = {LOSS})\ne : f32[5, 3] = Exp(z)",
        "logsoftmax_0 : f32[5, 3] = LogSoftmax(m)\n"
        "unsqueeze_0 : i64[5, 1] = Unsqueeze(k, [1])\n"
        "gatherelements_0 : f32[5, 1] = GatherElements(logsoftmax_0, unsqueeze_0, axis=1)\n"
        "neg_0 : f32[5, 1] = Neg(gatherelements_0)\n"
        "y : f32[] = ReduceMean(neg_0, keepdims=0)\n"
        "e : f32[5, 3] = Exp(logsoftmax_0)",
    ),
    "cross_entropy_of_rows, some ignored": (
        'y : f32[5] = SoftmaxCrossEntropyLoss(m, k32, ignore_index=2, reduction="none")',
        "logsoftmax_0 : f32[5, 3] = LogSoftmax(m)\n"
        "unsqueeze_0 : i32[5, 1] = Unsqueeze(k32, [1])\n"
        "equal_0 : bool[5, 1] = Equal(unsqueeze_0, i32(2))\n"
        "where_0 : i32[5, 1] = Where(equal_0, i32(0), unsqueeze_0)\n"
        "gatherelements_0 : f32[5, 1] = GatherElements(logsoftmax_0, where_0, axis=1)\n"
        "neg_0 : f32[5, 1] = Neg(gatherelements_0)\n"
        "where_1 : f32[5, 1] = Where(equal_0, 0.0, neg_0)\n"
        "y : f32[5] = Squeeze(where_1, [1])",
    ),
    "product_of_turned": (
        "t : f32[2, 4, 3] = Transpose(x, perm=[0, 2, 1])\n"
        "a : f32[2, 4, 5] = MatMul(t, r)\n"
        "y : f32[2, 5, 4] = Transpose(a, perm=[0, 2, 1])",
        "y : f32[2, 5, 4] = com.microsoft::FusedMatMul(r, x, transA=1)",
    ),
    "product_of_turned, moved": (
        "t : f32[2, 4, 3] = Transpose(x, perm=[0, 2, 1])\n"
        "a : f32[2, 4, 5] = MatMul(t, r)\n"
        "y : f32[5, 2, 4] = Transpose(a, perm=[2, 0, 1])",
        "matmul_0 : f32[2, 5, 4] = com.microsoft::FusedMatMul(r, x, transA=1)\n"
        "y : f32[5, 2, 4] = Transpose(matmul_0, perm=[1, 0, 2])",
    ),
    "product_of_turned, but not where rows stay rows": (
        "t : f32[2, 4, 3] = Transpose(x, perm=[0, 2, 1])\na : f32[2, 4, 5] = MatMul(t, r)\n"
        "y : f32[4, 2, 5] = Transpose(a, perm=[1, 0, 2])",
        "a : f32[2, 4, 5] = com.microsoft::FusedMatMul(x, r, transA=1)\n"
        "y : f32[4, 2, 5] = Transpose(a, perm=[1, 0, 2])",
    ),
}
UNTOUCHED = {
    "the last axis": "y : f32[5] = ReduceSum(m, [1], keepdims=0)",
    "an axis between": "y : f32[2, 4] = ReduceSum(x, [1], keepdims=0)",
    "all axes": "y : f32[] = ReduceSum(m, [0, 1], keepdims=0)",
    "all axes, not given": "y : f32[] = ReduceSum(m, keepdims=0)",
    "integers": "y : i64[3] = ReduceSum(i, [0], keepdims=0)",
    "rows that are not counted": "y : f32[3] = ReduceSum(n, [0], keepdims=0)",
    "a short sum": "y : f32[2, 3, 4] = Sum(x, x, p)",
    "parts that overlap": (
        "a : f32[2, 3, 4] = Pad(q, [1, 0], _, [1])\nb : f32[2, 3, 4] = Pad(q, [0, 1], _, [1])\n"
        "y : f32[2, 3, 4] = Add(a, b)"
    ),
    "parts with a gap": (
        "a : f32[2, 4, 4] = Pad(p, [3, 0], _, [1])\nb : f32[2, 4, 4] = Pad(q, [0, 2], _, [1])\n"
        "y : f32[2, 4, 4] = Add(a, b)"
    ),
    "parts among ones": (
        "a : f32[2, 3, 4] = Pad(p, [2, 0], 1.0, [1])\nb : f32[2, 3, 4] = Pad(q, [0, 1], _, [1])\n"
        "y : f32[2, 3, 4] = Add(a, b)"
    ),
    "parts of two axes": (
        "a : f32[2, 2, 5] = Pad(p, [1, 1, 0, 0], _, [1, 2])\n"
        "b : f32[2, 2, 5] = Pad(q, [0, 1], _, [2])\ny : f32[2, 2, 5] = Add(a, b)"
    ),
    "copies of edges": (
        'a : f32[2, 3, 4] = Pad(p, [2, 0], _, [1], mode="edge")\n'
        "b : f32[2, 3, 4] = Pad(q, [0, 1], _, [1])\ny : f32[2, 3, 4] = Add(a, b)"
    ),
    "a part that is read twice": (
        "a : f32[2, 3, 4] = Pad(p, [2, 0], _, [1])\nb : f32[2, 3, 4] = Pad(q, [0, 1], _, [1])\n"
        "y : f32[2, 3, 4] = Add(a, b)\nz : f32[2, 3, 4] = Exp(a)"
    ),
    "a product of what is not turned": (
        "a : f32[2, 4, 5] = MatMul(u, r)\ny : f32[2, 5, 4] = Transpose(a, perm=[0, 2, 1])"
    ),
    "a product that is read twice": (
        "t : f64[2, 4, 3] = Transpose(x64, perm=[0, 2, 1])\na : f64[2, 4, 5] = MatMul(t, r64)\n"
        "y : f64[2, 5, 4] = Transpose(a, perm=[0, 2, 1])\nz : f64[2, 4, 5] = Exp(a)"
    ),
    "weights of parts of rows": (
        "t : f32[2, 3, 4] = Mul(x, p)\ny : f32[2, 1, 1] = ReduceMean(t, [1, 2])"
    ),
    "a mean of a product that is read twice": (
        "t : f32[2, 3, 4] = Mul(x, w4)\ny : f32[2, 3, 1] = ReduceMean(t, [2])\n"
        "z : f32[2, 3, 4] = Exp(t)"
    ),
    "a mean that drops its dim": (
        "t : f32[2, 3, 4] = Mul(x, w4)\ny : f32[2, 3] = ReduceMean(t, [2], keepdims=0)"
    ),
    "another half": (
        "a : f32[2, 3, 4] = Erf(x)\nh : f32[2, 3, 4] = Mul(0.5, a)\ny : f32[2, 3, 4] = Add(h, 0.25)"
    ),
    "weights": 'y : f32[5] = SoftmaxCrossEntropyLoss(m, k, wt, reduction="none")',
    "a mean over those that count": f"y : f32[] = {LOSS}, ignore_index=1)",
}


def given(ops, names="ye"):
    """The Step of these ops, which gives whichever variables of these names there are."""
    program = parse(DECLARED + ops)
    return as_step(program, *(v for v in names if program.global_block().has_var(v)))


@pytest.mark.parametrize("name", CASES)
def test_form(name):
    ops, expected = CASES[name]
    assert rewritten(Fuse(), given(ops)) == expected.split("\n")


@pytest.mark.parametrize("name", UNTOUCHED)
def test_untouched(name):
    step = given(UNTOUCHED[name], "yz")
    assert rewritten(Fuse(), step) == lines(step)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_the_same_values(name, runtime, rng):
    step = given(CASES[name][0])
    values = sample_values(step, rng)
    found = Runner(Fuse().run(step), [], values, runtime).step()
    agree(found, Runner(step, [], values, runtime).step())


def test_every_form_has_a_case():
    forms = {form.__name__ for forms in FUSED_FORMS.values() for form in forms}
    assert forms - {"sum_by_twos"} == {name.partition(",")[0].split()[0] for name in CASES}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_long_sum_is_taken_by_twos(runtime, rng):
    n = FEW // 2
    text = f"feed a : f32[2, {n}]\nfeed b : f32[3, 2, {n}]\nfeed c : f32[{n}]\n"
    program = parse(text + f"y : f32[3, 2, {n}] = Sum(a, b, c)")
    fused = Fuse().run(as_step(program, "y"))
    assert lines(fused) == [
        f"add_0 : f32[3, 2, {n}] = Add(a, b)",
        f"y : f32[3, 2, {n}] = Add(add_0, c)",
    ]
    values = sample_values(program, rng)
    agree(*(Runner(p, ["y"], values, runtime).step() for p in (fused, program)))


def test_log_probabilities_that_are_asked_for_stay():
    step = given(f"y : f32[], z : f32[5, 3] = {LOSS})", "yz")
    assert rewritten(Fuse(), step) == lines(step)


def test_infinities_are_summed_as_they_are():
    program = parse("feed m : f32[3, 4]\ny : f32[4] = ReduceSum(m, [0], keepdims=0)")
    m = np.ones((3, 4), np.float32)
    m[0, 0] = m[1, 2] = np.inf
    m[2, 2] = -np.inf
    values = {"m": m}
    [found] = Runner(Fuse().run(as_step(program, "y")), ["y"], values, "onnxruntime").step()
    np.testing.assert_array_equal(found, [np.inf, 3.0, np.nan, 3.0])


def test_a_label_that_is_no_class_is_still_an_error():
    main = go.static.Program()
    with go.static.program_guard(main):
        x, y = go.static.data("x", [2, 3]), go.static.data("y", [2], "int64")
        loss = go.nn.functional.cross_entropy(x, y)
    fused = Fuse().run(as_step(main, loss.name))
    feed = {"x": np.zeros((2, 3), "f4"), "y": np.array([0, -1])}
    with pytest.raises(go.errors.StepError):
        Executor().run(fused, feed=feed, fetch_list=[loss.name])


def training_step(rng):
    """A step of a small transformer, pruned: with its feeds and its first state."""
    main, startup = go.static.Program(), go.static.Program()
    startup.random_seed = 3
    with go.static.program_guard(main, startup):
        x, y = go.static.data("x", [3, 5], "int64"), go.static.data("y", [3, 5], "int64")
        h = go.nn.Embedding(7, 8)(x)
        qkv = go.reshape(go.nn.Linear(8, 24)(h), [3, 5, 3, 2, 4])
        q, k, v = (qkv[:, :, part] for part in range(3))
        h = h + go.reshape(go.nn.functional.scaled_dot_product_attention(q, k, v), [3, 5, 8])
        loss = go.nn.functional.cross_entropy(go.nn.Linear(8, 7)(go.nn.LayerNorm(8)(h)), y)
        pairs = go.optimizer.ASGD(0.05, batch_num=3).minimize(loss)[1]
    fetch, feeds = [loss.name, pairs[0][1].name], {"x": (3, 5), "y": (3, 5)}
    ops = main.global_block().ops
    roots = tuple(k for k, op in enumerate(ops) if assigns_state(op))
    step = Prune(tuple(fetch), tuple(feeds), roots).run(main)
    with go.static.scope_guard(go.static.Scope()):
        Executor().run(startup)
        values = startup.state_dict()
    return step, {name: rng.integers(0, 7, shape) for name, shape in feeds.items()}, values


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_training_steps(runtime, rng):
    step, feeds, values = training_step(rng)
    fused = Fuse().run(step)
    before, after = ({op.type for op in s.global_block().ops} for s in (step, fused))
    assert before - after == {"Pad", "SoftmaxCrossEntropyLoss", "Sum"}
    runs = [Runner(s, [], values, runtime) for s in (fused, step)]
    for _ in range(3):
        a, b = (r.step(feeds) for r in runs)
        agree(a, b, rtol=1e-5)
    found, expected = (r.state() for r in runs)
    assert set(found) == set(expected)
    agree([found[name] for name in expected], expected.values(), rtol=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_random_control_flow(seed):
    made = RandomProgram(Random(seed))
    (grad,) = go.static.gradients([made.target], [made.x])
    assert grad is not None
    step = Prune((made.target.name, grad.name), tuple(made.feeds)).run(made.program)
    runs = [Runner(s, [], made.feeds, "onnxruntime").step() for s in (Fuse().run(step), step)]
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_no_number_stays_none_in_half_of_erf():
    ops = (
        "e : f32[2, 3, 4] = Erf(x)\nh : f32[2, 3, 4] = Mul(0.5, e)\ny : f32[2, 3, 4] = Add(h, 0.5)"
    )
    fused = Fuse().run(as_step(parse(DECLARED + ops), "y"))
    x = np.zeros((2, 3, 4), "f4")
    x[1, 2] = np.nan
    [found] = Runner(fused, ["y"], {"x": x}, "onnxruntime").step()
    assert np.isnan(found[1, 2]).all()
    assert (found[0] == 0.5).all()
