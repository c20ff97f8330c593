"""What schedules refuse, and how their state is saved and restored."""

import json
import warnings

import numpy as np
import pytest

from graphopt import errors
from graphopt.optimizer import lr
from tests.optimizer.schedules import TABLES, advance, build, rates

BASE = {"gamma": 0.5}
REFUSED = [
    ("NoamDecay", {"d_model": 0, "warmup_steps": 2}, ValueError),
    ("NoamDecay", {"d_model": 8, "warmup_steps": 0}, ValueError),
    ("PiecewiseDecay", {"boundaries": [], "values": [0.1]}, ValueError),
    ("PiecewiseDecay", {"boundaries": [1, 2], "values": [0.1, 0.2]}, ValueError),
    ("NaturalExpDecay", {"learning_rate": 0.1, "gamma": 0.0}, ValueError),
    ("NaturalExpDecay", {"learning_rate": "0.1", **BASE}, TypeError),
    ("NaturalExpDecay", {"learning_rate": np.float32(0.1), **BASE}, TypeError),
    ("NaturalExpDecay", {"learning_rate": -0.1, **BASE}, ValueError),
    ("ExponentialDecay", {"learning_rate": 0.1, "gamma": 1.0}, ValueError),
    ("ExponentialDecay", {"learning_rate": 0.1, "gamma": 0.0}, ValueError),
    ("PolynomialDecay", {"learning_rate": 0.1, "decay_steps": 0}, ValueError),
    ("PolynomialDecay", {"learning_rate": 0.1, "decay_steps": 2.5}, ValueError),
    ("PolynomialDecay", {"learning_rate": 0.1, "decay_steps": 2, "power": 0.0}, ValueError),
    (
        "LinearWarmup",
        {"learning_rate": "0.1", "warmup_steps": 2, "start_lr": 0.0, "end_lr": 0.1},
        TypeError,
    ),
    (
        "LinearWarmup",
        {"learning_rate": 0.1, "warmup_steps": 2.0, "start_lr": 0.0, "end_lr": 0.1},
        ValueError,
    ),
    (
        "LinearWarmup",
        {"learning_rate": 0.1, "warmup_steps": 2, "start_lr": 0.1, "end_lr": 0.1},
        ValueError,
    ),
    ("MultiStepDecay", {"learning_rate": 0.1, "milestones": {1, 2}}, TypeError),
    ("MultiStepDecay", {"learning_rate": 0.1, "milestones": [2, 2]}, ValueError),
    ("MultiStepDecay", {"learning_rate": 0.1, "milestones": [2], "gamma": 1.0}, ValueError),
    ("StepDecay", {"learning_rate": 0.1, "step_size": 2.0}, TypeError),
    ("StepDecay", {"learning_rate": 0.1, "step_size": 0}, ValueError),
    ("StepDecay", {"learning_rate": 0.1, "step_size": 2, "gamma": 1.0}, ValueError),
    ("LambdaDecay", {"learning_rate": 0.1, "lr_lambda": 0.5}, TypeError),
    ("MultiplicativeDecay", {"learning_rate": 0.1, "lr_lambda": 0.5}, TypeError),
    ("ReduceOnPlateau", {"learning_rate": "0.1"}, TypeError),
    ("ReduceOnPlateau", {"learning_rate": 0.1, "mode": "mean"}, ValueError),
    ("ReduceOnPlateau", {"learning_rate": 0.1, "threshold_mode": "both"}, ValueError),
    ("ReduceOnPlateau", {"learning_rate": 0.1, "factor": 1.0}, ValueError),
    ("CosineAnnealingDecay", {"learning_rate": 0.1, "T_max": 2.0}, TypeError),
    ("CosineAnnealingDecay", {"learning_rate": 0.1, "T_max": 2, "eta_min": "0"}, TypeError),
    ("CosineAnnealingDecay", {"learning_rate": 0.1, "T_max": 0}, ValueError),
    ("CosineAnnealingWarmRestarts", {"learning_rate": 0.1, "T_0": 0}, ValueError),
    ("CosineAnnealingWarmRestarts", {"learning_rate": 0.1, "T_0": 2.0}, ValueError),
    ("CosineAnnealingWarmRestarts", {"learning_rate": 0.1, "T_0": 2, "T_mult": 0}, ValueError),
    ("CosineAnnealingWarmRestarts", {"learning_rate": 0.1, "T_0": 2, "T_mult": 1.5}, ValueError),
    ("LinearLR", {"learning_rate": 0.1, "total_steps": 0}, ValueError),
    ("LinearLR", {"learning_rate": 0.1, "total_steps": 2, "start_factor": 0.0}, ValueError),
    ("LinearLR", {"learning_rate": 0.1, "total_steps": 2, "end_factor": 1.5}, ValueError),
    ("OneCycleLR", {"max_learning_rate": "0.1", "total_steps": 4}, TypeError),
    ("OneCycleLR", {"max_learning_rate": -0.1, "total_steps": 4}, ValueError),
    ("OneCycleLR", {"max_learning_rate": 0.1, "total_steps": 4.0}, TypeError),
    ("OneCycleLR", {"max_learning_rate": 0.1, "total_steps": 0}, ValueError),
    ("OneCycleLR", {"max_learning_rate": 0.1, "total_steps": 4, "divide_factor": "5"}, TypeError),
    ("OneCycleLR", {"max_learning_rate": 0.1, "total_steps": 4, "divide_factor": 0}, ValueError),
    (
        "OneCycleLR",
        {"max_learning_rate": 0.1, "total_steps": 4, "end_learning_rate": -1.0},
        ValueError,
    ),
    ("OneCycleLR", {"max_learning_rate": 0.1, "total_steps": 4, "phase_pct": 1}, TypeError),
    ("OneCycleLR", {"max_learning_rate": 0.1, "total_steps": 4, "phase_pct": 1.5}, ValueError),
    (
        "OneCycleLR",
        {"max_learning_rate": 0.1, "total_steps": 4, "phase_pct": 0.5, "three_phase": True},
        ValueError,
    ),
    (
        "OneCycleLR",
        {"max_learning_rate": 0.1, "total_steps": 4, "anneal_strategy": "exp"},
        ValueError,
    ),
    ("CyclicLR", {"max_learning_rate": "0.5", "step_size_up": 2}, TypeError),
    ("CyclicLR", {"max_learning_rate": -0.5, "step_size_up": 2}, ValueError),
    ("CyclicLR", {"max_learning_rate": 0.5, "step_size_up": 2.0}, TypeError),
    ("CyclicLR", {"max_learning_rate": 0.5, "step_size_up": 0}, ValueError),
    ("CyclicLR", {"max_learning_rate": 0.5, "step_size_up": 2, "step_size_down": 0}, ValueError),
    ("CyclicLR", {"max_learning_rate": 0.5, "step_size_up": 2, "exp_gamma": 1}, TypeError),
    ("CyclicLR", {"max_learning_rate": 0.5, "step_size_up": 2, "mode": "square"}, ValueError),
    ("CyclicLR", {"max_learning_rate": 0.5, "step_size_up": 2, "scale_mode": "x"}, ValueError),
]


