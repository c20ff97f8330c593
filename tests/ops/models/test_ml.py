"""ai.onnx.ml: options of post_transform, and what has no derivative."""

from typing import Any

import numpy as np
import pytest

from graphopt.errors import GradientError
from graphopt.ops.models.svm import THREE, TWO
from graphopt.ops.registry.cases import case, unit
from graphopt.ops.registry.registry import DECOMPOSITIONS, ZERO
from graphopt.passes.gradients.backward import gradients
from tests.ops import on_onnxruntime
from tests.ops.harness import build

COEFFICIENTS = [0.5, -0.3, 0.2, 0.7, 0.1, -0.4]
LABELS: dict[str, Any] = {"classlabels_ints": [0, 1]}
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
MODELS = [
    *[
        ("LinearRegressor", {"coefficients": COEFFICIENTS[:2], "intercepts": [0.5],
                             "post_transform": transform})
        for transform in TRANSFORMS
    ],
    *[
        ("LinearRegressor", {"coefficients": [0.1, 0.2, -0.1, 0.1], "intercepts": [0.5, 0.4],
                             "targets": 2, "post_transform": transform})
        for transform in TRANSFORMS
    ],
    *[
        ("LinearClassifier", {"coefficients": [0.1, 0.2, -0.1, 0.1], "intercepts": [0.5, 0.4],
                              "post_transform": transform, **LABELS})
        for transform in TRANSFORMS
    ],
    *[
        ("LinearClassifier", {"coefficients": [0.1, 0.2], "intercepts": [0.5],
                              "post_transform": transform, **LABELS})
        for transform in ("NONE", "LOGISTIC")
    ],
    *[
        ("SVMClassifier", {**THREE, "kernel_type": "POLY", "post_transform": transform})
        for transform in TRANSFORMS[:-1]
    ],
    ("SVMRegressor", {"coefficients": [0.4, 0.2], "rho": [0.3], "kernel_params": [0.5, 0.3, 3.0]}),
]  # fmt: skip


@pytest.mark.parametrize(("type", "attrs"), MODELS)
def test_decomposition_equals_onnxruntime(type, attrs, rng):
    type = "ai.onnx.ml::" + type
    results = 2 if type.endswith("Classifier") else 1
    sample = case(X=unit((3, 2)), attrs=attrs, results=results)
    built = build(type, sample, rng, symbolic=False, dtype="f4")
    op = built.program.global_block().ops[-1]
    made = DECOMPOSITIONS[type].results(built.program.recorder(), op)[-1]
    own, found = on_onnxruntime.evaluate(built.program, [op.outputs[-1], made], built.feeds)
    np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("type", "attrs"),
    [
        ("LinearClassifier", {"coefficients": [0.1, 0.2], "intercepts": [0.5],
                              "post_transform": "SOFTMAX", **LABELS}),
        ("SVMClassifier", {**TWO, "post_transform": "SOFTMAX"}),
        ("SVMClassifier", {**TWO, "prob_a": [-1.0], "prob_b": [0.1]}),
        ("SVMClassifier", {"coefficients": [0.4] * 4, "rho": [0.3], **LABELS}),
    ],
)  # fmt: skip
def test_no_silent_number(type, attrs, rng):
    """The evaluators disagree on the value, or it is found by an iteration."""
    type = "ai.onnx.ml::" + type
    built = build(type, case(X=(3, 2), attrs=attrs, results=2), rng, symbolic=False, dtype="f4")
    with pytest.raises(GradientError, match="has no gradient"):
        gradients(built.results, built.wrt)


def test_what_has_no_derivative():
    names = ("TreeEnsembleRegressor", "TreeEnsembleClassifier", "TreeEnsemble", "Binarizer")
    assert all("ai.onnx.ml::" + name in ZERO for name in (*names, "LabelEncoder", "ZipMap"))


def test_a_machine_of_one_class_tells_a_side(rng):
    attrs = {**THREE, "n_supports": 4, "rho": [0.2], "coefficients": [0.4, 0.2, -0.3, 0.1]}
    for name in ("vectors_per_class", "classlabels_ints"):
        del attrs[name]
    sample = case(X=(3, 2), attrs={**attrs, "one_class": 1, "kernel_type": "RBF"})
    built = build("ai.onnx.ml::SVMRegressor", sample, rng, symbolic=False, dtype="f4")
    assert gradients(built.results, built.wrt) == [None]
