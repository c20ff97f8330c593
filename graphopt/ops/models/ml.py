"""ai.onnx.ml: classical models in terms of matrix products. The parameters are attributes.

Results are float32 whatever the operand. Where onnxruntime and onnx's reference evaluator differ
the derivative is that of what onnxruntime computes, or an error.
"""

from __future__ import annotations

import math

import numpy as np

from graphopt.errors import GradientError
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ops.registry.cases import case, ints, positive
from graphopt.ops.registry.registry import ZERO, Grad, decomposition, zero_gradient

F32 = np.dtype(np.float32)
ERF = 0.147  # the constant of the inverse error function that PROBIT is defined by

STEPS = "piecewise constant: the operands choose a leaf, or a side of a threshold"
zero_gradient(STEPS, "ai.onnx.ml::Binarizer", "ai.onnx.ml::TreeEnsemble")
# Models of ai.onnx.ml before version 5 have them, which leaves them without a current definition.
ZERO["ai.onnx.ml::TreeEnsembleClassifier"] = STEPS
ZERO["ai.onnx.ml::TreeEnsembleRegressor"] = STEPS
zero_gradient(
    "an operand or the result is a key, a category or a map",
    "ai.onnx.ml::CastMap", "ai.onnx.ml::CategoryMapper", "ai.onnx.ml::DictVectorizer",
    "ai.onnx.ml::LabelEncoder", "ai.onnx.ml::OneHotEncoder", "ai.onnx.ml::ZipMap",
)  # fmt: skip


@decomposition(
    "ai.onnx.ml::ArrayFeatureExtractor",
    cases=[
        case(X=(2, 3, 4), Y=ints((1, 3), 4)),
        case(X=(5,), Y=ints((2,), 5)),
    ],
    nondiff=["Y"],
)
def array_feature_extractor(g: Tape, op: Operator) -> Variable:
    """Z = X at indices Y of its last axis        X: [*n, f]   Y: [1, m]   Z: [*n, m]."""
    found: Variable = g.Gather(_rows(g, op), g.Reshape(op.operand("Y"), [-1]), axis=-1)
    return found


@decomposition(
    "ai.onnx.ml::FeatureVectorizer",
    cases=[
        case(X=[(2, 3), (2, 1)], attrs={"inputdimensions": [3, 1]}),
        case(X=[(2, 3), (2, 2)], attrs={"inputdimensions": [2, 4]}),
    ],
)
def feature_vectorizer(g: Tape, op: Operator) -> Variable:
    """Y = the operands side by side, each cut or padded to its width        X: [n, f]   Y: [n, m].

    Y has all the widths after each other: those that the operands have if none are given.
    """
    parts = [_row(g, x) for x in op.reads()]
    widths = op.attrs.get("inputdimensions") or [None] * len(parts)
    fitted = [_fitted(g, x, width) for x, width in zip(parts, widths, strict=True)]
    return g.cast(g.Concat(*fitted, axis=1), F32)


@decomposition(
    "ai.onnx.ml::Imputer",
    cases=[
        case(X=(2, 3), attrs={"imputed_value_floats": [0.5], "replaced_value_float": math.nan}),
        case(X=(2, 2), attrs={"imputed_value_floats": [0.5, 2.0], "replaced_value_float": 9.0}),
    ],
)
def imputer(g: Tape, op: Operator) -> Variable:
    """Y = X, a stated value where X is missing        X, Y: [n, f]   values: [f] or [1]."""
    X, missing = op.operand("X"), op.attrs.get("replaced_value_float", 0.0)
    absent = g.IsNaN(X) if math.isnan(missing) else g.Equal(X, missing)
    found: Variable = g.Where(absent, np.array(op.attrs["imputed_value_floats"]), X)
    return found


@decomposition(
    "ai.onnx.ml::LinearClassifier",
    cases=[
        case(
            X=(2, 3),
            attrs={
                "coefficients": [0.5, -0.3, 0.2, 0.7, 0.1, -0.4, -0.2, 0.6, 0.3],
                "intercepts": [0.1, -0.2, 0.3],
                "classlabels_ints": [0, 1, 2],
                "post_transform": "SOFTMAX",
            },
            results=2,
        ),
        case(
            X=(2, 3),
            attrs={
                "coefficients": [0.5, -0.3, 0.2],
                "intercepts": [0.1],
                "classlabels_ints": [0, 1],
                "post_transform": "LOGISTIC",
            },
            results=2,
        ),
    ],
)
def linear_classifier(g: Tape, op: Operator) -> list[Grad]:
    """Z = transform(X W + b)        X: [n, f]   W: [f, k]   b: [k]   Z: [n, k].

    One score for two classes is that of the second: Z: [n, 2]. The labels Y have no gradient.
    """
    intercepts, transform = op.attrs.get("intercepts"), op.attrs["post_transform"]
    labels = op.attrs.get("classlabels_ints") or op.attrs.get("classlabels_strings") or ()
    k = len(intercepts or labels)
    scores = _linear(g, op, k)
    if k > 1 or len(labels) != 2:
        return [None, g.cast(transformed(g, op, scores), F32)]
    if transform not in ("NONE", "LOGISTIC"):
        raise _not_defined(op, "one score for two classes")
    second = transformed(g, op, scores)
    return [None, g.cast(g.Concat(g.Sub(1.0, second), second, axis=1), F32)]


