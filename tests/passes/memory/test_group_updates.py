"""Grouped updates are the updates, one by one."""

import numpy as np
import pytest

import graphopt as go
from graphopt.passes.memory.group_updates import GroupUpdates
from tests.passes.both_runtimes import as_step

O = go.optimizer  # noqa: E741
OPTIMIZERS = {
    "ASGD": lambda: O.ASGD(0.05, batch_num=3),
    "Adadelta": lambda: O.Adadelta(0.5),
    "Adagrad": lambda: O.Adagrad(0.1),
    "Momentum": lambda: O.Momentum(0.05, 0.9, use_nesterov=True),
    "Rprop": lambda: O.Rprop(0.01),
    "SGD": lambda: O.SGD(0.1),
}


def train(optimizer, monkeypatch, without):
    monkeypatch.setenv("GRAPHOPT_WITHOUT", without)
    main, startup, scope = go.static.Program(), go.static.Program(), go.static.Scope()
    startup.random_seed = 5
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [None, 4])
        h = x
        for width in (3, 4, 5, 6, 1):
            h = go.static.nn.fc(h, width, activation="tanh")
        loss = go.mean(h * h)
        optimizer().minimize(loss)
    exe, rng = go.static.Executor(), np.random.default_rng(0)
    exe.run(startup, scope=scope)
    feeds = [{"x": rng.normal(size=(5, 4)).astype("f4")} for _ in range(7)]
    step = exe.prepare(main, feeds[0], [loss], scope)
    losses = [step(feed)[0] for feed in feeds]
    names = [v.name for v in main.list_vars() if v.persistable]
    types = [op.type for op in step.program.global_block().ops]
    return losses, {name: scope.get(name) for name in names}, types


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_the_same(name, monkeypatch):
    losses, state, types = train(OPTIMIZERS[name], monkeypatch, "")
    expected, plain, ungrouped = train(OPTIMIZERS[name], monkeypatch, "GroupUpdates")
    update = "ASGDRow" if name == "ASGD" else name
    assert types.count(update) == 6  # five weights, and all biases
    assert ungrouped.count(update) == 10
    np.testing.assert_array_equal(losses, expected)
    for key, value in plain.items():
        np.testing.assert_array_equal(state[key], value, err_msg=key)


def test_an_update_that_is_read_in_between_stays():
    text = """
    param a : f32[2]
    param b : f32[3]
    state c : f32[2]
    state lr : f32[]
    feed da : f32[2]
    feed db : f32[3]
    -- update
    a <- SGD(a, da, lr)
    c <- Add(c, a)
    b <- SGD(b, db, lr)
    """
    step = as_step(text)
    assert GroupUpdates(least=2).run(step).text() == step.text()


@pytest.mark.parametrize("change", ["lr2", "f64", "[2, 1]", "long"])
def test_what_differs_is_not_grouped(change):
    shape = {"[2, 1]": "[2, 1]", "long": "[99]"}.get(change, "[2]")
    dtype = "f64" if change == "f64" else "f32"
    rate = "lr2" if change in ("lr2", "f64") else "lr"
    step = as_step(f"""
    param a : f32[2]
    param b : {dtype}{shape}
    state lr : f32[]
    state lr2 : {dtype}[]
    feed da : f32[2]
    feed db : {dtype}{shape}
    -- update
    a <- SGD(a, da, lr)
    b <- SGD(b, db, {rate})
    """)
    assert GroupUpdates(least=2, longest=50).run(step).text() == step.text()
