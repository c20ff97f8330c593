"""Every op that has a form over all steps gives what it gives step by step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt as go
from graphopt.ir.model.step import Row
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType
from graphopt.passes.steps.batched import BATCHED_FORMS, SMALL
from graphopt.passes.steps.scan import Repeat
from tests.passes.both_runtimes import Runner, as_step

STEPS, TURN = 6, 3
UNARY = [
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh",
    "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf",
    "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh",
    "ThresholdedRelu"
]  # fmt: skip
NUMBERS = ["Add", "Div", "Max", "Mean", "Min", "Mul", "Pow", "Sub", "Sum"]
COMPARED = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]
REDUCED = [
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"
]  # fmt: skip
# x: [2, 3], r: [3], s: [], i: i64[2] differ from step to step; u: [2, 3], v: [3], w: [3, 2] do not
MOVED = [
    *(f"{op}(x)" for op in [*UNARY, *REDUCED]),
    *(f"{op}(x, {b})" for op in [*NUMBERS, *COMPARED] for b in "urs"),
    *(f"{op}(x, v)" for op in NUMBERS),
    *(f"{op}(u, x)" for op in ("Sub", "Div", "Less")),
    *(f"{op}(r, u)" for op in NUMBERS),
    "Sum(s, u, r, x)",
    *(f"{op}(x, [0], keepdims=0)" for op in REDUCED),
    *(f"{op}(x, [-1], keepdims=1)" for op in REDUCED),
    *(f"{op}(x, [1, 0], keepdims=0)" for op in REDUCED),
    "ReduceMean(s)",
    "ReduceSum(s, keepdims=0)",
    *(f"{op}(x, axis={axis})" for op in ("Softmax", "LogSoftmax", "Hardmax") for axis in (0, -1)),
    *(f"{op}(x, axis={k}, keepdims=0)" for op in ("ArgMax", "ArgMin") for k in (0, -1)),
    "Cast(x, to=11)",
    "Clip(x, np.float32(0.2), np.float32(0.7))",
    "Not(Less(x, u))",
    *(f"{op}(Less(x, u), Less(x, r))" for op in ("And", "Or", "Xor")),
    "Where(Less(x, u), x, r)",
    "Where(Less(u, v), u, x)",
    *(f"{op}(i, [3, 5])" for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "Mod")),
    "Reshape(x, [3, 2])",
    "Reshape(x, [-1])",
    "Reshape(s, [1, 1])",
    "Flatten(x, axis=0)",
    "Unsqueeze(x, [0, -1])",
    "Squeeze(Unsqueeze(x, [1]), [1])",
    "Transpose(x)",
    "Transpose(x, perm=[0, 1])",
    "Transpose(Unsqueeze(x, [0]), perm=[2, 0, 1])",
    "Concat(x, Neg(x), axis=0)",
    "Concat(x, Neg(x), axis=-1)",
    "Gather(x, [1, 0], axis=1)",
    "Gather(u, i, axis=0)",
    "GatherElements(x, Unsqueeze(i, [1]), axis=1)",
    "GatherElements(x, Unsqueeze(i, [1]), axis=-1)",
    "Slice(x, [1], [3], [1])",
    "Slice(x, [0, 2], [1, 0], [0, -1], [1, -1])",
    "Slice(x, [0, 1], [2, 2])",
    "OneHot(i, np.int64(3), np.float32([0, 1]), axis=-1)",
    "OneHot(i, np.int64(3), np.float32([0, 1]), axis=0)",
    "MatMul(x, w)",
    "MatMul(r, w)",
    "MatMul(u, Transpose(x))",
    "MatMul(v, Transpose(x))",
    "MatMul(x, Transpose(x))",
    "Gemm(x, w, np.float32([1, 2]), alpha=0.5)",
    "Gemm(x, u, transB=1)",
]
STAYING = [
    "CumSum(x, np.int64(0))",
    "Clip(x, s)",
    "Concat(x, u, axis=0)",
    "Gather(u, i, axis=1)",
    "Gather(x, i, axis=0)",
    "GatherElements(u, Unsqueeze(i, [1]), axis=1)",
    "Slice(x, Gather(i, [0]), [2], [0])",
    "Gemm(u, x, transB=1)",
    "Gemm(x, x, transA=1)",
    "Gemm(x, w, np.float32([[1, 2], [3, 4]]))",
    "MatMul(u, r)",
    "MatMul(x, r)",
    "ReduceMax(s, keepdims=0)",
    "ReduceSum(x, noop_with_empty_axes=1)",
]


class _Names(dict):
    """What an expression's names stand for: variables, and ops recorded on a tape."""

    def __missing__(self, name):
        return getattr(self["tape"], name)


