"""Products of sizes at which another form is quicker, and of sizes at which it is not."""

import numpy as np
import pytest

from graphopt.ir.parse import parse
from graphopt.passes.fuse import LAST, Fuse
from tests.passes.both_runtimes import RUNTIMES, Runner, agree, lines, rewritten, sample_values

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
    "turned_apart": (
        "qh : f32[2, 3, 5, 4] = Transpose(q, perm=[0, 2, 1, 3])\n"
        "kh : f32[2, 3, 6, 4] = Transpose(k, perm=[0, 2, 1, 3])\n"
        "kt : f32[2, 3, 4, 6] = Transpose(kh, perm=[0, 1, 3, 2])\n"
        "y : f32[2, 3, 5, 6] = MatMul(qh, kt)",
        "qh : f32[2, 3, 5, 4] = Transpose(q, perm=[0, 2, 1, 3])\n"
        "kh : f32[2, 3, 6, 4] = Transpose(k, perm=[0, 2, 1, 3])\n"
        "reshape_0 : f32[6, 5, 4] = Reshape(qh, [6, 5, 4])\n"
        "reshape_1 : f32[6, 6, 4] = Reshape(kh, [6, 6, 4])\n"
        "transpose_0 : f32[6, 4, 6] = Transpose(reshape_1, perm=[0, 2, 1])\n"
        "matmul_0 : f32[6, 5, 6] = MatMul(reshape_0, transpose_0)\n"
        "y : f32[2, 3, 5, 6] = Reshape(matmul_0, [2, 3, 5, 6])",
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
    "heads that are turned once": "kt : f32[2, 6, 4, 3] = Transpose(k, perm=[0, 1, 3, 2])\n"
    "s : f32[2, 6, 3, 3] = MatMul(k, kt)\ny : f32[2, 6, 3, 3] = Exp(s)",
}


@pytest.mark.parametrize("name", CASES)
def test_form(name):
    ops, expected = CASES[name]
    assert rewritten(Fuse(keep=("y",)), DECLARED + ops) == expected.split("\n")


@pytest.mark.parametrize("name", UNTOUCHED)
def test_untouched(name):
    program = parse(DECLARED + UNTOUCHED[name])
    assert lines(Fuse(keep=("y",)).run(program)) == lines(program)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_the_same_values(name, runtime, rng):
    program = parse(DECLARED + CASES[name][0])
    values = sample_values(program, rng)
    found, expected = (
        Runner(p, ["y"], values, runtime).step() for p in (Fuse(keep=("y",)).run(program), program)
    )
    agree(found, expected)


def test_every_form_has_a_case():
    forms = {form.__name__ for forms in LAST.values() for form in forms}
    assert forms == {name.partition(",")[0] for name in CASES}


def test_infinities_of_a_wide_product_stay_where_they_are():
    program = parse(DECLARED + "y : f32[512, 256] = Gemm(a, b, c)")
    values = {"a": np.ones((512, 4), "f4"), "b": np.ones((4, 256), "f4"), "c": np.zeros(256, "f4")}
    values["c"][3] = np.inf
    [found] = Runner(Fuse(keep=("y",)).run(program), ["y"], values, "onnxruntime").step()
    assert np.isinf(found[:, 3]).all()
    assert np.isfinite(np.delete(found, 3, axis=1)).all()
