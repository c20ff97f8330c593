"""Losses. ``reduction`` is 'mean', 'sum' or 'none': one number, or one for each element."""

from __future__ import annotations

import numpy as np

from graphopt.errors import ArgumentError, ShapeError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import number
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, choice, like, named, pair

REDUCTIONS = ["mean", "sum", "none"]


def binary_cross_entropy(
    input: TensorLike,
    label: TensorLike,
    weight: TensorLike | None = None,
    reduction: str = "mean",
    name: str | None = None,
) -> Variable:
    """-(y log x + (1 - y) log(1 - x)) for probabilities ``input`` x and ``label`` y in [0, 1].

    input, label: [*n]   weight: broadcasts to them, a factor on the losses   result: [], or [*n] if
    ``reduction`` is 'none'. Logarithms are at least -100.

    >>> binary_cross_entropy(x, 1.0)
    <Variable reducemean_0 : f32[]>

    Raises:
        ArgumentError: an unknown ``reduction``.
    """
    x, y = pair("Mul", input, label)
    g = recorder(x, y, weight)
    one = g.const(1.0, x.dtype)
    hit, miss = _safe_log(g, x), _safe_log(g, g.Sub(one, x))
    loss = g.Neg(g.Add(g.Mul(y, hit), g.Mul(g.Sub(one, y), miss)))
    return named(_reduce(g, _weighted(g, loss, weight), reduction), name)


def _safe_log(g: Tape, x: Variable) -> Variable:
    """Log x; -100 with slope 0 where x is 0."""
    zero, one, least = (g.const(v, x.dtype) for v in (0.0, 1.0, -100.0))
    positive = g.Greater(x, zero)
    found: Variable = g.Where(positive, g.Log(g.Where(positive, x, one)), least)
    return found


def _weighted(g: Tape, loss: Variable, weight: TensorLike | None) -> Variable:
    return loss if weight is None else g.Mul(loss, like(g, weight, loss))


def _reduce(g: Tape, loss: Variable, reduction: str) -> Variable:
    choice("the loss", "reduction", reduction, REDUCTIONS)
    if reduction == "none":
        return loss
    type = "ReduceMean" if reduction == "mean" else "ReduceSum"
    reduced: Variable = g.emit(type, loss, keepdims=0)
    return reduced


def binary_cross_entropy_with_logits(
    logit: TensorLike,
    label: TensorLike,
    weight: TensorLike | None = None,
    reduction: str = "mean",
    pos_weight: TensorLike | None = None,
    name: str | None = None,
) -> Variable:
    """Binary cross entropy of σ(x) for a ``logit`` x and ``label`` y in [0, 1], safe for large |x|.

    log(1 + exp x) - x y, and with p = ``pos_weight`` (1 - y) x + (1 + (p - 1) y) log(1 + exp(-x))

    logit, label: [*n]   weight, pos_weight: broadcast to them   result: [], or [*n] if
    ``reduction`` is 'none'. ``weight`` is a factor on the losses, ``pos_weight`` on the part of y.

    >>> binary_cross_entropy_with_logits(x, 1.0)
    <Variable reducemean_0 : f32[]>

    Raises:
        ArgumentError: an unknown ``reduction``.
    """
    x, y = pair("Mul", logit, label)
    g = recorder(x, y, weight, pos_weight)
    if pos_weight is None:
        loss = g.Sub(g.Softplus(x), g.Mul(x, y))
    else:
        one = g.const(1.0, x.dtype)
        factor = g.Add(one, g.Mul(g.Sub(like(g, pos_weight, x), one), y))
        loss = g.Add(g.Mul(g.Sub(one, y), x), g.Mul(factor, g.Softplus(g.Neg(x))))
    return named(_reduce(g, _weighted(g, loss, weight), reduction), name)


