"""Value numbering: what is recorded twice is recorded once."""

import numpy as np
import pytest

from graphopt.ir.model.operator import Role
from graphopt.ir.text.parse import parse_step
from graphopt.passes.engine.values import SharingTape


@pytest.fixture
def step():
    return parse_step("step\nfeed x : f32[2, 3]\nfeed z : f32[2, 3]\ny : f32[2, 3] = Exp(x)\n-> y")


def tapes(step):
    """Endless tapes that share what they splice."""
    known: dict = {}
    while True:
        yield SharingTape(step.global_block(), known, role=Role.FORWARD, made_by="test")


def test_equal_ops_of_one_tape_are_one(step):
    g, x = next(tapes(step)), step.global_block().var("x")
    assert g.ReduceSum(x, [0], keepdims=0) is g.ReduceSum(x, [0], keepdims=0)
    assert g.Split(x, axis=1, num_outputs=3, outputs=3) == g.Split(
        x, axis=1, num_outputs=3, outputs=3
    )


@pytest.mark.parametrize(
    "other",
    [
        lambda g, x, z: g.ReduceSum(z, [0], keepdims=0),
        lambda g, x, z: g.ReduceSum(x, [1], keepdims=0),
        lambda g, x, z: g.ReduceSum(x, [0], keepdims=1),
        lambda g, x, z: g.ReduceMean(x, [0], keepdims=0),
        lambda g, x, z: g.ReduceSum(x, [0], keepdims=0, names=["named"]),
    ],
)
def test_other_operands_attributes_types_and_names_are_other_ops(step, other):
    g = next(tapes(step))
    x, z = step.global_block().var("x"), step.global_block().var("z")
    assert g.ReduceSum(x, [0], keepdims=0) is not other(g, x, z)
    assert len(g.scratch) == 2


def test_named_results_are_made_each_time(step):
    g, x = next(tapes(step)), step.global_block().var("x")
    assert g.Neg(x, names=["n"]) is not g.Neg(x, names=["n"])


@pytest.mark.parametrize("zero", [float, np.float32, lambda v: np.full(3, v)])
def test_zeros_of_two_signs_are_two_values(step, zero):
    g, x = next(tapes(step)), step.global_block().var("x")
    assert g.Div(x, zero(0.0)) is not g.Div(x, zero(-0.0))


def test_a_spliced_op_is_shared_with_later_tapes_and_a_dropped_one_is_not(step):
    some, x = tapes(step), step.global_block().var("x")
    first = next(some)
    kept, dropped = first.Neg(x), first.Abs(x)
    first.splice([kept])
    second = next(some)
    assert second.Neg(x) is kept
    assert second.Abs(x) is not dropped
    assert [op.type for op in second.scratch] == ["Abs"]


def test_what_an_op_makes_now_is_shared(step):
    """The op's result may have become another's, as where a formulation makes it."""
    some, block = tapes(step), step.global_block()
    first, x = next(some), block.var("x")
    made = first.Neg(x)
    (op,) = first.scratch
    own = block.create_var(name="own", shape=[2, 3])
    op.outputs = [own]
    first.splice([own])
    assert next(some).Neg(x) is own is not made


def test_an_op_that_was_given_another_result_is_shared_as_it_was_asked_for(step):
    g, x = next(tapes(step)), step.global_block().var("x")
    dropped = g.Dropout(x)
    (op,) = g.scratch
    g.splice([dropped, g.result_of(op, "mask")])
    assert len(op.outputs) == 2
    assert g.Dropout(x) is dropped
