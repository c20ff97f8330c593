import numpy as np
import pytest

from graphopt import errors
from tests.onnxio.models import load, model


def test_all_ops_without_a_kernel_are_named():
    body = """g (double[N, 1, 5, 5] x) => (double[N, 1, 3, 3] y) {
        a = Conv(x, w)
        b = Erf(a)
        c = Relu(b)
        y = Conv<pads = [1, 1, 1, 1]>(c, w)
    }"""
    loaded = load(model(body, w=np.ones((1, 1, 3, 3))))
    with pytest.raises(errors.StepError, match="no kernel for 3 ops") as found:
        loaded.run(x=np.ones((1, 1, 5, 5)))
    assert found.value.what.endswith("Conv of float64, Erf of float64")
    assert [name for name, _ in found.value.operands] == ["Conv_0", "Erf_1", "Conv_3"]
    assert found.value.__cause__ is not None


def test_ops_inside_bodies():
    body = """g (double[N] x, bool c) => (double[N] y) {
        y = If (c) <
            then_branch = yes () => (double[N] a) { a = Erf(x) },
            else_branch = no () => (double[N] a) { a = Neg(x) }
        >
    }"""
    with pytest.raises(
        errors.StepError, match="no kernel for 1 ops of the Program: Erf of float64"
    ):
        load(model(body)).run(x=np.ones(2), c=np.array(True))


def test_other_failures_are_explained_as_before():
    body = "g (float[N] x, float[M] z) => (float[K] y) { y = Add(x, z) }"
    with pytest.raises(errors.StepError, match="Add failed while running"):
        load(model(body)).run(x=np.ones(2, "f4"), z=np.ones(3, "f4"))
