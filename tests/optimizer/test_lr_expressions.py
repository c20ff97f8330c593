"""Schedules as ops of a step counter: the same rates."""

import math

import numpy as np
import pytest

import graphopt as go
from graphopt.ir.model.operator import Role
from graphopt.ir.model.tape import Tape
from graphopt.optimizer import lr
from tests.optimizer.schedules import TABLES, build, rates

PYTHON_ONLY = {"LambdaDecay", "MultiplicativeDecay", "ReduceOnPlateau"}
RECORDED = [
    table
    for table in TABLES
    if table["scheduler"]["$lr"] not in PYTHON_ONLY and "scale_fn" not in table["scheduler"]
]


class Recorded:
    """A schedule as a Program that maps a counter to the rate."""

    def __init__(self, schedule, dtype="int64"):
        self.program = go.static.Program()
        with go.static.program_guard(self.program):
            self.step = go.static.data("step", [], dtype)
        tape = Tape(self.program.global_block(), role=Role.SCHEDULE)
        self.rate = schedule.expression(tape, self.step)
        self.exe = go.static.Executor()

    def __call__(self, step):
        feed = {"step": np.array(step, self.step.dtype)}
        return self.exe.run(self.program, feed=feed, fetch_list=[self.rate])[0]

    @property
    def types(self):
        return {op.type for op in self.program.global_block().ops}


@pytest.mark.parametrize("table", RECORDED, ids=lambda table: table["id"])
def test_ops_give_the_rate_of_every_step(table):
    schedule = build(table["scheduler"])
    recorded = Recorded(schedule)
    for argument in [*table["calls"], None]:
        rate = recorded(schedule.last_epoch)
        assert rate.dtype == np.float64
        assert rate.shape == ()
        np.testing.assert_allclose(rate, schedule(), rtol=1e-9, atol=1e-15)
        if schedule.last_epoch < getattr(schedule, "total_steps", math.inf):
            schedule.step() if argument is None else schedule.step(argument)


@pytest.mark.parametrize(
    "schedule",
    [
        lr.PiecewiseDecay([4, 2, 9], [0.4, 0.2, 0.1, 0.05]),
        lr.PolynomialDecay(0.5, 6, end_lr=0.1, power=0.5, cycle=True),
        lr.MultiStepDecay(0.5, []),
        lr.OneCycleLR(0.5, 40, anneal_strategy="linear"),
        lr.OneCycleLR(0.5, 40, phase_pct=0.2, three_phase=True),
        lr.OneCycleLR(0.5, 40, phase_pct=1.0),
        lr.CosineAnnealingWarmRestarts(0.5, 3, 3, eta_min=0.1),
        lr.LinearWarmup(lr.LinearWarmup(lr.NoamDecay(16, 5), 3, 0.1, 0.2), 4, 0.0, 0.1),
        lr.LinearWarmup(lr.PolynomialDecay(0.5, 6, power=0.5, cycle=True), 4, 0.0, 0.5),
        lr.StepDecay(0.5, 4, last_epoch=6),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_ops_give_the_rate_where_no_table_does(schedule):
    recorded = Recorded(schedule)
    for _ in range(35):
        rate = recorded(schedule.last_epoch)
        np.testing.assert_allclose(rate, schedule(), rtol=1e-9, atol=1e-15)
        schedule.step()


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_the_counter_may_have_any_number_type(dtype):
    recorded = Recorded(lr.NoamDecay(64, 8), dtype)
    assert recorded(20) == pytest.approx(64**-0.5 * 20**-0.5, rel=1e-12)


def test_ops_of_one_cycle_stay_at_the_last_rate():
    schedule = lr.OneCycleLR(0.5, total_steps=6)
    recorded = Recorded(schedule)
    last = rates(schedule, 6)[-1]
    assert recorded(100) == pytest.approx(last)


@pytest.mark.parametrize("table", RECORDED, ids=lambda table: table["id"])
def test_ops_are_schedule_ops_with_float64_kernels(table):
    recorded = Recorded(build(table["scheduler"]))
    assert all(op.role == Role.SCHEDULE for op in recorded.program.global_block().ops)
    assert "Cos" not in recorded.types  # onnxruntime has had a float64 one for a short time only


class Own(lr.LRScheduler):
    def get_lr(self):
        return 0.1


class Halved(lr.StepDecay):
    def get_lr(self):
        return super().get_lr() / 2


class Slower(lr.StepDecay):
    def step(self, epoch=None):
        super().step(epoch)


class Named(lr.StepDecay):
    """Changes nothing about the rate."""


@pytest.mark.parametrize(
    "schedule",
    [
        lr.ReduceOnPlateau(0.5),
        lr.LambdaDecay(0.5, lambda e: 1.0),
        lr.MultiplicativeDecay(0.5, lambda e: 1.0),
        lr.CyclicLR(0.1, 0.5, 2, scale_fn=lambda e: 1.0),
        lr.LinearWarmup(lr.LambdaDecay(0.5, lambda e: 1.0), 2, 0.0, 0.5),
        Own(),
        Halved(0.5, 2),
        Slower(0.5, 2),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_what_python_decides_is_no_expression(schedule):
    assert Recorded(schedule).rate is None


def test_a_subclass_that_leaves_the_rate_alone_keeps_the_expression():
    assert Recorded(Named(0.5, 2))(2) == pytest.approx(0.05)
