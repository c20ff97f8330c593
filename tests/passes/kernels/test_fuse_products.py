"""Products of sizes at which another form is quicker, and of sizes at which it is not."""

import numpy as np
import pytest

from graphopt.passes.kernels.forms import LAST, Fuse
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
feed a : f32[512, 4]
feed at : f32[4, 512]
feed b : f32[4, 256]
feed c : f32[256]
feed row : f32[1, 256]
feed x : f32[2, 256, 4]
feed tall : f32[64, 3]
feed short : f32[63, 3]
feed wide : f32[64, 512]
feed wide63 : f32[63, 512]
feed narrow : f32[64, 511]
feed q : f32[2, 5, 3, 4]
feed k : f32[2, 6, 3, 4]
feed open : f32[N, 256, 4]
feed small : f32[4, 4]
feed sc : f32[2, 5, 6]
feed v : f32[2, 5, 4]
feed w : f32[2, 4, 5]
feed n : f32[2, 4, 5]
feed h0 : f32[2, 5, 3, 4]
feed h1 : f32[2, 5, 3, 4]
feed h2 : f32[2, 3, 5, 4]
feed m0 : f32[5, 4]
feed m1 : f32[5, 4]
feed d0 : f64[2, 5, 4]
feed d1 : f64[2, 6, 4]
feed one : f32[1, 6, 4]
feed h3 : f32[2, 6, 4]
feed four : f32[4]
feed six : f32[6, 1]
feed p8 : f32[8, 1]
"""
CASES = {
    "bias_apart": (
        "y : f32[512, 256] = Gemm(a, b, c)",
        "gemm_0 : f32[512, 256] = Gemm(a, b)\ny : f32[512, 256] = Add(gemm_0, c)",
    ),
    "bias_apart, with flags": (
        "y : f32[512, 256] = Gemm(at, b, c, alpha=0.5, transA=1)",
        "gemm_0 : f32[512, 256] = Gemm(at, b, alpha=0.5, transA=1)\n"
        "y : f32[512, 256] = Add(gemm_0, c)",
    ),
    "turned_before": (
        "y : f32[3, 512] = Gemm(tall, wide, transA=1)",
        "transpose_0 : f32[3, 64] = Transpose(tall, perm=[1, 0])\n"
        "y : f32[3, 512] = Gemm(transpose_0, wide)",
    ),
    "product_with_matrix": (
        "y : f32[2, 256, 256] = MatMul(x, b)",
        "reshape_0 : f32[512, 4] = Reshape(x, [512, 4])\n"
        "gemm_0 : f32[512, 256] = Gemm(reshape_0, b)\n"
        "y : f32[2, 256, 256] = Reshape(gemm_0, [2, 256, 256])",
    ),
    "bias_of_rows": (
        "p : f32[2, 6, 4] = MatMul(h3, small)\ny : f32[2, 6, 4] = Add(p, four)",
        "reshape_0 : f32[12, 4] = Reshape(h3, [12, 4])\n"
        "gemm_1 : f32[12, 4] = Gemm(reshape_0, small, four)\n"
        "y : f32[2, 6, 4] = Reshape(gemm_1, [2, 6, 4])",
    ),
    "flags_of_product, keys": (
        "qh : f32[2, 3, 5, 4] = Transpose(q, perm=[0, 2, 1, 3])\n"
        "kh : f32[2, 3, 6, 4] = Transpose(k, perm=[0, 2, 1, 3])\n"
        "kt : f32[2, 3, 4, 6] = Transpose(kh, perm=[0, 1, 3, 2])\n"
        "y : f32[2, 3, 5, 6] = MatMul(qh, kt)",
        "qh : f32[2, 3, 5, 4] = Transpose(q, perm=[0, 2, 1, 3])\n"
        "kh : f32[2, 3, 6, 4] = Transpose(k, perm=[0, 2, 1, 3])\n"
        "y : f32[2, 3, 5, 6] = com.microsoft::FusedMatMul(qh, kh, transB=1)",
    ),
    "flags_of_product, their gradient": (
        "t : f32[2, 6, 5] = Transpose(sc, perm=[0, 2, 1])\n"
        "u : f32[2, 5, 4] = Mul(v, 0.5)\ny : f32[2, 6, 4] = MatMul(t, u)",
        "y : f32[2, 6, 4] = com.microsoft::FusedMatMul(sc, v, transA=1, alpha=0.5)",
    ),
    "flags_of_product, a factor of what is turned, and turned back": (
        "t : f32[2, 6, 5] = Transpose(sc, perm=[0, 2, 1])\nu : f32[2, 6, 5] = Mul(2.0, t)\n"
        "e : f32[2, 4, 5] = Transpose(v, perm=[0, 2, 1])\nf : f32[2, 4, 5] = Mul(e, 0.25)\n"
        "g : f32[2, 5, 4] = Transpose(f, perm=[0, 2, 1])\ny : f32[2, 6, 4] = MatMul(u, g)",
        "y : f32[2, 6, 4] = com.microsoft::FusedMatMul(sc, v, transA=1, alpha=0.5)",
    ),
    "flags_of_product, a factor of two products": (
        "u : f32[2, 5, 4] = Mul(v, 0.5)\ny : f32[2, 4, 4] = MatMul(w, u)\n"
        "m : f32[2, 4, 6] = MatMul(n, sc)\nz : f32[2, 4, 6] = Exp(m)\n"
        "o : f32[2, 5, 4] = Exp(u)",
        "y : f32[2, 4, 4] = com.microsoft::FusedMatMul(w, v, alpha=0.5)",
    ),
    "factor_of_product": (
        "p : f32[2, 4, 6] = MatMul(w, sc)\ny : f32[2, 4, 6] = Mul(0.5, p)",
        "y : f32[2, 4, 6] = com.microsoft::FusedMatMul(w, sc, alpha=0.5)",
    ),
    "factor_of_product, two factors": (
        "t : f32[2, 6, 5] = Transpose(sc, perm=[0, 2, 1])\nu : f32[2, 5, 4] = Mul(v, 0.5)\n"
        "p : f32[2, 6, 4] = MatMul(t, u)\ny : f32[2, 6, 4] = Mul(p, 3.0)",
        "y : f32[2, 6, 4] = com.microsoft::FusedMatMul(sc, v, transA=1, alpha=1.5)",
    ),
    "activated_product": (
        "p : f32[4, 256] = Gemm(small, b, c, alpha=0.5)\ny : f32[4, 256] = Relu(p)",
        'y : f32[4, 256] = com.microsoft::FusedGemm(small, b, c, alpha=0.5, activation="Relu")',
    ),
    "turned_together": (
        "q0 : f32[2, 3, 5, 4] = Transpose(h0, perm=[0, 2, 1, 3])\n"
        "q1 : f32[2, 3, 5, 4] = Transpose(h1, perm=[0, 2, 1, 3])\n"
        "u0 : f32[2, 3, 1, 5, 4] = Unsqueeze(q0, [2])\n"
        "u1 : f32[2, 3, 1, 5, 4] = Reshape(q1, [2, 3, 1, 5, 4])\n"
        "y : f32[2, 3, 2, 5, 4] = Concat(u0, u1, axis=2)",
        "unsqueeze_0 : f32[2, 1, 5, 3, 4] = Unsqueeze(h0, [1])\n"
        "unsqueeze_1 : f32[2, 1, 5, 3, 4] = Unsqueeze(h1, [1])\n"
        "concat_0 : f32[2, 2, 5, 3, 4] = Concat(unsqueeze_0, unsqueeze_1, axis=1)\n"
        "y : f32[2, 3, 2, 5, 4] = Transpose(concat_0, perm=[0, 3, 1, 2, 4])",
    ),
    "turned_together, at the end": (
        "q0 : f32[4, 5] = Transpose(m0, perm=[1, 0])\nq1 : f32[4, 5] = Transpose(m1, perm=[1, 0])\n"
        "u0 : f32[4, 5, 1] = Unsqueeze(q0, [2])\nu1 : f32[4, 5, 1] = Unsqueeze(q1, [2])\n"
        "y : f32[4, 5, 2] = Concat(u0, u1, axis=-1)",
        "unsqueeze_0 : f32[1, 5, 4] = Unsqueeze(m0, [0])\n"
        "unsqueeze_1 : f32[1, 5, 4] = Unsqueeze(m1, [0])\n"
        "concat_0 : f32[2, 5, 4] = Concat(unsqueeze_0, unsqueeze_1, axis=0)\n"
        "y : f32[4, 5, 2] = Transpose(concat_0, perm=[2, 1, 0])",
    ),
}
UNTOUCHED = {
    "a bias for every element": "s : f32[512, 256] = Gemm(a, b)\ny : f32[512, 256] = Gemm(a, b, s)",
    "a bias of a row": "y : f32[512, 256] = Gemm(a, b, row)",
    "half of a bias": "y : f32[512, 256] = Gemm(a, b, c, beta=0.5)",
    "a small product": "d : f32[4, 4] = MatMul(at, a)\ny : f32[4, 256] = Gemm(d, b, c)",
    "few rows": "y : f32[3, 512] = Gemm(short, wide63, transA=1)",
    "few columns": "y : f32[3, 511] = Gemm(tall, narrow, transA=1)",
    "unknown rows": "y : f32[N, 256, 256] = MatMul(open, b)",
    "a bias of one column": (
        "r : f32[12, 4] = Reshape(h3, [12, 4])\ng : f32[12, 4] = Gemm(r, small)\n"
        "p : f32[2, 6, 4] = Reshape(g, [2, 6, 4])\ny : f32[2, 6, 4] = Add(six, p)"
    ),
    "a bias of other rows": (
        "g : f32[4, 4] = Gemm(small, small)\np : f32[2, 8] = Reshape(g, [2, 8])\n"
        "e : f32[8] = Reshape(p8, [8])\ny : f32[2, 8] = Add(p, e)"
    ),
    "double precision": "t : f64[2, 4, 6] = Transpose(d1, perm=[0, 2, 1])\n"
    "y : f64[2, 5, 6] = MatMul(d0, t)",
    "a product that is spread": "t : f32[1, 4, 6] = Transpose(one, perm=[0, 2, 1])\n"
    "y : f32[2, 5, 6] = MatMul(v, t)",
    "no swap of rows and columns": "t : f32[4, 5, 2] = Transpose(w, perm=[1, 2, 0])\n"
    "r : f32[4, 2, 5] = Reshape(t, [4, 2, 5])\nm : f32[4, 5, 5] = MatMul(t, r)\n"
    "y : f32[4, 5, 5] = Exp(m)",
    "a product that is asked for twice": "p : f32[2, 4, 6] = MatMul(w, sc)\n"
    "z : f32[2, 4, 6] = Mul(p, 0.5)\ny : f32[2, 4, 6] = Add(p, z)",
    "a product that is needed before its activation": "p : f32[4, 256] = Gemm(small, b, c)\n"
    "r : f32[4, 256] = Relu(p)\ny : f32[4, 256] = Mul(p, r)",
    "parts that are turned otherwise": "q0 : f32[2, 3, 5, 4] = Transpose(h0, perm=[0, 2, 1, 3])\n"
    "u0 : f32[2, 3, 1, 5, 4] = Unsqueeze(q0, [2])\nu2 : f32[2, 3, 1, 5, 4] = Unsqueeze(h2, [2])\n"
    "y : f32[2, 3, 2, 5, 4] = Concat(u0, u2, axis=2)",
    "parts that are side by side along another axis": (
        "q0 : f32[4, 5] = Transpose(m0, perm=[1, 0])\nq1 : f32[4, 5] = Transpose(m1, perm=[1, 0])\n"
        "u0 : f32[4, 1, 5] = Unsqueeze(q0, [1])\nu1 : f32[4, 1, 5] = Unsqueeze(q1, [1])\n"
        "y : f32[8, 1, 5] = Concat(u0, u1, axis=0)"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_form(name):
    ops, expected = CASES[name]
    assert rewritten(Fuse(), DECLARED + ops, "y") == expected.split("\n")


@pytest.mark.parametrize("name", UNTOUCHED)
def test_untouched(name):
    step = as_step(DECLARED + UNTOUCHED[name], "y")
    assert rewritten(Fuse(), step) == lines(step)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_the_same_values(name, runtime, rng):
    step = as_step(DECLARED + CASES[name][0], "y")
    values = sample_values(step, rng)
    found, expected = (Runner(s, [], values, runtime).step() for s in (Fuse().run(step), step))
    agree(found, expected)


def test_every_form_has_a_case():
    forms = {form.__name__ for forms in LAST.values() for form in forms}
    assert forms == {name.partition(",")[0] for name in CASES}


def test_infinities_of_a_wide_product_stay_where_they_are():
    step = as_step(DECLARED + "y : f32[512, 256] = Gemm(a, b, c)", "y")
    values = {"a": np.ones((512, 4), "f4"), "b": np.ones((4, 256), "f4"), "c": np.zeros(256, "f4")}
    values["c"][3] = np.inf
    [found] = Runner(Fuse().run(step), [], values, "onnxruntime").step()
    assert np.isinf(found[:, 3]).all()
    assert np.isfinite(np.delete(found, 3, axis=1)).all()
