"""Learning rates that change, groups, and state that moves between optimizers."""

from typing import Any

import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from tests.helpers import held

OPTIMIZERS = {
    "ASGD": lambda: go.optimizer.ASGD(0.1, batch_num=3),
    "Adadelta": lambda: go.optimizer.Adadelta(0.1),
    "Adagrad": lambda: go.optimizer.Adagrad(0.1),
    "Adam": lambda: go.optimizer.Adam(0.1),
    "AdamW": lambda: go.optimizer.AdamW(0.1),
    "Adamax": lambda: go.optimizer.Adamax(0.1),
    "Lamb": lambda: go.optimizer.Lamb(0.1),
    "Momentum": lambda: go.optimizer.Momentum(0.1),
    "NAdam": lambda: go.optimizer.NAdam(0.1),
    "RAdam": lambda: go.optimizer.RAdam(0.1),
    "RMSProp": lambda: go.optimizer.RMSProp(0.1, centered=True),
    "Rprop": lambda: go.optimizer.Rprop(0.1),
    "SGD": lambda: go.optimizer.SGD(0.1),
}


class Model:
    """Mean of g w, so that the gradient of w is what is fed."""

    def __init__(self, optimizer, name="w"):
        self.optimizer = optimizer
        self.main, self.startup = go.static.Program(), go.static.Program()
        with go.static.program_guard(self.main, self.startup):
            g = go.static.data("g", [3])
            start = go.nn.initializer.Assign([1.0, -2.0, 3.0])
            self.w = go.create_parameter([3], "float32", name=name, default_initializer=start)
            self.loss = go.sum(g * self.w)
            self.minimized = optimizer.minimize(self.loss)
        self.scope, self.exe = go.static.Scope(), go.static.Executor()
        self.exe.run(self.startup, scope=self.scope)

    def step(self, value):
        feed = {"g": np.full(3, value, "f4")}
        self.exe.run(self.main, feed=feed, scope=self.scope)
        return held(self.scope, "w")


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_state_moves_to_another_optimizer(kind):
    first = Model(OPTIMIZERS[kind]())
    for value in (0.5, -1.0, 2.0, 0.25):
        first.step(value)
    state = first.optimizer.state_dict(first.scope)
    assert all(name.startswith("w_") and name.endswith("_0") for name in state)
    expected = [first.step(v) for v in (1.0, -0.5)]

    second = Model(OPTIMIZERS[kind]())
    for value in (0.5, -1.0, 2.0, 0.25):
        second.step(value)  # brings w to the same place, with the same state: overwritten below
    second.optimizer.set_state_dict({k: np.zeros_like(v) for k, v in state.items()}, second.scope)
    second.optimizer.set_state_dict(state, second.scope)
    np.testing.assert_array_equal([second.step(v) for v in (1.0, -0.5)], expected)


def test_state_loaded_before_minimize_is_where_startup_begins():
    first = Model(go.optimizer.ASGD(0.1, batch_num=3))
    first.step(2.0)
    optimizer = go.optimizer.ASGD(0.1, batch_num=3)
    optimizer.set_state_dict(first.optimizer.state_dict(first.scope))
    assert set(optimizer.state_dict()) == {"w_d_0", "w_y_0", "w_m_0"}
    second = Model(optimizer)
    np.testing.assert_array_equal(held(second.scope, "w_y_0"), held(first.scope, "w_y_0"))
    assert held(second.scope, "w_m_0") == [1]


def test_the_second_optimizer_of_a_program_has_the_same_keys():
    model = Model(go.optimizer.ASGD(0.1, batch_num=2))
    other = go.optimizer.ASGD(0.1, batch_num=2, name="slow")
    with go.static.program_guard(model.main, model.startup):
        other.minimize(model.loss)
    model.exe.run(model.startup, scope=model.scope)
    assert set(other.state_dict(model.scope)) == set(model.optimizer.state_dict(model.scope))


def test_missing_and_misshapen_state_changes_nothing():
    model = Model(go.optimizer.ASGD(0.1, batch_num=3))
    state = model.optimizer.state_dict(model.scope)
    with pytest.raises(errors.StateError, match="lacks w_m_0"):
        model.optimizer.set_state_dict(
            {k: v for k, v in state.items() if "_m_" not in k}, model.scope
        )
    with pytest.raises(errors.StateError, match="another shape"):
        model.optimizer.set_state_dict({**state, "w_y_0": np.ones((9, 3), "f4")}, model.scope)
    np.testing.assert_array_equal(held(model.scope, "w_y_0"), 0)
    fresh = go.optimizer.ASGD(0.1, batch_num=3)
    fresh.set_state_dict({"other_d_0": np.zeros(3)})
    with pytest.raises(errors.StateError, match="lacks w_d_0"):
        Model(fresh)