class Model:
    """A Step of one expression, and of a row that is read again a turn later."""

    def __init__(self, expression):
        self.main = go.static.Program()
        block = self.main.global_block()
        draw = np.random.default_rng(0).uniform
        self.values = {}
        with go.static.program_guard(self.main):
            fed = {"x": [2, 3], "r": [3], "s": [], "row": [2], "seen": []}
            known = {n: go.static.data(n, shape) for n, shape in fed.items()}
            known["i"] = go.static.data("i", [2], "int64")
            for name, shape in {"u": [2, 3], "v": [3], "w": [3, 2]}.items():
                known[name] = block.create_var(name, shape, persistable=True)
                self.values[name] = draw(-0.9, 0.9, shape).astype("f4")
            names = _Names(known, tape=Tape(block), np=np)
            self.y = eval(expression, {}, names)
            self.new_row = names["tape"].HardSwish(known["row"])
            names["tape"].Neg(known["seen"])
        self.feed = {n: draw(-0.9, 0.9, (STEPS, *s)).astype("f4") for n, s in fed.items()}
        self.feed["i"] = np.arange(2 * STEPS).reshape(STEPS, 2) % 2
        self.feed["row"][TURN:] = 0

    def run(self, step, feed):
        return Runner(step, [], self.values, "onnxruntime").step(feed)[0]

    def step(self):
        return as_step(self.main, self.y.name)

    def one_by_one(self):
        parts = ({n: a[k] for n, a in self.feed.items()} for k in range(STEPS))
        return np.stack([self.run(self.step(), part) for part in parts])

    def looped(self):
        return Repeat().run(self.step())

    def in_turns(self):
        step = self.step()
        var = step.global_block().var
        table = step.add_state("table", TensorType(np.dtype("f4"), (TURN, 2)))
        count = step.add_state("count", TensorType(np.dtype("i8"), (1,)))
        step.rows = [Row(table, count, var("row"), var(self.new_row.name), var("seen"))]
        return Repeat(turn=TURN).run(step)

    def stacked(self, *dims):
        return {n: a.reshape(*dims, *a.shape[1:]) for n, a in self.feed.items()}


def inner(step):
    """The ops of the innermost Scan."""
    return [op.type for op in step.blocks[-1].ops] if len(step.blocks) > 1 else []


def check(model):
    expected = model.one_by_one()
    found = model.run(model.looped(), model.stacked(STEPS))
    np.testing.assert_allclose(found, expected, 1e-6, 1e-7)
    assert found.dtype == expected.dtype
    feed = model.stacked(-1, TURN) | {"row@ROWS": model.feed["row"][:TURN]}
    turned = model.run(model.in_turns(), feed)
    np.testing.assert_allclose(turned.reshape(expected.shape), expected, 1e-6, 1e-7)


@pytest.mark.parametrize("expression", MOVED)
def test_what_has_a_form_leaves_the_loop(expression):
    model = Model(expression)
    assert inner(model.looped()) in ([], ["HardSwish"])
    assert inner(model.in_turns()) == ["HardSwish"]
    check(model)


@pytest.mark.parametrize("expression", STAYING)
def test_what_has_none_stays(expression):
    model = Model(expression)
    assert expression.split("(")[0] in inner(model.looped())
    check(model)


def test_every_form_is_tried():
    tried = {name for name in BATCHED_FORMS if any(name + "(" in text for text in MOVED)}
    assert tried == set(BATCHED_FORMS)


def loop_of(text, *fetch):
    return Repeat().run(as_step(text, *fetch)).text(where=False)


def test_what_nothing_varies_is_done_once():
    text = """
    state w : f32[2]
    state m : f32[2]
    feed x : f32[2]
    a : f32[2] = Exp(m)
    b : f32[2] = Mul(a, x)
    -- update
    w <- Sub(w, b)
    """
    assert (
        loop_of(text)
        == """step : opset 21, 4 ops, 1 feed, 0 params
  state w : f32[2]
  state m : f32[2]
  feed x@STEPS : f32[N, 2]
  -- forward
  a : f32[2] = Exp(m)
  b@STEPS : f32[N, 2] = Mul(a, x@STEPS)
  -- update
  w@LAST : f32[2] = Scan(w, b@STEPS, num_scan_inputs=1)
    body(w_0 : f32[2], b_0 : f32[2]):
      w@NEXT_0 : f32[2] = Sub(w_0, b_0)
      -> w@NEXT_0
  -> w <- w@LAST"""
    )


def test_what_reads_a_state_that_changes_is_done_where_it_stands():
    text = """
    state w : f32[2]
    feed x : f32[2]
    a : f32[2] = Add(x, w)
    -- update
    w <- Sub(w, x)
    -- forward
    b : f32[2] = Add(x, w)
    """
    assert inner(Repeat().run(as_step(text, "a", "b"))) == ["Add", "Sub", "Add"]


