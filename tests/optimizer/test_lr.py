"""The rates of schedules, beginning with Paddle's tables."""

import math
from typing import Any

import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from graphopt.optimizer import lr
from tests.optimizer.schedules import TABLES, advance, build, expected_rates, rates


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table["id"])
def test_rates_and_state_are_paddles(table):
    schedule = build(table["scheduler"])
    found = [schedule(), *advance(schedule, table["calls"])]
    np.testing.assert_allclose(found, expected_rates(table), rtol=1e-12, atol=1e-15)
    assert all(type(rate) is float for rate in found)
    assert_same_state(schedule.state_dict(), table["state_dict_after"])


def assert_same_state(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        if isinstance(value, dict):
            assert_same_state(found[key], value)
        else:
            assert found[key] == pytest.approx(value, rel=1e-12, abs=1e-15)


def test_every_class_has_a_table():
    covered = {table["scheduler"]["$lr"] for table in TABLES}
    assert covered == set(lr.__all__) - {"LRScheduler"}


def test_base_class_needs_get_lr():
    with pytest.raises(NotImplementedError):
        lr.LRScheduler()


def test_get_lr_computes():
    schedule = lr.ExponentialDecay(0.5, 0.9)
    schedule.step(3)
    schedule.last_epoch = 4
    assert schedule() == pytest.approx(0.5 * 0.9**3)
    assert schedule.get_lr() == pytest.approx(0.5 * 0.9**4)


def test_a_boundary_below_an_earlier_one_is_never_met():
    schedule = lr.PiecewiseDecay([4, 2], [0.4, 0.2, 0.1])
    assert rates(schedule, 5) == [0.4, 0.4, 0.4, 0.4, 0.1, 0.1]


def test_spare_values_of_piecewise_decay_end_with_the_last():
    assert rates(lr.PiecewiseDecay([1], [0.4, 0.2, 0.1]), 2) == [0.4, 0.1, 0.1]


@pytest.mark.parametrize(
    ("make", "formula"),
    [
        (lambda k: lr.CosineAnnealingDecay(0.5, 8, last_epoch=k), lambda e: wave(e / 8) / 2),
        (lambda k: lr.LinearLR(0.6, 8, last_epoch=k), lambda e: 0.2 + 0.4 * min(e, 8) / 8),
        (
            lambda k: lr.CosineAnnealingWarmRestarts(0.5, 3, 2, last_epoch=k),
            lambda e: wave(e / 3 if e < 3 else (e - 3) / 6) / 2,
        ),
    ],
    ids=["cosine", "linear", "restarts"],
)
def test_a_resumed_schedule_is_on_its_curve(make, formula):
    expected = [formula(e) for e in range(5, 9)]
    np.testing.assert_allclose(rates(make(4), 3), expected, atol=1e-15)


def wave(t):
    return (1 + math.cos(math.pi * t)) / 2


def test_linear_goes_on_from_a_given_epoch():
    schedule = lr.LinearLR(0.5, 10, start_factor=0.5)
    schedule.step(6)
    schedule.step()
    assert schedule() == pytest.approx(0.5 * (0.5 + 0.5 * 0.7))


def test_restarts_tell_where_they_are():
    schedule = lr.CosineAnnealingWarmRestarts(0.5, 2, 3)
    seen = []
    for _ in range(10):
        seen.append((schedule.T_cur, schedule.T_i))
        schedule.step()
    assert seen == [(0, 2), (1, 2), *[(k, 6) for k in range(6)], (0, 18), (1, 18)]


def test_multiplicative_decay_calls_its_function_once_a_step():
    calls = []

    def halve(epoch):
        calls.append(epoch)
        return 0.5

    schedule = lr.MultiplicativeDecay(1.0, halve)
    rates(schedule, 4)
    assert calls == [1, 2, 3, 4]
    schedule.step(2)
    assert schedule() == 0.25
    assert calls == [1, 2, 3, 4, 1, 2]


@pytest.mark.parametrize("three_phase", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_one_cycle_of_few_steps_has_finite_rates(steps, share, three_phase):
    if three_phase and share >= 0.5:
        return
    schedule = lr.OneCycleLR(0.5, steps, phase_pct=share, three_phase=three_phase)
    found = rates(schedule, steps)
    assert np.isfinite(found).all()
    assert found[steps - 1] == pytest.approx(0.5 if share == 1.0 else 1e-4)


def test_cyclic_scale_of_the_iterations():
    by_function = lr.CyclicLR(
        0.1, 0.5, 3, 2, mode="unread", scale_fn=lambda e: 0.9**e, scale_mode="iterations"
    )
    built_in = lr.CyclicLR(0.1, 0.5, 3, 2, mode="exp_range", exp_gamma=0.9)
    np.testing.assert_allclose(rates(by_function, 12), rates(built_in, 12), rtol=1e-14)


def test_verbose_prints_every_step(capsys):
    schedule = lr.StepDecay(0.5, 1, gamma=0.5, verbose=True)
    schedule.step()
    schedule.step(4)
    assert capsys.readouterr().out == (
        "Epoch 0: StepDecay set learning rate to 0.5.\n"
        "Epoch 1: StepDecay set learning rate to 0.25.\n"
        "Epoch 4: StepDecay set learning rate to 0.03125.\n"
    )


@pytest.mark.parametrize("metric", [1, 1.0, np.float32(1), np.array(1.0), np.array([[1.0]], "f4")])
def test_plateau_takes_one_number(metric):
    schedule = lr.ReduceOnPlateau(0.5)
    schedule.step(metric)
    assert schedule.best == 1.0
    assert schedule.last_epoch == 1


@pytest.mark.parametrize(
    ("metric", "error"),
    [
        ("1.0", errors.ArgumentTypeError),
        (None, errors.ArgumentTypeError),
        ([1.0], errors.ArgumentTypeError),
        (np.ones(2), errors.ArgumentError),
    ],
)
def test_plateau_refuses_what_is_not_a_number(metric, error):
    schedule = lr.ReduceOnPlateau(0.5)
    with pytest.raises(error):
        schedule.step(metric)
    assert schedule.last_epoch == 0


def test_plateau_refuses_a_variable():
    loss: Any = go.mean(go.static.data("x", [2]))
    with pytest.raises(errors.ArgumentTypeError, match="has no value"):
        lr.ReduceOnPlateau(0.5).step(loss)


def test_plateau_does_not_compare_while_it_cools_down():
    schedule = lr.ReduceOnPlateau(0.8, factor=0.5, patience=0, cooldown=2)
    for metric in [1.0, 2.0, 0.1, 0.1]:  # the two 0.1 are not looked at
        schedule.step(metric)
    assert (schedule(), schedule.best) == (0.4, 1.0)


@pytest.mark.parametrize(
    ("mode", "metric", "better"),
    [("min", -0.95, True), ("min", -0.85, False), ("MAX", -1.05, True), ("MAX", -1.15, False)],
)
def test_relative_threshold_of_a_negative_best(mode, metric, better):
    """The bar is best -+ best * threshold: below 0 it is on the other side of the best."""
    schedule = lr.ReduceOnPlateau(0.5, mode=mode, threshold=0.1)
    schedule.step(-1.0)
    schedule.step(metric)
    assert schedule.best == (metric if better else -1.0)


def test_plateau_prints_only_when_the_rate_changes(capsys):
    schedule = lr.ReduceOnPlateau(0.5, factor=0.5, patience=0, verbose=True)
    schedule.step(1.0)
    schedule.step(1.0)
    schedule.step(0.5, epoch=7)
    assert capsys.readouterr().out == "Epoch 2: ReduceOnPlateau set learning rate to 0.25.\n"
    assert schedule.last_epoch == 7


def test_warm_up_leaves_the_steps_of_a_plateau_to_the_caller():
    plateau = lr.ReduceOnPlateau(0.4, factor=0.5, patience=0)
    schedule = lr.LinearWarmup(plateau, 2, 0.0, 0.4)
    assert rates(schedule, 5) == [0.0, 0.2, 0.4, 0.4, 0.4, 0.4]
    plateau.step(1.0)
    plateau.step(1.0)
    schedule.step()
    assert schedule() == 0.2


def test_warm_ups_nest():
    inner = lr.LinearWarmup(0.8, 2, 0.4, 0.8)
    assert rates(lr.LinearWarmup(inner, 2, 0.0, 0.4), 5) == pytest.approx(
        [0.0, 0.2, 0.4, 0.6, 0.8, 0.8]
    )
