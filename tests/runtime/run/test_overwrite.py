"""Steps that write over their state: the same training, and nothing is lost where one fails."""

from functools import partial

import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from graphopt.ir.text.parse import parse
from graphopt.passes import pipelines
from graphopt.passes.memory.overwrite import Donate, InPlace
from graphopt.passes.memory.step_in_blocks import StepInBlocks
from graphopt.runtime.ort.providers.cpu import CPUPlace
from graphopt.runtime.ort.values import to_device
from graphopt.runtime.run import compiled as compile_module
from tests.helpers import state_of
from tests.passes.both_runtimes import Runner
from tests.passes.memory.test_overwrite import OPTIMIZERS


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch):
    """Write over states of any size."""
    monkeypatch.setattr(pipelines, "InPlace", partial(InPlace, least=0))
    monkeypatch.setattr(pipelines, "Donate", partial(Donate, least=0))


class Training:
    """A network under an optimizer, and its batches."""

    def __init__(self, optimizer="ASGD"):
        self.main, self.startup = go.static.Program(), go.static.Program()
        self.startup.random_seed = 5
        self.scope, self.exe = go.static.Scope(), go.static.Executor()
        with go.static.program_guard(self.main, self.startup):
            y = go.static.data("y", [None], "int64")
            self.loss = go.nn.functional.cross_entropy(self.network(), y)
            OPTIMIZERS[optimizer]().minimize(self.loss)
        self.exe.run(self.startup, scope=self.scope)

    def network(self):
        """The logits, from an input x."""
        raise NotImplementedError

    def batch(self, draw, rows):
        """Some x and y."""
        raise NotImplementedError

    def run(self, k, rows=6, fetch=(), **fed):
        feed = self.batch(np.random.default_rng(k), rows) | fed
        return self.exe.run(self.main, feed, [self.loss, *fetch], scope=self.scope)

    def state(self):
        return state_of(self.main, self.scope)


class Words(Training):
    """Of ids, whose gradient is scattered."""

    def network(self):
        h = go.nn.Embedding(7, 4)(go.static.data("x", [None], "int64"))
        h = go.nn.functional.relu(go.nn.Linear(4, 5)(h))
        return go.nn.Linear(6, 3)(go.nn.functional.relu(go.nn.Linear(5, 6)(h)))

    def batch(self, draw, rows):
        return {"x": draw.integers(0, 7, rows), "y": draw.integers(0, 3, rows)}


