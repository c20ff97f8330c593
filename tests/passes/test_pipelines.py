"""All passes together: training steps and random Programs, on both runtimes."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphopt as go
from graphopt.ir.edit.clone import copy_step
from graphopt.ir.model.program import Program
from graphopt.ir.model.seeds import COUNTER
from graphopt.passes.draws.streams import Streams, advances
from graphopt.passes.pipelines import OPTIMISE, Pipeline, Setting
from graphopt.passes.select.prune import Prune, assigns_state
from tests.passes.both_runtimes import RUNTIMES, Runner, agree
from tests.passes.random_programs import RandomProgram

F = go.nn.functional
PASSES = ("Specialise", "Fold", "CommonSubexpressions", "Simplify", "DeadCode")


ROUNDING = ("ScaleFilters", "Formulate", "Fuse")  # passes that add up in another order


def size(step):
    return sum(len(block.ops) for block in step.blocks)


def optimised(step, feeds, without=ROUNDING, fixed=True):
    """What the passes make that change no number, or all but other ones."""
    shapes = {name: value.shape for name, value in feeds.items()} if fixed else {}
    pipeline = Pipeline("optimise", OPTIMISE).without(*without)
    return pipeline.run(copy_step(step), Setting(shapes=shapes))


def images(rng, shape):
    return rng.normal(size=shape).astype(np.float32)


def mlp(rng):
    x, y = go.static.data("x", [None, 6]), go.static.data("y", [None], "int64")
    h = F.dropout(go.static.nn.fc(x, 8, activation="relu"), 0.3)
    h = F.dropout(go.static.nn.fc(h, 8, activation="tanh"), 0.3)
    loss = F.cross_entropy(go.static.nn.fc(h, 3), y)
    return loss, {"x": images(rng, (4, 6)), "y": rng.integers(0, 3, 4)}


def convolutions(rng):
    x, y = go.static.data("x", [None, 1, 8, 8]), go.static.data("y", [None], "int64")
    h = F.relu(go.nn.BatchNorm2D(3)(go.nn.Conv2D(1, 3, 3, padding=1, bias_attr=False)(x)))
    h = F.relu(h + go.nn.BatchNorm2D(3)(go.nn.Conv2D(3, 3, 3, padding=1)(h)))
    h = go.nn.Flatten()(go.nn.MaxPool2D(2, 2)(h))
    loss = F.cross_entropy(go.nn.Linear(48, 3)(h), y)
    return loss, {"x": images(rng, (4, 1, 8, 8)), "y": rng.integers(0, 3, 4)}


def attention(rng):
    x, y = go.static.data("x", [None, 5], "int64"), go.static.data("y", [None, 5], "int64")
    h = go.nn.Embedding(7, 8)(x)
    h = go.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1)(h)
    loss = F.cross_entropy(go.nn.Linear(8, 7)(h), y)
    return loss, {"x": rng.integers(0, 7, (3, 5)), "y": rng.integers(0, 7, (3, 5))}


def recurrence(rng):
    x, n = go.static.data("x", [None, 4]), go.static.data("n", [1], "int64")
    w = go.static.nn.fc(x, 4)

    def step(i, h):
        return [i + 1, go.tanh(go.static.nn.fc(h, 4) + w)]

    start = [go.zeros([1], "int64"), x]
    _, h = go.static.nn.while_loop(lambda i, h: go.less_than(i, n), step, start)
    return go.mean(h * h), {"x": images(rng, (3, 4)), "n": np.array([3])}


MODELS = [mlp, convolutions, attention, recurrence]
OPTIMIZERS = {
    "asgd": lambda: go.optimizer.ASGD(0.05, batch_num=3, weight_decay=1e-3),
    "adam": lambda: go.optimizer.Adam(0.01),
}


def training_step(model, optimizer, rng):
    """The step without random ops, its feeds and the state it starts from."""
    main, startup = Program(), Program()
    main.random_seed = startup.random_seed = 3
    with go.static.program_guard(main, startup):
        loss, feeds = model(rng)
        pairs = OPTIMIZERS[optimizer]().minimize(loss)[1]
    fetch = (loss.name, pairs[0][1].name)
    ops = main.global_block().ops
    roots = tuple(k for k, op in enumerate(ops) if assigns_state(op))
    counter = COUNTER if any(advances(op) for op in ops) else ""
    step = Streams(counter).run(Prune(fetch, tuple(feeds), roots).run(main))
    with go.static.scope_guard(go.static.Scope()):
        go.static.Executor().run(startup)
        values = {COUNTER: np.array(0), **startup.state_dict()}
    return step, feeds, values


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_training_steps(model, optimizer, runtime, rng):
    """Several steps, with shapes known or open: the same values, from fewer ops."""
    step, feeds, values = training_step(model, optimizer, rng)
    known = optimised(step, feeds)
    open_ = optimised(step, feeds, fixed=False)
    assert size(known) < size(open_) < size(step)
    runs = [Runner(s, [], values, runtime) for s in (step, known, open_)]
    fused = Runner(optimised(step, feeds, without=()), [], values, runtime)
    for _ in range(4 if runtime == "onnxruntime" else 2):
        expected, *others = [r.step(feeds) for r in runs]
        for found in others:
            agree(found, expected)
        np.testing.assert_allclose(fused.step(feeds)[0], expected[0], rtol=1e-5)
    expected = runs[0].state()
    for other in runs[1:]:
        found = other.state()
        assert set(found) == set(expected)
        agree([found[name] for name in expected], expected.values(), rtol=2e-6)


@pytest.mark.parametrize("model", MODELS)
def test_in_place_is_one_copy_after_the_other(model, rng):
    step, feeds, _ = training_step(model, "asgd", rng)
    before, copied = step.text(), step
    setting = Setting(shapes={name: value.shape for name, value in feeds.items()})
    for made in Pipeline("optimise", OPTIMISE).without(*ROUNDING).passes(setting):
        copied = made.run(copied)
    assert optimised(step, feeds).text() == copied.text()
    assert step.text() == before


@pytest.mark.parametrize("left_out", PASSES)
@pytest.mark.parametrize("model", MODELS)
def test_each_pass_can_be_left_out(model, left_out, rng):
    step, feeds, values = training_step(model, "asgd", rng)
    changed = optimised(step, feeds, without={left_out})
    runs = [Runner(s, [], values, "onnxruntime") for s in (step, changed)]
    for _ in range(2):
        expected, found = (r.step(feeds) for r in runs)
        agree(found, expected)


@pytest.mark.parametrize("seed", range(40))
def test_random_control_flow(seed):
    """Nests of If, Loop and Scan in float64; the reference has no loops without a trip."""
    made = RandomProgram(Random(seed))
    (grad,) = go.static.gradients([made.target], [made.x])
    assert grad is not None
    step = Prune((made.target.name, grad.name), tuple(made.feeds)).run(made.program)
    expected = Runner(step, [], made.feeds, "onnxruntime").step()
    for fixed in (True, False):
        result = optimised(step, made.feeds, fixed=fixed)
        found = Runner(result, [], made.feeds, "onnxruntime").step()
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


ROWS, COLUMNS = 2, 3
UNARY = ("Identity", "Neg", "Tanh", "Cast", "Flatten", "Reshape", "Transpose", "Scale", "Sum1")
BINARY = ("Add", "Sub", "Mul", "Where", "Expand", "Update", "Branch", "Product", "Shifted")


@st.composite
def steps(draw):
    """A list of (kind, first operand, second operand, number)."""
    count = draw(st.integers(2, 14))
    numbers = st.sampled_from([0.0, 1.0, -1.0, 0.5, 2.0, 3.0])
    kinds = st.sampled_from(UNARY + BINARY)
    return [
        (draw(kinds), draw(st.integers(0, 30)), draw(st.integers(0, 30)), draw(numbers))
        for _ in range(count)
    ]


class Recorded:
    """Matrices [n, 3] and a state that is assigned in between, combined as ``steps`` say."""

    def __init__(self, plan, rows):
        self.program = Program()
        block = self.program.global_block()
        self.g = self.program.recorder()
        self.feeds = [block.create_var(name, [rows, COLUMNS]) for name in "ab"]
        for v in self.feeds:
            v.is_data = True
        self.state = block.create_var("s", [COLUMNS], persistable=True)
        self.square = block.create_var("w", [COLUMNS, COLUMNS], persistable=True)
        self.values = list(self.feeds)
        for kind, first, second, number in plan:
            x, y = (self.values[k % len(self.values)] for k in (first, second))
            self.values += self.step(kind, x, y, np.float32(number))

    def step(self, kind, x, y, c):
        g = self.g
        if kind == "Update":
            g.emit("Add", self.state, g.ReduceSum(x, [0], keepdims=0), into=[self.state])
            return []
        by_kind = {
            "Cast": lambda: g.Cast(x, to=1),
            "Flatten": lambda: g.reshape_like(g.Flatten(g.Unsqueeze(x, [1])), x),
            "Reshape": lambda: g.reshape_like(g.Reshape(x, [-1]), x),
            "Transpose": lambda: g.Transpose(g.Transpose(x, perm=[1, 0]), perm=[1, 0]),
            "Scale": lambda: g.Mul(g.Mul(x, c), np.float32(0.5)),
            "Sum1": lambda: g.Sum(x),
            "Where": lambda: g.Where(g.Greater(x, 0.0), c, 0.0),
            "Expand": lambda: g.Add(g.Expand(c, g.shape_of(y)), y),
            "Branch": lambda: g.Mul(g.Mul(x, c), g.Cast(g.Greater(y, 0.0), to=1)),
            "Product": lambda: g.Tanh(g.Mul(g.MatMul(x, g.Transpose(self.square)), c)),
            "Shifted": lambda: g.Add(g.MatMul(y, self.square), self.state),
        }
        unary = kind in ("Identity", "Neg", "Tanh")
        plain = lambda: g.emit(kind, x) if unary else g.emit(kind, x, y)  # noqa: E731
        return [by_kind.get(kind, plain)()]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(steps(), st.sampled_from([ROWS, None]), st.sampled_from(RUNTIMES))
def test_random_programs(plan, rows, runtime):
    """Whatever is recorded gives the same, whichever of its values is fetched."""
    made = Recorded(plan, rows)
    rng = np.random.default_rng(0)
    values = {"a": images(rng, (ROWS, COLUMNS)), "b": images(rng, (ROWS, COLUMNS))}
    values |= {"s": images(rng, COLUMNS), "w": images(rng, (COLUMNS, COLUMNS))}
    fetch = tuple(v.name for v in made.values[2:][-3:])
    roots = tuple(k for k, op in enumerate(made.program.global_block().ops) if assigns_state(op))
    step = Prune(fetch, ("a", "b"), roots).run(made.program)
    feeds = {name: values[name] for name in "ab"}
    known, open_ = (optimised(step, feeds, fixed=fixed) for fixed in (True, False))
    runs = [Runner(s, [], values, runtime) for s in (step, known, open_)]
    for _ in range(2):
        expected, *others = [r.step(feeds) for r in runs]
        for found in others:
            agree(found, expected, rtol=1e-5)
        for other in runs[1:]:
            assert set(other.state()) == set(runs[0].state())
            agree([other.values[n] for n in runs[0].state()], runs[0].state().values(), rtol=1e-5)


def test_what_is_fed_in_the_middle_is_taken_as_it_is():
    """A result that is fed has nothing to do with the op that would make it."""
    program = Program()
    x = program.global_block().create_var("x", [ROWS, COLUMNS])
    x.is_data = True
    g = program.recorder()
    top, bottom = g.Split(x, axis=0, num_outputs=2, outputs=2)
    y = g.Sub(g.Neg(g.Neg(bottom)), g.Identity(top))
    values = {"x": np.ones((ROWS, COLUMNS), "f4"), bottom.name: np.full((1, COLUMNS), 7, "f4")}
    step = Prune((y.name,), tuple(values)).run(program)
    (found,) = Runner(optimised(step, values), [], values, "onnxruntime").step()
    np.testing.assert_array_equal(found, np.full((1, COLUMNS), 6, "f4"))


def test_recomputation_is_not_undone(rng):
    """What checkpoints have the backward pass redo is not merged with the first time."""
    x = go.static.data("x", [4, 6])
    h, kept = x, []
    for _ in range(4):
        h = go.static.nn.fc(h, 6, activation="tanh")
        kept.append(h)
    loss = go.mean(h * h)
    go.static.append_backward(loss, checkpoints=kept[1:3])
    program = loss.program
    grads = [p.grad_name for p in program.all_parameters()]
    step = Prune((loss.name, *grads), ("x",)).run(program)
    feeds = {"x": images(rng, (4, 6))}
    result = optimised(step, feeds)
    count = lambda p: sum(op.type == "Tanh" for op in p.global_block().ops)  # noqa: E731
    assert count(result) == count(step) > 4
