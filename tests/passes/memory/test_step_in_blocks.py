"""Steps as convolutions: which parameters take them, and that they may be written over."""

import pytest

from graphopt.ir.text.parse import parse
from graphopt.passes.memory.overwrite import InPlace, overwritten
from graphopt.passes.memory.step_in_blocks import StepInBlocks, aliases

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


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name):
    program = StepInBlocks(block=16, least=0).run(parse(HEADER + TAKEN[name]))
    assert aliases(program) == {"w@STEP": "w"}
    (step,) = [op for op in program.global_block().ops if op.type.endswith("::Conv")]
    assert step.outputs[0] is not None
    assert step.outputs[0].shape == (1, 16, 16, 8)
    assert "w" in overwritten(program, {}, 0).names
    assert not any(v.name == "w" for op in program.global_block().ops for v in op.writes())


@pytest.mark.parametrize("name", LEFT)
def test_left(name):
    assert aliases(StepInBlocks(block=16, least=0).run(parse(HEADER + LEFT[name]))) == {}


@pytest.mark.parametrize("arguments", [{"block": 0}, {"keep": ("w",)}, {"least": 2049}])
def test_left_alone_where_it_is_not_asked_for(arguments):
    program = parse(HEADER + TAKEN["SGD"])
    assert StepInBlocks(**{"block": 16, "least": 0, **arguments}).run(program) is program


def test_a_step_waits_for_the_last_read():
    ops = "dx : f32[5, 64] = Gemm(dy, w, transB=1)\n-- update\n" + TAKEN["SGD"]
    program = parse(HEADER.replace("-- update\n", "") + ops)
    steps = StepInBlocks(block=16, least=0)
    assert "w" not in overwritten(steps.run(program), {}, 0).names
    assert "w" in overwritten(steps.run(InPlace(least=0).run(program)), {}, 0).names
