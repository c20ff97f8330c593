"""Steps as convolutions: which parameters take them, and that they may be written over."""

import pytest

from graphopt.passes.memory.overwrite import Donate, InPlace
from graphopt.passes.memory.step_in_blocks import StepInBlocks
from tests.passes.both_runtimes import as_step

HEADER = """
param w : f32[64, 32]
param odd : f32[7, 19]
param thin : f32[16, 31]
param double : f64[64, 32]
state v : f32[64, 32]
state m : f32[64, 32]
state s : f32[64, 32]
state b1 : f32[1]
state b2 : f32[1]
state lr : f32[]
state lr64 : f64[]
feed x : f32[5, 64]
feed dy : f32[5, 32]
feed g : f32[64, 32]
feed dodd : f32[7, 19]
feed dthin : f32[16, 31]
feed ddouble : f64[64, 32]
-- update
"""
TAKEN = {
    "SGD": "w <- SGD(w, g, lr)\n",
    "Momentum": "w, v <- Momentum(w, g, v, lr)\n",
    "a row of ASGD": "w, v <- ASGDRow(w, g, v, m, lr)\n",
    "the rest of ASGD": "w, v <- ASGDSum(w, g, m, lr)\n",
    "factors": "w, v <- ASGDFactors(w, v, x, dy, lr)\n",
}
LEFT = {
    "another rule": "w, m, s, b1, b2 <- Adam(w, g, m, s, b1, b2, lr)\n",
    "a size that is no whole blocks": "odd <- SGD(odd, dodd, lr)\n",
    "a narrow image": "thin <- SGD(thin, dthin, lr)\n",
    "double precision": "double <- SGD(double, ddouble, lr64)\n",
    "what is read behind": "w <- SGD(w, g, lr)\n-- forward\ne : f32[64, 32] = Exp(w)\n",
    "what is assigned again": "w <- SGD(w, g, lr)\nw <- Neg(w)\n",
}


def in_blocks(step):
    """The names of the parameters whose next values have the shape of an image."""
    return {v.name: new.name for v, new in step.next_state.items() if new.shape != v.shape}


def donated(step):
    return {v.name for v in Donate(least=0).run(step).donated}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name):
    step = StepInBlocks(block=16, least=0).run(as_step(HEADER + TAKEN[name]))
    assert in_blocks(step) == {"w": "w@STEP"}
    (conv,) = [op for op in step.global_block().ops if op.type.endswith("::Conv")]
    assert conv.outputs[0] is step.next_state[step.global_block().var("w")]
    assert conv.outputs[0].shape == (1, 16, 16, 8)
    assert "w" in donated(step)
    assert not step.global_block().has_var("w@NEXT")


@pytest.mark.parametrize("name", LEFT)
def test_left(name):
    assert in_blocks(StepInBlocks(block=16, least=0).run(as_step(HEADER + LEFT[name]))) == {}


@pytest.mark.parametrize("arguments", [{"block": 0}, {"least": 2049}])
def test_left_alone_where_it_is_not_asked_for(arguments):
    step = as_step(HEADER + TAKEN["SGD"])
    pass_ = StepInBlocks(**{"block": 16, "least": 0, **arguments})
    assert not pass_.needed(step)
    assert pass_.run(step).text() == step.text()


def test_a_next_value_that_is_fetched_is_left_as_it_is():
    step = as_step(HEADER + TAKEN["SGD"], "w")
    assert StepInBlocks(block=16, least=0).run(step).text() == step.text()


def test_a_step_waits_for_the_last_read():
    ops = "dx : f32[5, 64] = Gemm(dy, w, transB=1)\n-- update\n" + TAKEN["SGD"]
    step = as_step(HEADER.replace("-- update\n", "") + ops)
    in_blocks = StepInBlocks(block=16, least=0)
    assert "w" not in donated(in_blocks.run(step))
    assert "w" in donated(in_blocks.run(InPlace(least=0).run(step)))