def test_large_values_are_not_kept_for_all_steps():
    def body(n):
        text = f"""
        state w : f32[]
        feed x : f32[{n}]
        c : f32[{n}] = Exp(x)
        a : f32[{n}] = Mul(c, w)
        s : f32[] = ReduceSum(a, keepdims=0)
        t : f32[] = Exp(s)
        -- update
        w <- Neg(w)
        """
        return inner(Repeat().run(as_step(text, "t")))

    assert body(SMALL // 4) == ["Mul", "Neg"]
    assert body(SMALL // 4 + 1) == ["Exp", "Mul", "ReduceSum", "Neg"]


def test_random_ops_draw_in_every_step():
    text = """
    feed x : f32[3]
    a : f32[3] = RandomUniform(shape=[3])
    b : f32[3] = Add(a, x)
    """
    looped = Repeat().run(as_step(text, "b"))
    assert inner(looped) == ["RandomUniform"]
    (found,) = Runner(looped, [], {}, "onnxruntime").step({"x": np.zeros((4, 3), "f4")})
    assert len(np.unique(found)) == 12


def test_small_operands_from_around_the_loop_are_as_wide_as_what_they_are_combined_with():
    text = """
    state w : f32[2, 3]
    state rate : f32[]
    feed s : f32[]
    feed r : f32[3]
    a : f32[2, 3] = Mul(w, 2.0)
    b : f32[2, 3] = Mul(s, a)
    c : f32[2, 3] = Add(b, r)
    d : f32[2, 3] = Mul(rate, c)
    -- update
    w <- Sub(w, d)
    """
    looped = Repeat().run(as_step(text))
    wide = [v.shape for op in looped.blocks[-1].ops for v in op.operands()]
    assert wide == [(2, 3)] * 10
    draw = np.random.default_rng(0).normal
    w, rate = draw(size=(2, 3)).astype("f4"), np.array(0.1, "f4")
    s, r = draw(size=4).astype("f4"), draw(size=(4, 3)).astype("f4")
    run = Runner(looped, [], {"w": w, "rate": rate}, "onnxruntime")
    run.step({"s": s, "r": r})
    for k in range(4):
        w = w - rate * (s[k] * (w * 2) + r[k])
    np.testing.assert_allclose(run.state()["w"], w, 1e-6, 1e-7)


def random_program(random):
    """A Program with one state that is assigned, one that is not, and the names of all values."""
    main = go.static.Program()
    with go.static.program_guard(main):
        fed = [go.static.data(n, shape) for n, shape in {"x": [2, 3], "r": [3], "s": []}.items()]
        block = main.global_block()
        w, c = (block.create_var(name, [2, 3], persistable=True) for name in "wc")
        g, values = Tape(block), [*fed, w, c]
        made: list[Variable] = []

        def pick():
            return random.choice(made[-4:] if made and random.random() < 0.5 else values)

        def step():
            v = pick()
            options = [lambda: g.Tanh(v), lambda: g.emit(random.choice(["Add", "Mul"]), v, pick())]
            options += [lambda: g.ReduceMean(v, keepdims=random.randrange(2))]
            options += [lambda: g.Sub(v, 0.5), lambda: g.Reshape(v, [-1]) if v.ndim else g.Neg(v)]
            if v.ndim:
                options += [lambda: g.Softmax(v, axis=0), lambda: g.CumSum(v, 0)]
            try:
                made.append(random.choice(options)())
            except go.errors.ShapeError:  # what does not broadcast is not recorded
                return

        for _ in range(random.randint(2, 8)):
            step()
        wide = [v for v in [*values, *made] if v.shape == (2, 3)]
        g.Tanh(g.Add(random.choice(wide), w), into=[w])
        for _ in range(random.randint(1, 6)):
            step()
    return main, [v.name for v in made]


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_programs_do_the_same_in_a_loop(random):
    main, names = random_program(random)
    fetch = tuple(random.sample(names, min(3, len(names))))
    step = as_step(main, *fetch)
    draw = np.random.default_rng(0).normal
    feed = {
        n: draw(size=(4, *s)).astype("f4") for n, s in {"x": (2, 3), "r": (3,), "s": ()}.items()
    }
    values = dict.fromkeys("wc", np.linspace(-1, 1, 6, dtype="f4").reshape(2, 3))
    single, looped = (Runner(s, [], values, "onnxruntime") for s in (step, Repeat().run(step)))
    runs = [single.step({n: a[k] for n, a in feed.items()}) for k in range(4)]
    found = looped.step(feed | {"step": np.arange(4)})
    for each, stacked in zip(zip(*runs, strict=True), found, strict=True):
        np.testing.assert_allclose(stacked, np.stack(each), 1e-5, 1e-6)
    np.testing.assert_allclose(looped.state()["w"], single.state()["w"], 1e-5, 1e-6)


def test_a_feed_that_is_read_inside_and_behind_is_no_result_of_the_loop():
    text = """
    state w : f32[2]
    feed x : f32[2]
    a : f32[2] = Mul(x, w)
    b : f32[2] = Sub(a, x)
    -- update
    w <- Add(w, a)
    """
    looped = Repeat().run(as_step(text, "b"))
    assert inner(looped) == ["Mul", "Add"]
    assert [v.name for v in looped.blocks[-1].outputs] == ["w@NEXT_0", "a_0"]