def kl_div(
    input: TensorLike,
    label: TensorLike,
    reduction: str = "mean",
    log_target: bool = False,
    name: str | None = None,
) -> Variable:
    """The divergence y (log y - x) of ``label`` y from ``input`` x, which is log-probabilities.

    input, label: [n, *d]   result: [], or [n, *d] if ``reduction`` is 'none'. A further reduction,
    'batchmean', divides the sum by n. With ``log_target`` the label is log y.

    Kullback, Leibler: On Information and Sufficiency, 1951.

    >>> kl_div(x, 0.1, reduction="batchmean")
    <Variable div_0 : f32[]>

    Raises:
        ArgumentError: an unknown ``reduction``.
    """
    choice("kl_div", "reduction", reduction, [*REDUCTIONS, "batchmean"])
    x, y = pair("Mul", input, label)
    g = recorder(x, y)
    if log_target:
        loss = g.Mul(g.Exp(y), g.Sub(y, x))
    else:
        zero, one = g.const(0.0, x.dtype), g.const(1.0, x.dtype)
        positive = g.Greater(y, zero)
        loss = g.Mul(y, g.Sub(g.Log(g.Where(positive, y, one)), x))
        loss = g.Where(positive, loss, zero)
    if reduction != "batchmean":
        return named(_reduce(g, loss, reduction), name)
    n = g.cast(g.Squeeze(g.dim_of(x, 0), [0]), x.dtype) if x.ndim else g.const(1.0, x.dtype)
    return named(g.Div(g.ReduceSum(loss, keepdims=0), n), name)


def l1_loss(
    input: TensorLike, label: TensorLike, reduction: str = "mean", name: str | None = None
) -> Variable:
    """|x - y| of ``input`` x and ``label`` y        both: [*n]   result: [], or [*n].

    The result is [*n] if ``reduction`` is 'none'.

    >>> l1_loss(x, 0.0)
    <Variable reducemean_0 : f32[]>

    Raises:
        ArgumentError: an unknown ``reduction``.
    """
    x, y = pair("Sub", input, label)
    g = recorder(x, y)
    return named(_reduce(g, g.Abs(g.Sub(x, y)), reduction), name)


def label_smooth(
    label: TensorLike,
    prior_dist: TensorLike | None = None,
    epsilon: float = 0.1,
    name: str | None = None,
) -> Variable:
    """(1 - ``epsilon``) y + ``epsilon`` / c for probabilities y as labels        label: [*n, c].

    ``prior_dist``, which broadcasts to the label, takes the place of 1 / c.

    >>> label_smooth(x)
    <Variable add_0 : f32[N, 4]>

    Raises:
        ShapeError: c is not known, and there is no ``prior_dist``.
    """
    g = recorder(label, prior_dist)
    y = as_variable(g, label)
    prior: Variable
    if prior_dist is not None:
        prior = g.Mul(like(g, prior_dist, y), g.const(epsilon, y.dtype))
    else:
        prior = g.const(epsilon / known_classes(y, -1), y.dtype)
    return named(g.Add(g.Mul(y, g.const(1 - epsilon, y.dtype)), prior), name)


def known_classes(x: Variable, axis: int) -> int:
    """The number of classes that x has along an axis.

    Raises:
        ShapeError: it is not known while recording.
    """
    if x.shape[axis] == -1:
        raise ShapeError(
            "label smoothing needs to know the number of classes",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="give it in static.data",
        )
    return x.shape[axis]


def margin_ranking_loss(
    input: TensorLike,
    other: TensorLike,
    label: TensorLike,
    margin: float = 0.0,
    reduction: str = "mean",
    name: str | None = None,
) -> Variable:
    """max(0, ``margin`` - y (x - other)); y is 1 where x should be the larger one, else -1.

    input x, other, label y: [*n]   result: [], or [*n] if ``reduction`` is 'none'

    >>> margin_ranking_loss(x, 0.0, 1.0, margin=0.5)
    <Variable reducemean_0 : f32[]>

    Raises:
        ArgumentError: an unknown ``reduction``.
    """
    x, z = pair("Sub", input, other)
    g = recorder(x, z, label)
    ahead = g.Mul(like(g, label, x), g.Sub(x, z))
    loss = g.Relu(g.Sub(g.const(margin, x.dtype), ahead) if margin else g.Neg(ahead))
    return named(_reduce(g, loss, reduction), name)