def test_a_scheduler_travels_with_the_state():
    schedule = go.optimizer.lr.StepDecay(0.4, step_size=1, gamma=0.5)
    model = Model(go.optimizer.Momentum(schedule))
    schedule.step()
    state = model.optimizer.state_dict(model.scope)
    assert state["LR_Scheduler"]["last_epoch"] == 1
    other = go.optimizer.lr.StepDecay(0.4, step_size=1, gamma=0.5)
    second = Model(go.optimizer.Momentum(other))
    second.optimizer.set_state_dict(state, second.scope)
    assert (other.last_epoch, second.optimizer.get_lr()) == (1, 0.2)
    with pytest.raises(errors.StateError, match="LR_Scheduler"):
        second.optimizer.set_state_dict({"w_velocity_0": np.zeros(3)}, second.scope)


def test_half_precision_copies_travel_too():
    main, startup = go.static.Program(), go.static.Program()
    optimizer = go.optimizer.SGD(0.5, multi_precision=True)
    with go.static.program_guard(main, startup):
        w = go.create_parameter([2], "float16", name="w")
        optimizer.minimize(go.sum(w))
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    state = optimizer.state_dict(scope)
    assert state["master_weights"]["w"].dtype == np.float32
    optimizer.set_state_dict({"master_weights": {"w": np.array([4.0, 5.0], "f4")}}, scope)
    exe.run(main, scope=scope)
    np.testing.assert_array_equal(held(scope, "w"), np.array([3.5, 4.5], "f2"))


def test_every_run_uses_the_current_rate():
    schedule = go.optimizer.lr.StepDecay(0.5, step_size=2, gamma=0.1)
    model = Model(go.optimizer.SGD(schedule))
    seen = []
    for _ in range(5):
        before = held(model.scope, "w")
        seen.append(float((before - model.step(1.0))[0]))
        assert held(model.scope, "learning_rate_0") == np.float32(schedule())
        schedule.step()
    np.testing.assert_allclose(seen, [0.5, 0.5, 0.05, 0.05, 0.005], rtol=1e-4)


def test_all_schedulers_of_a_program_are_followed():
    main, startup = go.static.Program(), go.static.Program()
    one, two = (go.optimizer.lr.StepDecay(r, step_size=1, gamma=0.5) for r in (1.0, 0.5))
    with go.static.program_guard(main, startup):
        a, b = (go.create_parameter([1], "float32", name=n) for n in "ab")
        go.optimizer.SGD(one).minimize(go.sum(a))
        go.optimizer.SGD(two).minimize(go.sum(b))
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    one.step()
    before = held(scope, "a"), held(scope, "b")
    exe.run(main, scope=scope)
    np.testing.assert_allclose(before[0] - held(scope, "a"), 0.5, rtol=1e-6)
    np.testing.assert_allclose(before[1] - held(scope, "b"), 0.5, rtol=1e-6)


def test_set_lr():
    model = Model(go.optimizer.SGD(0.5))
    for rate in (0.25, 1):
        model.optimizer.set_lr(rate)
        assert model.optimizer.get_lr() == rate
        before = held(model.scope, "w")
        np.testing.assert_allclose(before - model.step(1.0), rate, rtol=1e-5)
    for wrong in (np.float32(0.1), "0.1", None):
        with pytest.raises(TypeError, match="set_lr"):
            model.optimizer.set_lr(wrong)


def test_set_lr_scheduler():
    model = Model(go.optimizer.SGD(0.5))
    schedule = go.optimizer.lr.MultiStepDecay(0.5, milestones=[1, 2], gamma=0.8)
    model.optimizer.set_lr_scheduler(schedule)
    schedule.step()
    assert model.optimizer.get_lr() == pytest.approx(0.4)
    before = held(model.scope, "w")
    np.testing.assert_allclose(before - model.step(1.0), 0.4, rtol=1e-5)
    with pytest.raises(RuntimeError, match="follows a scheduler"):
        model.optimizer.set_lr(0.1)
    with pytest.raises(TypeError, match="LRScheduler"):
        model.optimizer.set_lr_scheduler(0.1)


GROUP_ERRORS: dict[str, Any] = {
    "no params": ([{"weight_decay": 0.1}], ValueError),
    "unknown setting": ([{"params": [], "batch_num": 3}], ValueError),
    "a set": ([{"params": set()}], TypeError),
    "not a dict": ([{"params": []}, 3], TypeError),
    "a scheduler": ([{"params": [], "learning_rate": go.optimizer.lr.NoamDecay(2, 3)}], TypeError),
    "no clip": ([{"params": [], "grad_clip": 3}], TypeError),
}


