"""Slices that share out a tensor become one Split; others stay."""

import pytest

from graphopt.ir.text.parse import parse
from graphopt.passes.kernels.join_slices import JoinSlices
from tests.passes.both_runtimes import (
    RUNTIMES,
    Runner,
    agree,
    as_step,
    lines,
    rewritten,
    sample_values,
)

DECLARED = """
feed x : f32[2, 6]
feed y : f32[2, 6]
feed n : f32[N, 6]
feed k : i64[1]
state s : f32[2, 6]
"""
CASES = {
    "in order": (
        "a : f32[2, 1] = Slice(x, [0], [1], [1])\nb : f32[2, 5] = Slice(x, [1], [6], [1])\n",
        "a : f32[2, 1] = Split(x, [1, 5], axis=1)\nb : f32[2, 5]\n",
    ),
    "from the end, with what is between": (
        "b : f32[2, 2] = Slice(x, [-2], [99], [-1])\ne : f32[2, 2] = Exp(b)\n"
        "a : f32[2, 4] = Slice(x, [-99], [4], [1], [1])\n",
        "a : f32[2, 4] = Split(x, [4, 2], axis=1)\nb : f32[2, 2]\ne : f32[2, 2] = Exp(b)\n",
    ),
    "two tensors, along the first axis": (
        "a : f32[1, 6] = Slice(x, [0], [1])\nc : f32[1, 6] = Slice(y, [1], [2])\n"
        "b : f32[1, 6] = Slice(x, [1], [2])\nd : f32[1, 6] = Slice(y, [0], [1])\n",
        "a : f32[1, 6] = Split(x, [1, 1])\nb : f32[1, 6]\n"
        "d : f32[1, 6] = Split(y, [1, 1])\nc : f32[1, 6]\n",
    ),
    "parts of another axis beside": (
        "a : f32[2, 3] = Slice(x, [0], [3], [1])\nc : f32[1, 6] = Slice(x, [0], [1], [0])\n"
        "b : f32[2, 3] = Slice(x, [3], [6], [1])\n",
        "a : f32[2, 3] = Split(x, [3, 3], axis=1)\nb : f32[2, 3]\n"
        "c : f32[1, 6] = Slice(x, [0], [1], [0])\n",
    ),
}
UNTOUCHED = {
    "a gap": "a : f32[2, 2] = Slice(x, [0], [2], [1])\nb : f32[2, 3] = Slice(x, [3], [6], [1])\n",
    "an end that is missing": (
        "a : f32[2, 2] = Slice(x, [0], [2], [1])\nb : f32[2, 3] = Slice(x, [2], [5], [1])\n"
    ),
    "one part twice": (
        "a : f32[2, 3] = Slice(x, [0], [3], [1])\nb : f32[2, 3] = Slice(x, [3], [6], [1])\n"
        "c : f32[2, 3] = Slice(x, [3], [6], [1])\n"
    ),
    "nothing": (
        "a : f32[2, 6] = Slice(x, [0], [6], [1])\nb : f32[2, 0] = Slice(x, [6], [6], [1])\n"
    ),
    "all of it": "a : f32[2, 6] = Slice(x, [0], [6], [1])\nb : f32[2, 6] = Exp(a)\n",
    "backwards": (
        "a : f32[2, 3] = Slice(x, [2], [-99], [1], [-1])\n"
        "b : f32[2, 3] = Slice(x, [5], [2], [1], [-1])\n"
    ),
    "two axes": (
        "a : f32[1, 3] = Slice(x, [0, 0], [1, 3], [0, 1])\n"
        "b : f32[2, 3] = Slice(x, [3], [6], [1])\n"
    ),
    "a position that is fed": (
        "a : f32[M, 6] = Slice(x, [0], k)\nb : f32[L, 6] = Slice(x, k, [2])\n"
    ),
    "an open dim": (
        "a : f32[N, 3] = Slice(n, [0], [3], [1])\nb : f32[N, 3] = Slice(n, [3], [6], [1])\n"
    ),
    "a state, which may change between": (
        "a : f32[2, 3] = Slice(s, [0], [3], [1])\ns <- Exp(x)\n"
        "b : f32[2, 3] = Slice(s, [3], [6], [1])\n"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_joined(name):
    ops, expected = CASES[name]
    assert rewritten(JoinSlices(), DECLARED + ops) == expected.strip().split("\n")


@pytest.mark.parametrize("name", UNTOUCHED)
def test_untouched(name):
    step = as_step(DECLARED + UNTOUCHED[name])
    assert rewritten(JoinSlices(), step) == lines(step)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_the_same_values(name, runtime, rng):
    program = parse(DECLARED + CASES[name][0])
    step = as_step(program, *(n for n in "abcd" if program.global_block().has_var(n)))
    values = sample_values(step, rng)
    found, expected = (
        Runner(s, [], values, runtime).step() for s in (JoinSlices().run(step), step)
    )
    agree(found, expected)
