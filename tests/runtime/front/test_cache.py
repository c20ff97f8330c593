"""What is compiled once, what is compiled anew, and whose lines an error shows."""

import gc
import weakref

import numpy as np
import pytest

import graphopt as go
from graphopt.errors import ArgumentError, ArgumentTypeError, StepError
from graphopt.passes.select.functional import functional
from graphopt.runtime.run import compiled
from tests.helpers import held


@pytest.fixture
def sessions(monkeypatch):
    """Counts the sessions that are loaded."""
    loaded: list[tuple] = []
    session = compiled.Session  # type: ignore[attr-defined]

    def counted(*arguments):
        loaded.append(arguments)
        return session(*arguments)

    monkeypatch.setattr(compiled, "Session", counted)
    return loaded


def network(width=4, scale=1.0):
    main, startup = go.static.Program(), go.static.Program()
    startup.random_seed = 3
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [None, 3])
        h = go.static.nn.fc(x, width, activation="tanh")
        table = go.assign(np.arange(4096, dtype="f4") * scale)
        loss = go.mean(h * h) + go.mean(table)
        _, pairs = go.optimizer.SGD(0.1).minimize(loss)
    return main, startup, loss, pairs


FEED = {"x": np.ones((2, 3), "f4")}


def test_equal_programs_compile_once(sessions):
    exe, losses = go.static.Executor(), []
    made = [network() for _ in range(3)]  # as long as one is used
    scopes = [go.static.Scope() for _ in made]
    for (main, startup, loss, _), scope in zip(made, scopes, strict=True):
        exe.run(startup, scope=scope)
        losses.append([exe.run(main, FEED, [loss], scope=scope)[0] for _ in range(3)])
    trained = [s for s in sessions if s[0].graph.input]
    assert len(trained) == 1
    assert losses[0] == losses[1] == losses[2]
    assert losses[0][0] > losses[0][2]
    (steps,) = exe.run_steps(made[1][0], {"x": np.ones((4, 2, 3), "f4")}, [made[1][2]], scopes[1])
    before = len(sessions)
    (again,) = exe.run_steps(made[2][0], {"x": np.ones((4, 2, 3), "f4")}, [made[2][2]], scopes[2])
    assert len(sessions) == before
    np.testing.assert_array_equal(steps, again)


@pytest.mark.parametrize("other", [{"width": 5}, {"scale": 2.0}])
def test_programs_that_differ_do_not_share(sessions, other):
    """Also where only the content of a large constant differs."""
    exe, scope = go.static.Executor(), go.static.Scope()
    kept = [network(), network(**other)]
    found = []
    for main, startup, loss, _ in kept:
        exe.run(startup, scope=scope)
        found.append(exe.run(main, FEED, [loss], scope=scope)[0])
    assert len([s for s in sessions if s[0].graph.input]) == 2
    assert found[0] != found[1]


def test_two_scopes_in_turn_are_two_trainings():
    exe, (main, startup, loss, _) = go.static.Executor(), network()
    scopes = [go.static.Scope() for _ in range(2)]
    for scope in scopes:
        exe.run(startup, scope=scope)
    found = [[exe.run(main, FEED, [loss], scope=s)[0] for s in scopes] for _ in range(5)]
    assert all(a == b for a, b in found)
    assert found[0][0] > found[-1][0]


@pytest.mark.parametrize("first", ["pairs", "values"])
def test_the_same_values_with_and_without_updates_are_two_requests(first):
    """(parameter, gradient) pairs are a question about gradients: they assign nothing."""
    exe, scope, (main, startup, _, pairs) = go.static.Executor(), go.static.Scope(), network()
    exe.run(startup, scope=scope)
    w, grad = pairs[0]
    requests = {"pairs": [(w, grad)], "values": [w.name, grad.name]}
    changes = {}
    for name in [first, *({*requests} - {first})]:
        before = held(scope, w.name)
        exe.run(main, FEED, requests[name], scope=scope)
        changes[name] = not np.array_equal(held(scope, w.name), before)
    assert changes == {"pairs": False, "values": True}


def failing(value):
    main = go.static.Program()
    with go.static.program_guard(main):
        i = go.static.data("i", [1], "int64")
        y = go.gather(go.assign(np.ones(3, "f4") * value), i)
    return main, y


def test_an_error_shows_the_lines_of_its_own_program():
    exe, (first, y) = go.static.Executor(), failing(1.0)
    exe.run(first, {"i": np.array([0])}, [y])
    main = go.static.Program()
    with go.static.program_guard(main):
        i = go.static.data("i", [1], "int64")
        z = go.gather(go.assign(np.ones(3, "f4")), i)  # the line that is wrong
    exe.run(main, {"i": np.array([0])}, [z])
    step = exe.prepare(main, {"i": np.array([0])}, [z])
    for run in (
        lambda: exe.run(main, {"i": np.array([7])}, [z]),
        lambda: step({"i": np.array([7])}),
    ):
        with pytest.raises(StepError) as found:
            run()
        assert "the line that is wrong" in str(found.value)


def test_nothing_that_was_compiled_outlives_its_programs():
    exe, scope = go.static.Executor(), go.static.Scope()
    main, startup, loss, pairs = network()
    exe.run(startup, scope=scope)
    exe.run(main, FEED, [loss], scope=scope)
    (entry,) = exe._cache[main]._entries.values()
    (ready,) = entry._known.values()
    gone = weakref.ref(ready)
    del main, startup, loss, pairs, entry, ready
    gc.collect()
    assert gone() is None


def test_a_pipeline_of_ones_own():
    main, startup, loss, _ = network()
    plain = go.static.Executor()
    other = go.static.Executor(passes=lambda pipeline: pipeline.without("Fuse", "Schedule"))
    scope = go.static.Scope()
    plain.run(startup, scope=scope)
    feed = {"x": np.ones((2, 3), "f4")}
    shown = [exe.prepare(main, feed, [loss], scope).program.text() for exe in (plain, other)]
    assert ["MatMul([1.0, 1.0], " in text for text in shown] == [True, False]  # a form of Fuse
    found = [exe.run(main, feed, [loss], scope=copy) for exe in (plain, other)
             for copy in [go.static.Scope()] if exe.run(startup, scope=copy) == []]  # fmt: skip
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    with pytest.raises(ArgumentError, match="has no pass 'Fuze'"):
        go.static.Executor(passes=lambda pipeline: pipeline.without("Fuze"))


def test_a_step_is_not_run_as_a_program():
    main, _, loss, _ = network()
    with pytest.raises(ArgumentTypeError, match="this is the Step that a run"):
        go.static.Executor().run(functional(main, fetch=[loss]), FEED, [loss.name])
