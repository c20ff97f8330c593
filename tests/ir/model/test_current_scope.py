"""Reading values of variables: what has none is refused in one way, wherever it is asked for."""

import numpy as np
import pytest

import graphopt as go
from graphopt import errors


@pytest.fixture
def model():
    with go.static.scope_guard(go.static.Scope()):
        x = go.static.data("x", [None, 3])
        y = go.static.nn.fc(x, 2, name="fc")
        adam = go.optimizer.Adam(0.1)
        adam.minimize(go.mean(y))
        yield x, y, adam


def feed():
    return {"x": np.ones((2, 3), "f4")}


ASKED = {
    "a run": lambda x, y, adam: go.static.Executor().run(feed=feed(), fetch_list=[y]),
    "many steps": lambda x, y, adam: go.static.Executor().run_steps(
        feed={"x": np.ones((2, 2, 3), "f4")}, fetch_list=[y]
    ),
    "a variable": lambda x, y, adam: x.program.all_parameters()[0].get_value(),
    "a Program": lambda x, y, adam: x.program.state_dict(),
    "an optimizer": lambda x, y, adam: adam.state_dict(),
    "a scope": lambda x, y, adam: np.array(go.static.global_scope().var("fc.w_0").get_tensor()),
    "a checkpoint": lambda x, y, adam: go.static.save(x.program, "nowhere"),
    "a model": lambda x, y, adam: go.static.save_inference_model(
        "nowhere", [x], [y], go.static.Executor()
    ),
    "a training model": lambda x, y, adam: go.static.save_training_model(
        "nowhere", [x], [y], go.static.Executor()
    ),
}


@pytest.mark.parametrize("kind", ASKED)
def test_no_value_is_one_error(kind, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.UninitializedError, match="no value yet") as found:
        ASKED[kind](*model)
    assert found.value.fix == "run the startup Program first: exe.run(startup_program)"
    assert isinstance(found.value, errors.StateError)
    assert isinstance(found.value, RuntimeError)
    assert list(tmp_path.iterdir()) == []


def test_all_that_have_none_are_named(model):
    x, *_ = model
    go.static.global_scope().put("fc.b_0", np.zeros(2, "f4"))
    with pytest.raises(errors.UninitializedError) as found:
        x.program.state_dict()
    assert [label for label, _ in found.value.operands] == [
        v.name for v in x.program.persistables() if v.name != "fc.b_0"
    ]
