"""A long graph written in another order, its update rules spliced in, is the same graph."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import graphopt as go
from graphopt import errors
from graphopt.onnxio import ort_order
from graphopt.onnxio.ort_order import written_early

LENGTH = 12


def chain():
    """A chain of tanh layers under Adam, recorded."""
    main, startup = go.static.Program(), go.static.Program()
    startup.random_seed = 1
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [2, 4])
        h = x
        for _ in range(LENGTH):
            h = go.static.nn.fc(h, 4, activation="tanh")
        loss = go.mean(h * h)
        go.optimizer.Adam(0.1).minimize(loss)
    return main, startup, loss


@pytest.fixture
def eager(monkeypatch):
    """Every graph counts as long."""
    monkeypatch.setattr(ort_order, "WALKED", 1)


def run(model, feeds):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def test_the_results_are_the_same(eager):
    main, startup, loss = chain()
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    feed = {"x": np.linspace(-1, 1, 8, dtype="f4").reshape(2, 4)}
    model = go.onnx.to_model(main, feed, [loss])
    feeds = feed | {i.name: scope.get(i.name) for i in model.graph.input if i.name != "x"}
    expected = run(model, feeds)
    other = onnx.ModelProto()
    other.CopyFrom(model)
    assert written_early(other)
    assert {n.domain for n in model.graph.node} == {"", "graphopt"}
    assert {n.domain for n in other.graph.node} == {""}
    onnx.checker.check_model(other)
    found = run(other, feeds)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_the_executor_trains_as_before(eager):
    losses = []
    for long in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ort_order, "WALKED", 1 if long else 10**9)
            main, startup, loss = chain()
            exe, scope = go.static.Executor(), go.static.Scope()
            exe.run(startup, scope=scope)
            feed = {"x": np.ones((2, 4), "f4")}
            losses.append([exe.run(main, feed, [loss], scope=scope)[0] for _ in range(5)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_a_failure_inside_an_update_names_the_users_line(eager):
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        x, index = go.static.data("x", [4]), go.static.data("i", [1], "int64")
        w = go.create_parameter([4], "float32", name="w")
        picked = go.gather(x * w, index)
        go.optimizer.Adam(0.1).minimize(go.sum(picked))
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    feed = {"x": np.ones(4, "f4"), "i": np.array([9])}
    with pytest.raises(errors.StepError, match="Gather failed while running") as found:
        exe.run(main, feed, [picked], scope=scope)
    assert "picked = go.gather" in str(found.value)