@pytest.mark.parametrize(("name", "arguments", "kind"), REFUSED)
def test_refused(name, arguments, kind):
    if name == "CyclicLR":
        arguments = {"base_learning_rate": 0.1, **arguments}
    with pytest.raises(errors.GraphoptError) as caught:
        getattr(lr, name)(**arguments)
    assert isinstance(caught.value, kind)
    assert any(argument in caught.value.what for argument in arguments)


def test_one_cycle_ends():
    schedule = lr.OneCycleLR(0.5, total_steps=3)
    rates(schedule, 3)
    before = schedule.state_dict()
    with pytest.raises(errors.ArgumentError, match="at most 3"):
        schedule.step()
    assert schedule.state_dict() == before


def test_restarts_have_no_negative_epoch():
    with pytest.raises(errors.ArgumentError, match="at least 0"):
        lr.CosineAnnealingWarmRestarts(0.5, 2).step(-1)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table["id"])
def test_a_restored_schedule_goes_on_as_the_saved_one(table):
    calls = table["calls"]
    half = len(calls) // 2
    saved, restored = build(table["scheduler"]), build(table["scheduler"])
    advance(saved, calls[:half])
    restored.set_dict(json.loads(json.dumps(saved.state_dict())))
    assert restored() == saved()
    np.testing.assert_array_equal(advance(restored, calls[half:]), advance(saved, calls[half:]))
    assert restored.state_dict() == saved.state_dict()


def test_the_rate_is_restored_and_not_computed():
    schedule = lr.StepDecay(0.5, 2)
    schedule.set_state_dict({"last_epoch": 9, "last_lr": 0.123})
    assert (schedule(), schedule.last_epoch) == (0.123, 9)


def test_a_missing_entry_is_an_error_and_changes_nothing():
    schedule = lr.StepDecay(0.5, 2)
    with pytest.raises(errors.StateError, match="lacks 'last_lr'") as caught:
        schedule.set_state_dict({"last_epoch": 9})
    assert isinstance(caught.value, RuntimeError)
    assert schedule.state_dict() == {"last_epoch": 0, "last_lr": 0.5}


def test_an_unknown_entry_is_a_warning():
    schedule = lr.StepDecay(0.5, 2)
    with pytest.warns(UserWarning, match="best"):
        schedule.set_state_dict({"last_epoch": 1, "last_lr": 0.5, "best": 3})


def test_warm_up_needs_the_inner_state():
    schedule = lr.LinearWarmup(lr.StepDecay(0.5, 2), 2, 0.0, 0.5)
    with pytest.raises(errors.StateError, match="LinearWarmup_LR"):
        schedule.set_state_dict({"last_epoch": 1, "last_lr": 0.25})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.set_state_dict(schedule.state_dict())


def test_a_subclass_can_have_more_state():
    class Counting(lr.StepDecay):
        seen = 0

        def get_lr(self):
            self.seen += 1
            return super().get_lr()

        def state_keys(self):
            self.keys = ["last_epoch", "last_lr", "seen"]

    schedule = Counting(0.5, 2)
    schedule.step()
    assert schedule.state_dict() == {"last_epoch": 1, "last_lr": 0.5, "seen": 2}
