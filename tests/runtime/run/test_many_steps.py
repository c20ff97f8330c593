"""Many steps in one call are as many runs."""

import gc
import weakref

import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from graphopt.runtime.run import many_steps as steps_module
from tests.helpers import state_of

F = go.nn.functional
O = go.optimizer  # noqa: E741
D = O.lr


def network(kind):
    x = go.static.data("x", [None, 6])
    y = go.static.data("y", [None, 1])
    h = go.static.nn.fc(x, 5, activation="tanh")
    if kind == "dropout":
        h = F.dropout(h, 0.4)
    if kind == "batch_norm":
        h = go.static.nn.batch_norm(h)
    return go.mean((go.static.nn.fc(h, 1) - y) ** 2)


class Model:
    def __init__(self, optimizer, kind="plain"):
        self.main, self.startup = go.static.Program(), go.static.Program()
        self.main.random_seed = self.startup.random_seed = 3
        self.scope, self.exe = go.static.Scope(), go.static.Executor()
        with go.static.program_guard(self.main, self.startup):
            self.loss = network(kind)
            self.optimizer = optimizer()
            self.optimizer.minimize(self.loss)
        self.exe.run(self.startup, scope=self.scope)
        self.weight = self.main.all_parameters()[0]

    def loop(self, feed, fetch=None):
        found = []
        for k in range(len(feed["x"])):
            part = {name: a[k] for name, a in feed.items()}
            found.append(self.exe.run(self.main, part, fetch or [self.loss], scope=self.scope))
            for rate in self.main.rates.values():
                rate.advance(1)
        return [np.stack(values) for values in zip(*found, strict=True)]

    def steps(self, feed, fetch=None, **options):
        return self.exe.run_steps(self.main, feed, fetch or [self.loss], self.scope, **options)

    def state(self):
        return state_of(self.main, self.scope)


def feed(count, seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, 4, 6)).astype("f4")
    return {"x": x, "y": draw.normal(size=(count, 4, 1)).astype("f4")}


def check(optimizer, count=7, kind="plain", fetch=(), calls=1):
    one, many = Model(optimizer, kind), Model(optimizer, kind)
    for k in range(calls):
        data = feed(count, k)
        chosen = [one.loss.name, *fetch]
        expected, found = one.loop(data, chosen), many.steps(data, chosen)
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-7)
    before, after = one.state(), many.state()
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_allclose(after[name], before[name], 1e-6, 1e-7, err_msg=name)


OPTIMIZERS = {
    "SGD": lambda: O.SGD(0.1),
    "Momentum": lambda: O.Momentum(0.05, 0.9),
    "Adam": lambda: O.Adam(0.01),
    "AdamW": lambda: O.AdamW(0.01, weight_decay=0.1),
    "RMSProp": lambda: O.RMSProp(0.01),
    "Rprop": lambda: O.Rprop(0.01),
    "NAdam": lambda: O.NAdam(0.01),
    "decayed": lambda: O.SGD(0.1, weight_decay=0.01),
    "clipped": lambda: O.SGD(0.1, grad_clip=go.nn.ClipGradByGlobalNorm(0.5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name):
    check(OPTIMIZERS[name])


@pytest.mark.parametrize("history", ["device", "disk"])
@pytest.mark.parametrize("n", [1, 3, 7, 9, 20])
@pytest.mark.parametrize("count", [1, 5, 9, 20])
def test_asgd_with_tables_shorter_and_longer_than_the_run(n, count, history):
    check(lambda: O.ASGD(0.05, batch_num=n, history=history), count, calls=3)


def _calls(monkeypatch):
    """How many steps each call takes, filled in as calls are made."""
    calls = []
    run = steps_module.CompiledSteps._call

    def counted(self, compiled, scanned, *args):
        calls.append(len(next(iter(scanned.values()))))
        return run(self, compiled, scanned, *args)

    monkeypatch.setattr(steps_module.CompiledSteps, "_call", counted)
    return calls


@pytest.mark.parametrize("kind", ["plain", "dropout", "batch_norm"])
def test_a_call_takes_whole_turns_of_the_tables(kind, monkeypatch):
    calls = _calls(monkeypatch)
    fetch = ["x", "fc_0.w_0", "fc_0.w_0@GRAD", "fc_1.b_0@GRAD", "learning_rate_0"]
    check(lambda: O.ASGD(D.StepDecay(0.1, step_size=7), batch_num=8), 29, kind, fetch, calls=2)
    assert calls == [24, 5, 24, 5]


def test_turns_of_large_tables_are_calls_of_their_own(monkeypatch):
    calls = _calls(monkeypatch)
    monkeypatch.setattr(steps_module, "TURN_BYTES", 100)
    check(lambda: O.ASGD(0.05, batch_num=8), 19)
    assert calls == [8, 8, 3]


def test_a_long_feed_is_cut_into_calls_of_whole_turns(monkeypatch):
    calls = _calls(monkeypatch)
    monkeypatch.setattr(steps_module, "CALL_BYTES", 20 * 204)  # a step holds 204 bytes
    check(lambda: O.ASGD(0.05, batch_num=8), 37)
    assert calls == [16, 16, 5]


def test_values_kept_for_all_steps_cut_calls_too(monkeypatch):
    calls = _calls(monkeypatch)
    weight, errors_and_their_squares, loss = 6 * 5 * 4, 2 * 4 * 4, 4
    kept = weight + errors_and_their_squares + loss  # of a step; it is fed less
    monkeypatch.setattr(steps_module, "CALL_BYTES", 3 * kept)
    check(lambda: O.Adam(0.01), 7, fetch=["fc_0.w_0"])
    assert calls == [3, 3, 1]


@pytest.mark.parametrize("kind", ["dropout", "batch_norm"])
def test_state_that_the_forward_part_changes(kind):
    check(lambda: O.Adam(0.01), kind=kind, calls=2)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda: D.StepDecay(0.1, step_size=2, gamma=0.5),
        lambda: D.CosineAnnealingDecay(0.1, T_max=5),
        lambda: D.LinearWarmup(D.ExponentialDecay(0.1, 0.9), 3, 0.0, 0.1),
    ],
)
def test_schedules_go_on_with_every_step(schedule):
    check(lambda: O.ASGD(schedule(), batch_num=4), fetch=["learning_rate_0"], calls=2)