@decomposition(
    "ai.onnx.ml::LinearRegressor",
    cases=[
        case(X=(2, 3), attrs={"coefficients": [0.5, -0.3, 0.2], "intercepts": [0.1]}),
        case(
            X=(2, 2),
            attrs={
                "coefficients": [0.5, -0.3, 0.2, 0.7],
                "targets": 2,
                "post_transform": "SOFTMAX_ZERO",
            },
        ),
    ],
)
def linear_regressor(g: Tape, op: Operator) -> Variable:
    """Y = transform(X W + b)        X: [n, f]   W: [f, m]   b: [m]   Y: [n, m]."""
    targets, transform = op.attrs["targets"], op.attrs["post_transform"]
    scores = _linear(g, op, targets)
    if targets > 1 or transform == "PROBIT":  # onnxruntime has no other transform of one target
        scores = transformed(g, op, scores)
    return g.cast(scores, F32)


@decomposition(
    "ai.onnx.ml::Normalizer",
    cases=[case(X=positive((2, 3)), attrs={"norm": "MAX"})]
    + [case(X=(2, 3), attrs={"norm": norm}) for norm in ("L1", "L2")],
)
def normalizer(g: Tape, op: Operator) -> Variable:
    """Y = X / max(X), X / sum |X| or X / sqrt(sum X^2); X where that is 0        X, Y: [n, f]."""
    X, norm = op.operand("X"), op.attrs["norm"]
    axes = [-1] if X.ndim == 1 else [1]
    if norm == "MAX":
        total = g.ReduceMax(X, axes)
    else:
        total = g.ReduceSum(g.Abs(X) if norm == "L1" else g.Mul(X, X), axes)
    divisor = g.Where(g.Equal(total, 0.0), 1.0, total)  # [n, 1]
    return g.cast(g.Div(X, g.Sqrt(divisor) if norm == "L2" else divisor), F32)


@decomposition(
    "ai.onnx.ml::Scaler",
    cases=[
        case(X=(2, 3), attrs={"offset": [0.5, -1.0, 2.0], "scale": [2.0, 0.3, -1.0]}),
        case(X=(4,), attrs={"offset": [0.5], "scale": [2.0]}),
    ],
)
def scaler(g: Tape, op: Operator) -> Variable:
    """Y = (X - offset) scale        X, Y: [n, f]   offset, scale: [f] or [1]."""
    offset, scale = (np.array(op.attrs[name]) for name in ("offset", "scale"))
    return g.cast(g.Mul(g.Sub(op.operand("X"), offset), scale), F32)


def _row(g: Tape, x: Variable) -> Variable:
    """A vector is one row."""
    return g.Unsqueeze(x, [0]) if x.ndim == 1 else x


def _rows(g: Tape, op: Operator) -> Variable:
    return _row(g, op.operand("X"))


def _fitted(g: Tape, x: Variable, width: int | None) -> Variable:
    """x: [n, f] with its first ``width`` columns, or with zeros behind them."""
    if width is None or x.tensor_type.shape is None or x.tensor_type.shape[1] == width:
        return x
    missing = g.Max(g.Sub(width, g.dim_of(x, 1)), 0)
    padded: Variable = g.Pad(g.Slice(x, [0], [width], [1]), g.dims(0, missing), None, [1])
    return padded


def _linear(g: Tape, op: Operator, count: int) -> Variable:
    """X W + b: [n, count]."""
    W = np.array(op.attrs["coefficients"]).reshape(count, -1).T  # [f, count]
    scores: Variable = g.MatMul(_rows(g, op), W)
    b = op.attrs.get("intercepts")
    return g.Add(scores, np.array(b)) if b else scores


def _not_defined(op: Operator, what: str) -> GradientError:
    return GradientError(
        f"{op.type} has no gradient for {what} with post_transform {op.attrs['post_transform']!r}",
        where=op.where,
        fix="use post_transform 'NONE' and apply the transform to the scores",
    )


def transformed(g: Tape, op: Operator, scores: Variable) -> Variable:
    """The scores after the op's post_transform: [n, k]."""
    transform = op.attrs["post_transform"]
    if transform == "NONE":
        return scores
    found: Variable
    if transform == "LOGISTIC":
        found = g.Sigmoid(scores)
    elif transform == "SOFTMAX":
        found = g.Softmax(scores, axis=-1)
    else:
        found = {"SOFTMAX_ZERO": _softmax_zero, "PROBIT": _probit}[transform](g, scores)
    return found


def _softmax_zero(g: Tape, scores: Variable) -> Variable:
    """Softmax, in which a score of 0 weighs 0."""
    below = g.Sub(scores, g.ReduceMax(scores, [-1]))
    weights = g.Where(g.Greater(g.Abs(scores), 1e-7), g.Exp(below), 0.0)
    found: Variable = g.Div(weights, g.ReduceSum(weights, [-1]))
    return found


def _probit(g: Tape, p: Variable) -> Variable:
    """Where the normal distribution function is about p, by Winitzki's formula."""
    x = g.Sub(g.Mul(p, 2.0), 1.0)
    log = g.Log(g.Mul(g.Sub(1.0, x), g.Add(1.0, x)))
    half = g.Add(g.Mul(log, 0.5), 2.0 / (math.pi * ERF))
    square = g.Sub(g.Sqrt(g.Sub(g.Mul(half, half), g.Div(log, ERF))), half)
    found: Variable = g.Mul(g.Mul(g.Sign(x), g.Sqrt(square)), 1.41421356)
    return found
