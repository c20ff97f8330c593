"""ai.onnx.ml: support vector machines. The vectors and their weights are attributes."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from graphopt.errors import GradientError
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ops.models.ml import F32, transformed
from graphopt.ops.registry.cases import case
from graphopt.ops.registry.registry import Grad, decomposition

VECTORS = [0.3, -0.5, 0.8, 0.1, -0.2, 0.6, -0.7, 0.4]
PLANE: dict[str, Any] = {"support_vectors": VECTORS, "kernel_params": [0.5, 0.3, 3.0]}
TWO: dict[str, Any] = {
    **PLANE,
    "coefficients": [0.4, 0.2, -0.3, -0.1],
    "vectors_per_class": [2, 2],
    "rho": [0.2],
    "classlabels_ints": [0, 1],
}
THREE: dict[str, Any] = {
    **PLANE,
    "coefficients": [0.4, 0.2, -0.3, -0.1, 0.5, -0.6, 0.7, 0.2],
    "vectors_per_class": [2, 1, 1],
    "rho": [0.2, -0.1, 0.3],
    "classlabels_ints": [0, 1, 2],
}
LINE: dict[str, Any] = {
    **PLANE, "coefficients": [0.4, 0.2, -0.3, -0.1], "n_supports": 4, "rho": [0.2],
}  # fmt: skip


@decomposition(
    "ai.onnx.ml::SVMClassifier",
    cases=[
        case(X=(3, 2), attrs={**TWO, "kernel_type": "RBF"}, results=2),
        case(X=(3, 2), attrs={**TWO, "post_transform": "LOGISTIC"}, results=2),
        case(X=(3, 2), attrs={**THREE, "kernel_type": "SIGMOID"}, results=2),
        case(X=(3, 2), attrs={**THREE, "post_transform": "SOFTMAX"}, results=2),
    ],
)
def svm_classifier(g: Tape, op: Operator) -> list[Grad]:
    """Z = transform(k(X, S) W + rho)        X: [n, f]   S: [v, f]   W: [v, p]   Z: [n, p].

    There is a score for each of the p pairs of classes, and for p = 1 its negative before it. The
    labels Y have no gradient.
    """
    counts = op.attrs.get("vectors_per_class")
    if not counts or op.attrs.get("prob_a"):
        raise _unsupported(op, "without support vectors, or with probabilities found by iteration")
    scores = g.Add(g.MatMul(_kernel(g, op, sum(counts)), _pairs(op)), np.array(op.attrs["rho"]))
    if len(counts) == 2:
        if op.attrs["post_transform"] not in ("NONE", "LOGISTIC"):
            raise _unsupported(op, f"of two classes, {op.attrs['post_transform']}")
        scores = g.Concat(g.Neg(scores), scores, axis=1)
    return [None, g.cast(transformed(g, op, scores), F32)]


@decomposition(
    "ai.onnx.ml::SVMRegressor",
    cases=[
        case(X=(3, 2), attrs={**LINE, "kernel_type": kernel})
        for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID")
    ],
)
def svm_regressor(g: Tape, op: Operator) -> Variable:
    """Y = k(X, S) w + rho        X: [n, f]   S: [v, f]   w: [v, 1]   Y: [n, 1].

    Without support vectors Y = X w + rho. onnxruntime applies no post_transform. A machine of one
    class tells the side of 0 only.
    """
    count, weights = op.attrs["n_supports"], np.array(op.attrs["coefficients"])[:, None]
    K = _kernel(g, op, count) if count else op.operand("X")
    Y = g.Add(g.MatMul(K, weights), np.array(op.attrs["rho"][:1]))
    if op.attrs["one_class"]:
        Y = g.Where(g.Greater(Y, 0.0), g.full(1.0, Y), -1.0)
    return g.cast(Y, F32)


def _kernel(g: Tape, op: Operator, count: int) -> Variable:
    """k(X, S): [n, v]."""
    X, S = op.operand("X"), np.array(op.attrs["support_vectors"]).reshape(count, -1)
    gamma, shift, degree = op.attrs.get("kernel_params") or (0.0, 0.0, 0.0)
    kind = op.attrs["kernel_type"]
    K: Variable
    if kind == "RBF":
        apart = g.Sub(g.Unsqueeze(X, [1]), S)  # [n, v, f]
        K = g.Exp(g.Mul(g.ReduceSum(g.Mul(apart, apart), [-1], keepdims=0), -gamma))
        return K
    K = g.MatMul(X, S.T)
    if kind == "LINEAR":
        return K
    K = g.Add(g.Mul(K, gamma), shift)
    return g.Tanh(K) if kind == "SIGMOID" else g.Pow(K, degree)


def _pairs(op: Operator) -> np.ndarray:
    """Weights of the support vectors in the score of each pair of classes: [v, p]."""
    counts = op.attrs["vectors_per_class"]
    weights = np.array(op.attrs["coefficients"]).reshape(-1, sum(counts))  # [classes - 1, v]
    label = np.repeat(np.arange(len(counts)), counts)
    columns = [
        np.where(label == i, weights[j - 1], np.where(label == j, weights[i], 0.0))
        for i, j in combinations(range(len(counts)), 2)
    ]
    return np.stack(columns, axis=1)


def _unsupported(op: Operator, what: str) -> GradientError:
    return GradientError(
        f"{op.type} has no gradient {what}",
        where=op.where,
        fix="leave out prob_a and prob_b, use post_transform 'NONE', or set stop_gradient=True",
    )
