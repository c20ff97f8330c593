"""Losses of classifiers. Labels are integers: no gradient flows to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import Attr
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.maths.elementwise import result_of
from graphopt.ops.registry.cases import Case, case, ints, positive
from graphopt.ops.registry.registry import Grad, Grads, gradient
from graphopt.ops.tools.positions import pick_elements

LABELS = np.array([[1, 3, 0], [2, 3, 3]])  # 3 is a class, and the label that is ignored
NEGATIVE = np.array([1, -1, 0, 1])


def _cases(scores: str, labels: str, weights: str) -> list[Case]:
    """Operands and attributes for each option, by the op's names."""
    ignore = {"ignore_index": 3}
    three, four = positive((3,)), positive((4,))
    return [
        _case({scores: (4, 3), labels: ints((4,), 3)}),
        _case({scores: (4, 3), labels: ints((4,), 3)}, reduction="sum"),
        _case({scores: (2, 3, 2), labels: ints((2, 2), 3), weights: three}),
        _case({scores: (2, 4, 3), labels: LABELS, weights: four}, **ignore),
        _case({scores: (2, 4, 3, 1), labels: LABELS[..., None]}, **ignore),
        _case({scores: (2, 4, 3), labels: LABELS}, **ignore, reduction="none"),
        _case({scores: (2, 4, 3), labels: LABELS, weights: four}, **ignore, reduction="none"),
        _case({scores: (4, 3), labels: NEGATIVE, weights: three}, ignore_index=-1, reduction="sum"),
        _case({scores: (4, 3), labels: NEGATIVE, weights: three}, ignore_index=-1),
    ]


def _case(inputs: dict[str, Any], **attrs: Attr) -> Case:
    return case(attrs=attrs, **inputs)


@gradient(
    "NegativeLogLikelihoodLoss",
    cases=_cases("input", "target", "weight"),
    nondiff=["target"],
)
def negative_log_likelihood_loss(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = -weight[t] X[t], reduced        X: [n, c, *d]   target t: i64 [n, *d]   weight: [c]."""
    X, weight = op.operand("input"), op.maybe("weight")
    terms = _terms(g, op, X, op.operand("target"), weight, dY)
    updates = g.expand_like(g.Neg(terms.factor(g)), terms.labels)  # [n, 1, *d]
    dX = g.ScatterElements(g.zeros_like(X), terms.labels, updates, axis=1)
    return {"input": typed(dX, X), "weight": _weight_gradient(g, op, terms, X, weight)}


@gradient(
    "SoftmaxCrossEntropyLoss",
    cases=[
        *_cases("scores", "labels", "weights"),
        case(scores=(3, 4), labels=ints((3,), 4), results=2),
        case(scores=(2, 3, 2), labels=ints((2, 2), 3), attrs={"reduction": "none"}, results=2),
    ],
    nondiff=["labels"],
)
def softmax_cross_entropy_loss(g: Tape, op: Operator, dY: Grad, d_log_prob: Grad) -> Grads:
    """Y = -weights[t] log_prob[t], reduced        scores, log_prob: [n, c, *d]   labels t: [n, *d].

    With dlog_prob the gradient that reaches log_prob = log softmax(scores), also through Y,
    dscores = dlog_prob - softmax(scores) sum over c of dlog_prob.
    """
    scores, weights = op.operand("scores"), op.maybe("weights")
    log_prob = g.result_of(op, "log_prob")
    prob = g.Exp(log_prob)  # [n, c, *d]
    parts: list[Variable] = []
    d_weights: Grad = None
    if dY is not None:
        terms = _terms(g, op, scores, op.operand("labels"), weights, dY)
        one = g.expand_like(g.full(-1, scores), terms.labels)
        away = g.ScatterElements(prob, terms.labels, one, axis=1, reduction="add")
        parts.append(g.Mul(away, terms.factor(g)))
        d_weights = _weight_gradient(g, op, terms, log_prob, weights)
    if d_log_prob is not None:
        parts.append(g.Sub(d_log_prob, g.Mul(prob, g.ReduceSum(d_log_prob, [1], keepdims=1))))
    dscores = typed(parts[0] if len(parts) == 1 else g.Add(*parts), scores)
    return {"scores": dscores, "weights": d_weights}


@dataclass(frozen=True)
class Terms:
    """What the labels make of a loss, which is the sum of -weight[t] X[t] share over all terms.

    labels: [n, 1, *d], fit to index X   weight, ignored: [n, 1, *d]   share: [] or [n, 1, *d].
    """

    labels: Variable
    share: Variable
    weight: Variable | None
    ignored: Variable | None

    def factor(self, g: Tape) -> Variable:
        """What the score at a label counts for in the loss: [] or [n, 1, *d]."""
        return self.share if self.weight is None else g.Mul(self.weight, self.share)


def _terms(
    g: Tape, op: Operator, X: Variable, labels: Variable, weights: Variable | None, dY: Variable
) -> Terms:
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
    return Terms(labels, dY, weight, ignored)


def _weight_gradient(
    g: Tape, op: Operator, terms: Terms, X: Variable, weights: Variable | None
) -> Grad:
    """The sum of -X[t] share over the terms of each class; a mean Y is divided by weights too."""
    if weights is None:
        return None
    score = pick_elements(g, X, terms.labels, 1)  # [n, 1, *d]
    if op.attrs["reduction"] == "mean":
        score = g.Add(score, result_of(op))
    part = g.Neg(g.Mul(score, terms.share))
    if terms.ignored is not None:
        part = g.Where(terms.ignored, 0.0, part)
    flat = g.Reshape(terms.labels, [-1]), g.Reshape(part, [-1])
    return typed(g.ScatterElements(g.zeros_like(weights), *flat, reduction="add"), weights)