class Wide(Training):
    """With weights that are whole blocks."""

    def network(self):
        h = go.nn.functional.relu(go.nn.Linear(32, 64)(go.static.data("x", [None, 32])))
        return go.nn.Linear(32, 4)(go.nn.functional.relu(go.nn.Linear(64, 32)(h)))

    def batch(self, draw, rows):
        x = draw.normal(size=(rows, 32)).astype("f4")
        return {"x": x, "y": draw.integers(0, 4, rows)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_training(name, monkeypatch):
    over, apart = Words(name), Words(name)
    for k in range(7):
        found = over.run(k)
        monkeypatch.setenv("GRAPHOPT_WITHOUT", "InPlace")
        np.testing.assert_array_equal(found, apart.run(k))
        monkeypatch.delenv("GRAPHOPT_WITHOUT")
        np.testing.assert_equal(over.state(), apart.state())


def test_from_the_second_step_on_states_stay_where_they_are():
    words = Words()
    words.run(0)
    words.run(1)
    before = dict(words.scope.values)
    words.run(2)
    stayed = {n for n, value in words.scope.values.items() if value is before[n]}
    assert {"linear_0.w_0", "linear_0.w_0_d_0", "embedding_0.w_0"} <= stayed
    assert not stayed & words.scope.spares.keys()


def test_batches_of_several_sizes(monkeypatch):
    over, apart = Words(), Words()
    sizes = [6, 3, 6, 3, 5, 6, 2, 9, 1, 4, 6, 3]
    for k, rows in enumerate(sizes):
        found = over.run(k, rows)
        monkeypatch.setenv("GRAPHOPT_WITHOUT", "InPlace")
        np.testing.assert_array_equal(found, apart.run(k, rows))
        monkeypatch.delenv("GRAPHOPT_WITHOUT")
    np.testing.assert_equal(over.state(), apart.state())


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("wrong", [{"y": 3}, {"y": -1}, {"x": 7}, {"x": -1}])
def test_a_step_that_fails_has_changed_nothing(steps, wrong):
    words, other = Words(), Words()
    for k in range(steps):
        words.run(k)
        other.run(k)
    before = words.state()
    [(name, value)] = wrong.items()
    ids = np.zeros(6, np.int64)
    ids[4] = value
    with pytest.raises(errors.StepError):
        words.run(0, **{name: ids})
    np.testing.assert_equal(words.state(), before)
    for k in range(3):
        np.testing.assert_array_equal(words.run(k), other.run(k))
    np.testing.assert_equal(words.state(), other.state())


def test_an_interrupt_leaves_a_whole_step(monkeypatch):
    words, other = Words(), Words()
    for k in range(3):
        words.run(k)
        other.run(k)
    found = compile_module.CompiledProgram._layout

    def interrupted(self, scope):
        layout = found(self, scope)
        run = layout.run

        def then_raise():
            layout.run = run
            run()
            raise KeyboardInterrupt

        layout.run = then_raise
        return layout

    with monkeypatch.context() as patch:
        patch.setattr(compile_module.CompiledProgram, "_layout", interrupted)
        with pytest.raises(KeyboardInterrupt):
            words.run(3)
    other.run(3)
    np.testing.assert_equal(words.state(), other.state())


def test_values_that_were_read_do_not_change():
    words = Words()
    words.run(0)
    held = words.state()["linear_0.w_0"]
    tensor = np.array(words.scope.var("linear_0.w_0").get_tensor())
    copy = np.array(held)
    for k in range(3):
        words.run(k)
    np.testing.assert_array_equal(held, copy)
    np.testing.assert_array_equal(tensor, copy)


def test_what_a_user_sets_is_not_written_to():
    words = Words()
    mine = np.full((4, 5), 0.25, "f4")
    words.scope.var("linear_0.w_0").get_tensor().set(mine)
    for k in range(3):
        words.run(k)
    assert (mine == 0.25).all()


def test_states_that_share_a_value_are_kept_apart():
    words = Words()
    words.run(0)
    value = to_device(np.full((4, 5), 0.5, "f4"), CPUPlace())
    words.scope.publish({"linear_0.w_0": value, "mine": value}, {})
    words.run(1)
    words.run(2)
    assert np.all(np.array(words.scope.var("mine").get_tensor()) == 0.5)
    assert np.any(words.state()["linear_0.w_0"] != 0.5)


def test_the_startup_program_gives_the_first_values_again():
    words = Words()
    first = words.state()
    for k in range(4):
        words.run(k)
    words.exe.run(words.startup, scope=words.scope)
    np.testing.assert_equal(words.state(), first)


def test_fetched_states_are_the_new_ones():
    words = Words()
    for k in range(4):
        draw = np.random.default_rng(k)
        feed = {"x": draw.integers(0, 7, 6), "y": draw.integers(0, 3, 6)}
        [found] = words.exe.run(words.main, feed, ["linear_0.w_0"], scope=words.scope)
        np.testing.assert_array_equal(found, words.scope.get("linear_0.w_0"))


def test_many_steps_in_one_call_go_on_with_them():
    over, other = Words(), Words()
    draw = np.random.default_rng(3)
    feed = {"x": draw.integers(0, 7, (8, 6)), "y": draw.integers(0, 3, (8, 6))}
    for words in (over, other):
        words.run(0)
        words.run(1)
    [found] = over.exe.run_steps(over.main, feed, [over.loss], scope=over.scope)
    expected = [other.run(0, x=x, y=y)[0] for x, y in zip(feed["x"], feed["y"], strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(over.run(5), other.run(5), rtol=1e-6)


@pytest.fixture
def in_blocks(monkeypatch):
    """Take steps of any size in blocks. Where onnxruntime has no such kernels they are plain."""
    monkeypatch.setattr(pipelines, "StepInBlocks", partial(StepInBlocks, least=0))


@pytest.mark.parametrize("without", ["", "InPlace"])
@pytest.mark.parametrize("name", ["ASGD", "SGD", "Momentum", "Adam"])
def test_steps_in_blocks(name, without, in_blocks, monkeypatch):
    blocked, plain = Wide(name), Wide(name)
    for k in range(6):
        monkeypatch.setenv("GRAPHOPT_WITHOUT", without)
        found = blocked.run(k)
        monkeypatch.setenv("GRAPHOPT_WITHOUT", "StepInBlocks")
        np.testing.assert_allclose(found, plain.run(k), rtol=1e-6)
    found, expected = blocked.state(), plain.state()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_blocks_written_over_or_apart_are_the_same(in_blocks, monkeypatch):
    over, apart = Wide("ASGD"), Wide("ASGD")
    for k in range(6):
        found = over.run(k)
        monkeypatch.setenv("GRAPHOPT_WITHOUT", "InPlace")
        np.testing.assert_array_equal(found, apart.run(k))
        monkeypatch.delenv("GRAPHOPT_WITHOUT")
    np.testing.assert_equal(over.state(), apart.state())


def test_a_parameter_that_is_fetched_is_the_new_one(in_blocks):
    wide = Wide("ASGD")
    [name] = [v.name for v in wide.main.all_parameters() if v.shape == (32, 64)]
    for k in range(4):
        found = wide.run(k, fetch=[name])[1]
        np.testing.assert_array_equal(found, wide.scope.get(name))
        wide.run(k)


def test_a_state_that_is_fed_is_read_from_the_feed_and_not_written_to(in_blocks, monkeypatch):
    over, apart = Wide("ASGD"), Wide("ASGD")
    [name] = [v.name for v in over.main.all_parameters() if v.shape == (32, 64)]
    draw = np.random.default_rng(0)
    fed = draw.normal(size=(32, 64)).astype("f4")
    copy = fed.copy()
    feed = {"x": np.ones((8, 32), "f4"), "y": draw.integers(0, 4, 8), name: fed}
    for _ in range(4):
        found = over.exe.run(over.main, feed, [over.loss], scope=over.scope)
        monkeypatch.setenv("GRAPHOPT_WITHOUT", "InPlace")
        expected = apart.exe.run(apart.main, feed, [apart.loss], scope=apart.scope)
        monkeypatch.delenv("GRAPHOPT_WITHOUT")
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(fed, copy)
    np.testing.assert_equal(over.state(), apart.state())


def test_what_a_product_waits_for_is_not_read():
    ops = "feed a : f32[8, 4]\nfeed b : f32[8, 6]\nfeed c : f32[4, 6]\n"
    program = parse(ops + "y : f32[4, 6] = Gemm(a, b, c, transA=1, beta=0.0)")
    values = {"a": np.ones((8, 4), "f4"), "b": np.ones((8, 6), "f4")}
    values["c"] = np.full((4, 6), np.nan, "f4")
    [found] = Runner(program, ["y"], values, "onnxruntime").step()
    assert (found == 8).all()
