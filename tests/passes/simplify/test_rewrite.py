"""Each rule alone: what it makes of a small Program, and that both runtimes see no difference."""

import pytest

from graphopt.ir.text.parse import parse
from graphopt.passes.engine.patterns import REWRITES
from graphopt.passes.simplify.rewrite import Simplify
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
feed x : f32[4, 3]
feed x2 : f32[4, 3]
feed w : f32[3, 5]
feed v : f32[5, 3]
feed b : f32[5]
feed c : f32[3]
feed m : bool[4, 3]
feed i : i32[4, 3]
feed k : i64[4, 3]
feed t : f32[2, 1, 3]
feed n : f32[N, 3]
feed d : f64[4, 3]
feed d2 : f64[3, 4]
feed o : i64[2]
feed nm : f32[N, M]
feed q : f32[2, 4, 3]
"""
# rule: (ops, what they become)
CASES = {
    "identity": ("a : f32[4, 3] = Identity(x)\ny : f32[4, 3] = Exp(a)", "y : f32[4, 3] = Exp(x)"),
    "of_one": ("a : f32[4, 3] = Sum(x)\ny : f32[4, 3] = Exp(a)", "y : f32[4, 3] = Exp(x)"),
    "cast": (
        "a : f32[4, 3] = Cast(x, to=f32)\ny : f32[4, 3] = Exp(a)",
        "y : f32[4, 3] = Exp(x)",
    ),
    "cast back": (
        "a : f64[4, 3] = Cast(x, to=f64)\nb1 : f32[4, 3] = Cast(a, to=f32)\n"
        "y : f32[4, 3] = Exp(b1)",
        "y : f32[4, 3] = Exp(x)",
    ),
    "cast twice": (
        "a : i64[4, 3] = Cast(i, to=i64)\ny : f32[4, 3] = Cast(a, to=f32)",
        "y : f32[4, 3] = Cast(i, to=f32)",
    ),
    "same_view": (
        "a : f32[4, 3] = Reshape(x, [4, 3])\ny : f32[4, 3] = Exp(a)",
        "y : f32[4, 3] = Exp(x)",
    ),
    "same_view of an open dim": (
        "s : i64[2] = Shape(n)\na : f32[N, 3] = Expand(n, s)\ny : f32[N, 3] = Exp(a)",
        "y : f32[N, 3] = Exp(n)",
    ),
    "view_of_view": (
        "a : f32[12] = Reshape(x, [-1])\ny : f32[2, 6] = Reshape(a, [2, -1])",
        "y : f32[2, 6] = Reshape(x, [2, 6])",
    ),
    "view_of_view, mixed": (
        "a : f32[4, 1, 3] = Unsqueeze(x, [1])\ny : f32[4, 3] = Flatten(a)\n"
        "z : f32[4, 3] = Exp(y)",
        "z : f32[4, 3] = Exp(x)",
    ),
    "view_of_view of an open dim": (
        "a : f32[N, 1, 3] = Unsqueeze(n, [1])\ny : f32[3, N] = Reshape(a, [3, -1])",
        "y : f32[3, N] = Reshape(n, [3, -1])",
    ),
    "same_order": (
        "a : f32[4, 3] = Transpose(x, perm=[0, 1])\ny : f32[4, 3] = Exp(a)",
        "y : f32[4, 3] = Exp(x)",
    ),
    "transpose_of_transpose": (
        "a : f32[3, 2, 1] = Transpose(t, perm=[2, 0, 1])\n"
        "y : f32[1, 3, 2] = Transpose(a, perm=[2, 0, 1])",
        "y : f32[1, 3, 2] = Transpose(t, perm=[1, 2, 0])",
    ),
    "transpose back": (
        "a : f32[3, 4] = Transpose(x, perm=[1, 0])\nb1 : f32[4, 3] = Transpose(a, perm=[1, 0])\n"
        "y : f32[4, 3] = Exp(b1)",
        "y : f32[4, 3] = Exp(x)",
    ),
    "transpose_of_ones": (
        "y : f32[1, 2, 3] = Transpose(t, perm=[1, 0, 2])",
        "y : f32[1, 2, 3] = Reshape(t, [1, 2, 3])",
    ),
    "whole_slice": (
        "a : f32[4, 3] = Slice(x, [0], [9], [1])\ny : f32[4, 3] = Exp(a)",
        "y : f32[4, 3] = Exp(x)",
    ),
    "tiled_once": (
        "a : f32[4, 3] = Tile(x, [1, 1])\ny : f32[4, 3] = Exp(a)",
        "y : f32[4, 3] = Exp(x)",
    ),
    "padded_by_nothing": (
        "a : f32[4, 3] = Pad(x, [0, 0, 0, 0])\ny : f32[4, 3] = Exp(a)",
        "y : f32[4, 3] = Exp(x)",
    ),
    "dropping_nothing": (
        "a : f32[4, 3] = Dropout(x, 0.5, false)\ny : f32[4, 3] = Exp(a)",
        "y : f32[4, 3] = Exp(x)",
    ),
    "where_known": (
        "a : f32[4, 3] = Where(true, x, 0.0)\nb1 : f32[4, 3] = Where(m, x2, x2)\n"
        "y : f32[4, 3] = Sub(a, b1)",
        "y : f32[4, 3] = Sub(x, x2)",
    ),
    "spread_anyway": (
        "a : f32[4, 3] = Expand(c, [4, 3])\ny : f32[4, 3] = Mul(x, a)",
        "y : f32[4, 3] = Mul(x, c)",
    ),
    "over_ones": (
        "a : f32[2, 1, 3] = ReduceSum(t, [1], keepdims=1)\n"
        "y : f32[2, 3] = ReduceSum(a, [-2], keepdims=0)",
        "y : f32[2, 3] = Squeeze(t, [1])",
    ),
    "reduce_of_reduce": (
        "a : f32[4] = ReduceSum(x, [1], keepdims=0)\ny : f32[] = ReduceSum(a, [0], keepdims=0)",
        "y : f32[] = ReduceSum(x, [0, 1], keepdims=0)",
    ),
    "reduce_of_reduce, dims that move up": (
        "a : f32[2, 3] = ReduceSum(q, [1], keepdims=0)\n"
        "y : f32[2] = ReduceSum(a, [1], keepdims=0)",
        "y : f32[2] = ReduceSum(q, [1, 2], keepdims=0)",
    ),
    "reduce_of_reduce, dims before": (
        "a : f32[4, 3] = ReduceMax(q, [0], keepdims=0)\n"
        "y : f32[4] = ReduceMax(a, [-1], keepdims=0)",
        "y : f32[4] = ReduceMax(q, [0, 2], keepdims=0)",
    ),
    "reduce_of_reduce, dims that stay": (
        "a : f32[2, 1, 3] = ReduceSum(q, [1], keepdims=1)\n"
        "y : f32[2, 1, 1] = ReduceSum(a, [2], keepdims=1)",
        "y : f32[2, 1, 1] = ReduceSum(q, [1, 2])",
    ),
    "sum_of_two": ("y : f32[4, 3] = Sum(x, x2)", "y : f32[4, 3] = Add(x, x2)"),
    "plus_zero": (
        "a : f32[4, 3] = Add(0.0, x)\ny : f32[4, 3] = Sub(a, 0.0)\nz : f32[4, 3] = Exp(y)",
        "z : f32[4, 3] = Exp(x)",
    ),
    "times_one": (
        "a : f32[4, 3] = Mul(1.0, x)\nb1 : f32[4, 3] = Div(a, [1.0, 1.0, 1.0])\n"
        "e : f32[4, 3] = Pow(b1, 1.0)\nz : f32[4, 3] = Exp(e)",
        "z : f32[4, 3] = Exp(x)",
    ),
    "one_number": ("y : f32[4, 3] = Max(x, [2.0, 2.0, 2.0])", "y : f32[4, 3] = Max(x, 2.0)"),
    "minus_minus": (
        "a : f32[4, 3] = Neg(x)\nb1 : f32[4, 3] = Neg(a)\ny : f32[4, 3] = Exp(b1)",
        "y : f32[4, 3] = Exp(x)",
    ),
    "plus_minus": (
        "a : f32[4, 3] = Neg(x)\ny : f32[4, 3] = Add(a, x2)",
        "y : f32[4, 3] = Sub(x2, x)",
    ),
    "minus_of_minus": (
        "a : f32[4, 3] = Neg(x)\ny : f32[4, 3] = Sub(x2, a)",
        "y : f32[4, 3] = Add(x2, x)",
    ),
    "times_inverse": ("y : f32[4, 3] = Div(x, 8.0)", "y : f32[4, 3] = Mul(x, 0.125)"),
    "minus_scaled": (
        "a : f32[4, 3] = Mul(x, 3.0)\ny : f32[4, 3] = Neg(a)",
        "y : f32[4, 3] = Mul(x, -3.0)",
    ),
    "scaled_minus": (
        "a : f32[4, 3] = Neg(x)\ny : f32[4, 3] = Mul(3.0, a)",
        "y : f32[4, 3] = Mul(x, -3.0)",
    ),
    "scaled_twice": (
        "a : f32[4, 3] = Mul(x, 3.0)\ny : f32[4, 3] = Mul(0.25, a)",
        "y : f32[4, 3] = Mul(x, 0.75)",
    ),
    "scaled_mask": (
        "a : f32[4, 3] = Mul(x, 1.25)\nf : f32[4, 3] = Cast(m, to=f32)\n"
        "y : f32[4, 3] = Mul(a, f)",
        "f : f32[4, 3] = Cast(m, to=f32)\nmul_0 : f32[4, 3] = Mul(f, 1.25)\n"
        "y : f32[4, 3] = Mul(x, mul_0)",
    ),
    "where_factor": (
        "a : f32[4, 3] = Where(m, 1.25, 0.0)\nf : f32[4, 3] = Where(m, 1.0, 0.0)\n"
        "y : f32[4, 3] = Sub(a, f)",
        "cast_0 : f32[4, 3] = Cast(m, to=f32)\na : f32[4, 3] = Mul(cast_0, 1.25)\n"
        "f : f32[4, 3] = Cast(m, to=f32)\ny : f32[4, 3] = Sub(a, f)",
    ),
    "twice": ("y : f32[4, 3] = Add(x, x)", "y : f32[4, 3] = Mul(x, 2.0)"),
    "square": ("y : f32[4, 3] = Pow(x, 2)", "y : f32[4, 3] = Mul(x, x)"),
    "transposed_operand": (
        "a : f32[3, 5] = Transpose(v, perm=[1, 0])\ny : f32[4, 5] = MatMul(x, a)",
        "y : f32[4, 5] = Gemm(x, v, transB=1)",
    ),
    "transpose_into_gemm": (
        "a : f32[3, 5] = Transpose(v, perm=[1, 0])\nf : f32[3, 4] = Transpose(x)\n"
        "y : f32[4, 5] = Gemm(f, a, transA=1)",
        "y : f32[4, 5] = Gemm(x, v, transB=1)",
    ),
    "bias_into_gemm": (
        "a : f32[4, 5] = MatMul(x, w)\ny : f32[4, 5] = Add(b, a)",
        "y : f32[4, 5] = Gemm(x, w, b)",
    ),
    "factor_into_gemm": (
        "a : f32[4, 5] = Gemm(x, w, b, beta=2.0)\ny : f32[4, 5] = Mul(a, 0.5)",
        "y : f32[4, 5] = Gemm(x, w, b, alpha=0.5)",
    ),
    "factor_from_operand": (
        "a : f32[3, 5] = Mul(w, 0.5)\ny : f32[4, 5] = Gemm(x, a, b)",
        "y : f32[4, 5] = Gemm(x, w, b, alpha=0.5)",
    ),
}  # fmt: skip
# What looks like a case of a rule and is none.
UNTOUCHED = {
    "a narrower type between": "a : i32[4, 3] = Cast(x, to=i32)\ny : f32[4, 3] = Cast(a, to=f32)",
    "int64 is not held by float64": "a : f64[4, 3] = Cast(k, to=f64)\n"
    "y : i64[4, 3] = Cast(a, to=i64)",
    "a shape that is computed may order ops": (
        "s : i64[2] = Add([4, 3], o)\na : f32[4, 3] = Reshape(x, s)\ny : f32[4, 3] = Exp(a)"
    ),
    "a slice backwards": "a : f32[4, 3] = Slice(x, [-1], [-9], [0], [-1])\ny : f32[4, 3] = Exp(a)",
    "an Expand that gives the shape": "a : f32[4, 3] = Expand(c, [4, 3])\n"
    "y : f32[4, 3] = Mul(a, c)",
    "a constant that spreads": "y : f32[4, 3] = Add(c, [[0.0], [0.0], [0.0], [0.0]])",
    "a product that is read twice": "a : f32[4, 5] = MatMul(x, w)\nf : f32[4, 5] = Add(a, b)\n"
    "y : f32[4, 5] = Mul(a, f)",
    "integers divide by truncating": "y : i32[4, 3] = Div(i, i32(2))",
    "a factor that is lost": "a : f32[4, 3] = Mul(x, 1e-30)\ny : f32[4, 3] = Mul(a, 1e-30)",
    "views of two open dims": (
        "a : f32[N, 1, M] = Reshape(nm, [0, 1, -1])\ny : f32[M, N] = Reshape(a, [-1, 4])"
    ),
    "reductions that keep dims in turn": (
        "a : f32[4, 1] = ReduceSum(x, [1], keepdims=1)\ny : f32[1] = ReduceSum(a, [0], keepdims=0)"
    ),
    "a quotient that would be rounded twice": "y : f32[4, 3] = Div(x, 3.0)",
    "division by zero": "y : f32[4, 3] = Div(x, 0.0)",
    "alpha is single precision": ("a : f64[4, 4] = Gemm(d, d2)\ny : f64[4, 4] = Mul(a, f64(0.1))"),
    "a factor that is infinite": "a : f32[4, 3] = Mul(x, inf)\ny : f32[4, 3] = Mul(a, 0.0)",
    "a swap that MatMul takes": (
        "a : f32[3, 4, 2] = Transpose(q, perm=[2, 1, 0])\n"
        "f : f32[3, 2, 4] = Transpose(a, perm=[0, 2, 1])\ny : f32[3, 2, 2] = MatMul(f, a)"
    ),
}


def parts(ops):
    program = parse(DECLARED + ops)
    *_, last = program.global_block().ops[-1].writes()
    return program, last.name


@pytest.mark.parametrize("name", CASES)
def test_the_rule(name):
    ops, expected = CASES[name]
    program, last = parts(ops)
    assert "\n".join(rewritten(Simplify(), program, last)) == expected


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_values_stay(name, runtime, rng):
    program, last = parts(CASES[name][0])
    values = sample_values(program, rng)
    found = Runner(Simplify().run(as_step(program, last)), [last], values, runtime).step(values)
    agree(found, Runner(program, [last], values, runtime).step(values))


@pytest.mark.parametrize("name", UNTOUCHED)
def test_no_case_of_a_rule(name):
    program, last = parts(UNTOUCHED[name])
    assert rewritten(Simplify(), program, last) == lines(as_step(program, last))


def test_every_rule_has_a_case_and_a_line():
    rules = {r for rules in REWRITES.values() for r in rules}
    assert {r.__name__ for r in rules} <= set(CASES)
    for rule in rules:
        assert (rule.__doc__ or "").splitlines()[0].endswith(".")


def test_a_fetched_name_stays_defined():
    text = DECLARED + "a : f32[4, 3] = Identity(x)\ny : f32[4, 3] = Exp(a)"
    assert rewritten(Simplify(), text, "a", "y") == [
        "a : f32[4, 3] = Identity(x)",
        "y : f32[4, 3] = Exp(x)",
    ]


def test_an_assigned_state_stays_assigned():
    text = "state s : f32[3]\nfeed c : f32[3]\ns <- Identity(c)"
    assert rewritten(Simplify(), text) == ["s@NEXT : f32[3] = Identity(c)"]


def test_what_state_was_before_is_another_value_than_what_it_is():
    text = """
    state s : f32[3]
    old : f32[3] = Identity(s)
    neg : f32[3] = Neg(s)
    s <- Add(s, 1.0)
    y : f32[3] = Mul(old, s)
    z : f32[3] = Neg(neg)
    u : f32[3] = Mul(z, y)
    """
    assert rewritten(Simplify(), text, "u") == [
        "s@NEXT : f32[3] = Add(s, 1.0)",
        "y : f32[3] = Mul(s, s@NEXT)",
        "u : f32[3] = Mul(s, y)",
    ]


def test_before_it_is_assigned_state_is_read_itself():
    text = """
    state s : f32[3]
    old : f32[3] = Identity(s)
    y : f32[3] = Exp(old)
    s <- Add(s, 1.0)
    """
    assert rewritten(Simplify(), text, "y") == [
        "y : f32[3] = Exp(s)",
        "s@NEXT : f32[3] = Add(s, 1.0)",
    ]


LOOP = """
feed x : f32[2, 3]
feed w : f32[3, 3]
p : f32[2, 3] = MatMul(x, w)
a : f32[2, 3] = Loop(3, true, x)
  body(i : i64[], going : bool[], h : f32[2, 3]):
    g : bool[] = Identity(going)
    q : f32[2, 3] = Mul(p, 0.5)
    t : f32[2, 3] = Identity(h)
    u : f32[2, 3] = Add(t, q)
    v : f32[2, 3] = Mul(u, 1.0)
    -> g, v
"""


def test_in_a_body():
    """Aliases hold inside bodies; work does not move from outside into a loop."""
    assert rewritten(Simplify(), LOOP, "a") == [
        "p : f32[2, 3] = MatMul(x, w)",
        "a : f32[2, 3] = Loop(3, true, x)",
        "body(i : i64[], going : bool[], h : f32[2, 3]):",
        "q : f32[2, 3] = Mul(p, 0.5)",
        "u : f32[2, 3] = Add(h, q)",
        "-> going, u",
    ]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_body_gives_the_same(runtime, rng):
    program = parse(LOOP)
    values = sample_values(program, rng)
    found = Runner(Simplify().run(as_step(program, "a")), ["a"], values, runtime).step()
    agree(found, Runner(program, ["a"], values, runtime).step())


def test_long_chains_meet_in_one_walk():
    ops = "\n".join(f"a{k} : f32[4, 3] = Neg(a{k - 1})" for k in range(1, 201))
    text = DECLARED + "a0 : f32[4, 3] = Neg(x)\n" + ops
    assert rewritten(Simplify(), text, "a200") == ["a200 : f32[4, 3] = Neg(x)"]
