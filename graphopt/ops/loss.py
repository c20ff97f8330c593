"""Losses of classifiers. Labels are integers: no gradient flows to them, nor to the weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphopt.ir.operator import Operator
from graphopt.ir.schema import Attr
from graphopt.ir.tape import Tape, typed
from graphopt.ir.variable import Variable
from graphopt.ops.cases import Case, case, ints
from graphopt.ops.registry import Grad, Grads, gradient

LABELS = np.array([[1, 3, 0], [2, 3, 3]])  # 3 is a class, and the label that is ignored


def _cases(scores: str, labels: str, weights: str) -> list[Case]:
    """Operands and attributes for each option, by the op's names."""
    ignore = {"ignore_index": 3}
    three, four = np.array([0.4, 1.2, 0.9]), np.array([0.4, 1.2, 0.9, 0.7])
    return [
        _case({scores: (4, 3), labels: ints((4,), 3)}),
        _case({scores: (4, 3), labels: ints((4,), 3)}, reduction="sum"),
        _case({scores: (2, 3, 2), labels: ints((2, 2), 3), weights: three}),
        _case({scores: (2, 4, 3), labels: LABELS, weights: four}, **ignore),
        _case({scores: (2, 4, 3, 1), labels: LABELS[..., None]}, **ignore),
        _case({scores: (2, 4, 3), labels: LABELS}, **ignore, reduction="none"),
    ]


def _case(inputs: dict[str, Any], **attrs: Attr) -> Case:
    return case(attrs=attrs, **inputs)


@gradient(
    "NegativeLogLikelihoodLoss",
    cases=_cases("input", "target", "weight"),
    nondiff=["target", "weight"],
)
def negative_log_likelihood_loss(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = -weight[t] X[t], reduced        X: [n, c, *d]   target t: i64 [n, *d]   weight: [c]."""
    X = op.operand("input")
    labels, factor = _factor(g, op, X, op.operand("target"), op.maybe("weight"), dY)
    updates = g.expand_like(g.Neg(factor), labels)  # [n, 1, *d]
    dX = g.ScatterElements(g.zeros_like(X), labels, updates, axis=1)
    return {"input": typed(dX, X)}


@gradient(
    "SoftmaxCrossEntropyLoss",
    cases=[
        *_cases("scores", "labels", "weights"),
        case(scores=(3, 4), labels=ints((3,), 4), results=2),
        case(scores=(2, 3, 2), labels=ints((2, 2), 3), attrs={"reduction": "none"}, results=2),
    ],
    nondiff=["labels", "weights"],
)
def softmax_cross_entropy_loss(g: Tape, op: Operator, dY: Grad, d_log_prob: Grad) -> Grads:
    """Y = -weights[t] log_prob[t], reduced        scores, log_prob: [n, c, *d]   labels t: [n, *d].

    With dlog_prob the gradient that reaches log_prob = log softmax(scores), also through Y,
    dscores = dlog_prob - softmax(scores) sum over c of dlog_prob.
    """
    scores = op.operand("scores")
    prob = g.Exp(g.result_of(op, "log_prob"))  # [n, c, *d]
    parts: list[Variable] = []
    if dY is not None:
        given = op.operand("labels"), op.maybe("weights")
        labels, factor = _factor(g, op, scores, *given, dY)
        one = g.expand_like(g.full(-1, scores), labels)
        parts.append(g.Mul(g.ScatterElements(prob, labels, one, axis=1, reduction="add"), factor))
    if d_log_prob is not None:
        parts.append(g.Sub(d_log_prob, g.Mul(prob, g.ReduceSum(d_log_prob, [1], keepdims=1))))
    return {"scores": typed(parts[0] if len(parts) == 1 else g.Add(*parts), scores)}


def _factor(
    g: Tape, op: Operator, X: Variable, labels: Variable, weights: Variable | None, dY: Variable
) -> tuple[Variable, Variable]:
    """Labels that can index X, and what each label's term counts for in the loss: [n, 1, *d]."""
    labels = g.Unsqueeze(labels, [1])
    weight: Variable | None = None
    ignore = op.attrs.get("ignore_index")
    ignored = None if ignore is None else g.Equal(labels, g.const(ignore, labels.dtype))
    if ignored is not None:
        labels = g.Where(ignored, g.const(0, labels.dtype), labels)
    if weights is not None:
        weight = g.Gather(weights, labels)
    if ignored is not None:
        weight = g.Where(ignored, g.full(0, X), g.full(1, X) if weight is None else weight)
    if op.attrs["reduction"] == "mean":
        share = g.size_of(labels) if weight is None else g.ReduceSum(weight, keepdims=0)
        dY = g.Div(dY, g.cast(share, X.dtype))
    elif op.attrs["reduction"] == "none":
        dY = g.Unsqueeze(dY, [1])
    factor = dY if weight is None else g.Mul(weight, dY)
    return labels, factor