def mse_loss(
    input: TensorLike, label: TensorLike, reduction: str = "mean", name: str | None = None
) -> Variable:
    """(x - y)² of ``input`` x and ``label`` y        both: [*n]   result: [], or [*n].

    The result is [*n] if ``reduction`` is 'none'.

    >>> mse_loss(x, 0.0)
    <Variable reducemean_0 : f32[]>

    Raises:
        ArgumentError: an unknown ``reduction``.
    """
    loss = square_error_cost(input, label)
    return named(_reduce(recorder(loss), loss, reduction), name)


def nll_loss(
    input: TensorLike,
    label: TensorLike,
    weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    name: str | None = None,
) -> Variable:
    """-weight[y] x[y] for log-probabilities x and a class y, the negative log-likelihood of y.

    input x: [n, c, *d]   label y: int[n, *d]   weight: [c]   result: [], or for 'none' [n, *d]

    A sample of the class ``ignore_index`` has a loss of 0; any other y that is no class is an error
    when it runs. ``reduction`` 'mean' divides by the weights of the samples that are not ignored.

    >>> nll_loss(x, label)
    <Variable negativeloglikelihoodloss_0 : f32[]>

    Raises:
        ArgumentError: an unknown ``reduction``.
    """
    choice("nll_loss", "reduction", reduction, REDUCTIONS)
    g = recorder(input, label, weight)
    x = as_variable(g, input)
    w = None if weight is None else like(g, weight, x)
    y, ignored = checkable(g, as_variable(g, label), ignore_index)
    loss = g.NegativeLogLikelihoodLoss(x, y, w, ignore_index=ignored, reduction=reduction)
    return named(loss, name)


def checkable(g: Tape, labels: Variable, ignore_index: int) -> tuple[Variable, int]:
    """Labels that onnxruntime checks when it runs, and what ``ignore_index`` becomes among them.

    onnxruntime counts negative labels from the last class, and refuses those beyond it. Mod moves
    the negative ones far beyond every class and leaves the others as they are.
    """
    end = int(np.iinfo(labels.dtype).max)
    return g.Mod(labels, g.const(end, labels.dtype)), ignore_index % end


def smooth_l1_loss(
    input: TensorLike,
    label: TensorLike,
    reduction: str = "mean",
    delta: float = 1.0,
    is_huber: bool = True,
    name: str | None = None,
) -> Variable:
    """d² / 2 where |d| < delta, else delta |d| - delta² / 2, with d = ``input`` - ``label``.

    input, label: [*n]   result: [], or [*n] if ``reduction`` is 'none'. Without ``is_huber`` all of
    it is divided by ``delta``.

    >>> smooth_l1_loss(x, 0.0)
    <Variable reducemean_0 : f32[]>

    Raises:
        ArgumentError: ``delta`` is not positive, or an unknown ``reduction``.
        ArgumentTypeError: ``delta`` is not a number.
    """
    if not number("smooth_l1_loss: delta", delta) > 0:
        raise ArgumentError(f"smooth_l1_loss: delta must be positive, not {delta}", where=here())
    x, y = pair("Sub", input, label)
    g = recorder(x, y)
    d = g.Sub(x, y)
    size = g.Abs(d)
    half, bound = g.const(0.5, x.dtype), g.const(delta, x.dtype)
    near = g.Mul(g.Mul(d, d), half)
    far = g.Sub(g.Mul(size, bound), g.const(delta * delta / 2, x.dtype))
    loss = g.Where(g.Less(size, bound), near, far)
    loss = loss if is_huber or delta == 1 else g.Div(loss, bound)
    return named(_reduce(g, loss, reduction), name)


def square_error_cost(input: TensorLike, label: TensorLike) -> Variable:
    """(x - y)² of each element of ``input`` x and ``label`` y        both: [*n]   result: [*n].

    >>> square_error_cost(x, 0.0)
    <Variable mul_0 : f32[N, 4]>
    """
    x, y = pair("Sub", input, label)
    g = recorder(x, y)
    off = g.Sub(x, y)
    return named(g.Mul(off, off), None)