def test_runs_and_calls_can_alternate():
    one, mixed = (Model(lambda: O.ASGD(0.05, batch_num=9)) for _ in range(2))
    data = feed(30)
    expected = one.loop(data)[0]
    found = [mixed.steps({k: a[:4] for k, a in data.items()})[0]]
    found += [mixed.loop({k: a[4:6] for k, a in data.items()})[0]]
    found += [mixed.steps({k: a[6:] for k, a in data.items()})[0]]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-6)


def test_parameters_and_gradients_are_stacked():
    check(lambda: O.SGD(0.1), fetch=["fc_0.w_0", "fc_0.w_0@GRAD", "x", "fc_1.b_0"])


def test_a_schedule_can_be_held_still():
    model = Model(lambda: O.SGD(D.StepDecay(0.1, step_size=1)))
    rates = model.steps(feed(3), ["learning_rate_0"], step_schedulers=False)
    np.testing.assert_array_equal(rates[0], np.full(3, 0.1, "f4"))
    assert model.optimizer.get_lr() == 0.1


def test_a_schedule_that_needs_a_metric_is_refused_before_anything_runs():
    model = Model(lambda: O.SGD(D.ReduceOnPlateau(0.1)))
    before = model.state()
    with pytest.raises(errors.StateError, match="needs a metric"):
        model.steps(feed(3))
    np.testing.assert_equal(model.state(), before)
    model.steps(feed(3), step_schedulers=False)


def test_a_set_rate_is_used():
    one, many = (Model(lambda: O.SGD(0.1)) for _ in range(2))
    for model in (one, many):
        model.optimizer.set_lr(0.3)
    np.testing.assert_allclose(many.steps(feed(3))[0], one.loop(feed(3))[0], rtol=1e-6)


def test_a_long_feed_is_cut_into_calls(monkeypatch):
    calls = _calls(monkeypatch)
    monkeypatch.setattr(steps_module, "CALL_BYTES", 3 * 4 * 7 * 4)
    check(lambda: O.Adam(0.01), 7)
    assert calls == [3, 3, 1]


def test_a_feed_in_a_file_is_read_in_place(tmp_path):
    one, many = (Model(lambda: O.Adam(0.01)) for _ in range(2))
    data = feed(6)
    mapped = {}
    for name, array in data.items():
        np.save(tmp_path / f"{name}.npy", array)
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    np.testing.assert_array_equal(many.steps(mapped)[0], one.steps(data)[0])


def test_a_program_without_feeds_is_told_how_many():
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        w = go.create_parameter([2], "float32", default_initializer=go.nn.initializer.Constant(1.0))
        loss = go.sum(w * w)
        O.SGD(0.25).minimize(loss)
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    with pytest.raises(errors.ArgumentError, match="at least one step"):
        exe.run_steps(main, fetch_list=[loss], scope=scope)
    (losses,) = exe.run_steps(main, fetch_list=[loss], scope=scope, steps=3)
    np.testing.assert_allclose(losses, [2.0, 0.5, 0.125])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f | {"x": f["x"][:2]}, "not one first dim"),
        (lambda f: {"x": f["x"]}, "y is needed and not fed"),
        (lambda f: f | {"z": f["x"]}, "no variable 'z' to feed"),
        (lambda f: f | {"x": f["x"][..., :3]}, "a shape it cannot take"),
        (lambda f: f | {"x": f["x"].astype("f8")}, "the wrong dtype"),
    ],
)
def test_wrong_feeds_change_nothing(change, text):
    model = Model(lambda: O.SGD(0.1))
    before = model.state()
    with pytest.raises(errors.FeedError, match=text):
        model.steps(change(feed(3)))
    np.testing.assert_equal(model.state(), before)


def test_what_is_compiled_does_not_keep_its_program_alive():
    model = Model(lambda: O.ASGD(0.05, batch_num=9))
    model.steps(feed(3))
    exe, gone = model.exe, weakref.ref(model.main)
    del model
    gc.collect()
    assert gone() is None
    assert not exe._cache