@pytest.mark.parametrize("kind", GROUP_ERRORS)
def test_group_errors(kind):
    groups, error = GROUP_ERRORS[kind]
    with pytest.raises(error):
        go.optimizer.SGD(0.1, parameters=groups)


def test_a_parameter_is_in_one_group_and_group_settings_win():
    own = go.ParamAttr(learning_rate=5.0, regularizer=go.regularizer.L1Decay(1.0))
    a = go.create_parameter([2], "float32", attr=own)
    with pytest.raises(ValueError, match="more than one group"):
        go.optimizer.SGD(0.1, parameters=[{"params": [a]}, {"params": [a]}])
    go.optimizer.SGD(0.1, parameters=[{"params": [a], "learning_rate": 0.5, "weight_decay": 1}])
    assert a.regularizer is None
    assert a.optimize_attr == {"learning_rate": 0.5}


@pytest.mark.parametrize(
    ("kind", "arguments", "error"),
    [
        ("Adam", {"beta1": 1.0}, ValueError),
        ("Adam", {"beta2": -0.1}, ValueError),
        ("Adam", {"epsilon": -1.0}, ValueError),
        ("Adam", {"beta1": None}, ValueError),
        ("AdamW", {"weight_decay": "0.1"}, TypeError),
        ("AdamW", {"apply_decay_param_fun": 3}, TypeError),
        ("Lamb", {"exclude_from_weight_decay_fn": "w"}, TypeError),
        ("RMSProp", {"learning_rate": 0.1, "rho": None}, ValueError),
        ("RMSProp", {"learning_rate": 0.1, "momentum": -1.0}, ValueError),
        ("Momentum", {"momentum": None}, TypeError),
        ("Rprop", {"etas": (1.5, 1.2)}, ValueError),
        ("Rprop", {"learning_rate_range": (0.0, 1.0)}, ValueError),
        ("Adagrad", {"learning_rate": None}, ValueError),
    ],
)
def test_hyper_parameters_are_checked(kind, arguments, error):
    with pytest.raises(error) as found:
        getattr(go.optimizer, kind)(**arguments)
    assert isinstance(found.value, errors.GraphoptError)


def test_adamw_factors_and_momentum_rescaling():
    ratio = Model(go.optimizer.AdamW(0.1, weight_decay=0.0, lr_ratio=lambda p: 0.5))
    plain = Model(go.optimizer.AdamW(0.05, weight_decay=0.0))
    np.testing.assert_allclose(ratio.step(1.0), plain.step(1.0), rtol=1e-6)
    scaled = Model(go.optimizer.Momentum(0.1, rescale_grad=0.5))
    half = Model(go.optimizer.Momentum(0.1))
    np.testing.assert_allclose(scaled.step(1.0), half.step(0.5), rtol=1e-6)


def test_adamw_with_amsgrad_decays_and_scales_its_rate():
    options: Any = {"weight_decay": 0.5, "lr_ratio": lambda p: 0.5}
    plain = Model(go.optimizer.AdamW(0.1, **options)).step(1.0)
    top = Model(go.optimizer.AdamW(0.1, amsgrad=True, **options)).step(1.0)
    np.testing.assert_allclose(top, plain, rtol=1e-6)  # the first s is the largest so far


def test_a_rate_set_after_cloning_holds_in_the_clone():
    model = Model(go.optimizer.SGD(0.5))
    clone = model.main.clone()
    model.optimizer.set_lr(0.25)
    before = held(model.scope, "w")
    model.exe.run(clone, feed={"g": np.ones(3, "f4")}, scope=model.scope)
    np.testing.assert_allclose(before - held(model.scope, "w"), 0.25, rtol=1e-5)


def test_a_rate_that_the_user_puts_in_the_scope_is_kept():
    model = Model(go.optimizer.SGD(0.5))
    model.scope.put("learning_rate_0", np.array(0.125, "f4"))
    before = held(model.scope, "w")
    np.testing.assert_allclose(before - model.step(1.0), 0.125, rtol=1e-5)


def test_minimizing_many_parameters_is_not_quadratic():
    import time

    def seconds(count):
        main, startup = go.static.Program(), go.static.Program()
        with go.static.program_guard(main, startup):
            loss = go.sum(
                go.stack([go.sum(go.create_parameter([1], "float32")) for _ in range(count)])
            )
            start = time.process_time()
            go.optimizer.Adam(0.1).minimize(loss)
        return time.process_time() - start

    seconds(10)
    few, many = (min(seconds(count) for _ in range(3)) for count in (100, 400))
    assert many < 10 * few  # 4 times if it is linear, 16 times if it is quadratic
