import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from tests.helpers import held


class Training:
    """A small regression with a schedule, in a scope of its own."""

    def __init__(self, width=3):
        self.main, self.startup = go.static.Program(), go.static.Program()
        with go.static.program_guard(self.main, self.startup):
            self.x = go.static.data("x", [None, 4])
            h = go.static.nn.fc(self.x, width, activation="tanh", name="hidden")
            self.loss = go.mean(go.square(go.static.nn.fc(h, 1, name="out") - 1.0))
            self.schedule = go.optimizer.lr.StepDecay(0.1, step_size=2, gamma=0.5)
            self.optimizer = go.optimizer.Adam(self.schedule)
            self.optimizer.minimize(self.loss)
        self.scope, self.exe = go.static.Scope(), go.static.Executor()
        self.exe.run(self.startup, scope=self.scope)

    def step(self, seed):
        x = np.random.default_rng(seed).normal(size=(5, 4)).astype("f4")
        (loss,) = self.exe.run(self.main, feed={"x": x}, fetch_list=[self.loss], scope=self.scope)
        self.schedule.step()
        return loss

    def values(self):
        return self.main.state_dict(scope=self.scope)


def test_a_stopped_training_goes_on_bit_for_bit(tmp_path):
    first = Training()
    for seed in range(5):
        first.step(seed)
    go.static.save(first.main, tmp_path / "step5", scope=first.scope)
    expected = [first.step(seed) for seed in range(5, 10)]
    second = Training()
    go.static.load(second.main, tmp_path / "step5", second.exe, scope=second.scope)
    assert second.schedule.last_epoch == 5
    assert [second.step(seed) for seed in range(5, 10)] == expected
    for name, value in first.values().items():
        np.testing.assert_array_equal(value, second.values()[name], err_msg=name)


def test_modes_of_state_dict():
    training = Training()
    main, scope = training.main, training.scope
    params = main.state_dict("param", scope)
    assert set(params) == {p.name for p in main.all_parameters()}
    opt = main.state_dict("opt", scope)
    assert "hidden.w_0_moment1_0" in opt
    assert "learning_rate_0" in opt
    assert set(main.state_dict(scope=scope)) == set(params) | set(opt)
    with pytest.raises(ValueError, match="no mode"):
        main.state_dict("params", scope)
    with pytest.raises(TypeError):
        main.state_dict(3, scope)  # type: ignore[arg-type]
    with pytest.raises(errors.UninitializedError, match="no value yet"):
        main.state_dict(scope=go.static.Scope())


def test_set_state_dict_is_all_or_nothing():
    training = Training()
    before = training.values()
    name = "hidden.w_0"
    good = np.ones((4, 3), "f4")
    with pytest.raises(errors.StateError) as found:
        training.main.set_state_dict(
            {name: good, "out.w_0": np.ones((2, 2), "f4"), "nobody": good}, training.scope
        )
    assert "out.w_0" in str(found.value)
    assert "nobody" in str(found.value)
    np.testing.assert_array_equal(training.values()[name], before[name])
    with pytest.raises(errors.StateError, match="do not fit"):
        training.main.set_state_dict({name: good.astype("f8")}, training.scope)
    with pytest.raises(TypeError):
        training.main.set_state_dict([name], training.scope)  # type: ignore[arg-type]
    training.main.set_state_dict({name: good}, training.scope)
    np.testing.assert_array_equal(training.values()[name], good)


def test_values_of_one_variable():
    training = Training()
    w = training.main.global_block().var("hidden.w_0")
    w.set_value(np.zeros((4, 3), "f4"), training.scope)
    np.testing.assert_array_equal(w.get_value(training.scope), np.zeros((4, 3)))
    with pytest.raises(errors.StateError):
        w.set_value(np.zeros(3, "f4"), training.scope)
    with pytest.raises(errors.StateError):
        training.loss.set_value(np.zeros((), "f4"), training.scope)


def test_a_file_of_another_program_lists_what_differs(tmp_path):
    first, wide = Training(), Training(width=4)
    go.static.save(first.main, tmp_path / "m", scope=first.scope)
    before = wide.values()
    with pytest.raises(errors.StateError, match="do not fit"):
        go.static.load(wide.main, tmp_path / "m", scope=wide.scope)
    with go.static.program_guard(first.main, first.startup):
        go.create_parameter([2], "float32", name="new")
    with pytest.raises(errors.StateError) as found:
        go.static.load(first.main, tmp_path / "m", scope=first.scope)
    assert "missing in the file : new" in str(found.value)
    for name, value in wide.values().items():
        np.testing.assert_array_equal(value, before[name])


def test_chosen_variables(tmp_path):
    first, second = Training(), Training()
    go.static.save(first.main, tmp_path / "m", scope=first.scope)
    chosen = [second.main.global_block().var("hidden.w_0")]
    before = held(second.scope, "out.w_0")
    go.static.load(second.main, tmp_path / "m", var_list=chosen, scope=second.scope)
    np.testing.assert_array_equal(held(second.scope, "hidden.w_0"), held(first.scope, "hidden.w_0"))
    np.testing.assert_array_equal(held(second.scope, "out.w_0"), before)
    state = go.static.load_program_state(tmp_path / "m")
    assert set(state) == set(first.values())
    go.static.set_program_state(second.main, {**state, "other": np.ones(1)}, second.scope)
    np.testing.assert_array_equal(held(second.scope, "out.w_0"), held(first.scope, "out.w_0"))


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b"pickle" * 9, lambda b: b""])
def test_a_damaged_file_changes_nothing(tmp_path, damage):
    training = Training()
    go.static.save(training.main, tmp_path / "m", scope=training.scope)
    file = tmp_path / "m.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    before = training.values()
    with pytest.raises(errors.FileError, match="not a whole safetensors file"):
        go.static.load(training.main, tmp_path / "m", scope=training.scope)
    for name, value in training.values().items():
        np.testing.assert_array_equal(value, before[name])


def test_paths(tmp_path):
    training = Training()
    with pytest.raises(FileNotFoundError):
        go.static.load(training.main, tmp_path / "nothing", scope=training.scope)
    with pytest.raises(ValueError, match="not a path"):
        go.static.save(training.main, "", scope=training.scope)
    with pytest.raises(TypeError):
        go.static.save(training.main, 3, scope=training.scope)  # type: ignore[arg-type]
    with pytest.raises(errors.StateError):
        go.static.save(training.main, tmp_path / "m", scope=go.static.Scope())
    assert list(tmp_path.iterdir()) == []
