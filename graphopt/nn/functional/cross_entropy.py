"""Cross entropy with Paddle's denominators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from graphopt.errors import ArgumentError, ShapeError
from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.nn.functional.loss import REDUCTIONS, checkable, known_classes
from graphopt.scoping import recorder
from graphopt.tensor.manipulation import reshape
from graphopt.tensor.math import stopped
from graphopt.tensor.operands import TensorLike, as_variable, axis_of, choice, like, named


def cross_entropy(
    input: TensorLike,
    label: TensorLike,
    weight: TensorLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    soft_label: bool = False,
    axis: int = -1,
    use_softmax: bool = True,
    label_smoothing: float = 0.0,
    name: str | None = None,
) -> Variable:
    """-log softmax(x)[y] for logits x and a class y; with ``soft_label`` -sum(y log softmax(x)).

    input: [*n, c], with c on ``axis``   label: int[*n], with or without a dim of 1 on ``axis``, or
    [*n, c] if soft   weight: [c]   result: [], or for 'none' [*n], with a 1 on ``axis`` if the
    label has it there or is soft. The label gets no gradient.

    Args:
        input: logits x, or with ``use_softmax=False`` probabilities.
        label: classes y from 0 to c - 1, or with ``soft_label`` the probabilities of all classes.
            Any other class than these and ``ignore_index`` is an error when it runs.
        weight: a factor for each class on the losses of its samples.
        ignore_index: a class whose samples have a loss of 0.
        reduction: 'mean', 'sum' or 'none'. The mean divides by the weights of the samples that are
            not ignored. Without ``weight`` it divides by the number of these if ``ignore_index`` >=
            0, else by the number of all samples.
        soft_label: whether labels are probabilities.
        axis: where input has its classes.
        use_softmax: whether input is logits.
        label_smoothing: e in [0, 1] makes a class y the probabilities (1 - e) [k = y] + e / c of
            the classes k, and soft labels (1 - e) y + e / c.
        name: the result's name.

    >>> cross_entropy(x, label)
    <Variable reducemean_0 : f32[]>

    Raises:
        ShapeError: the label does not fit the input, or smoothed labels need a number of classes
            that is not known.
        ArgumentError: an unknown ``reduction``, ``ignore_index`` > 0 with ``soft_label``, or the
            input does not have the axis.
        ArgumentTypeError: the axis is not an int.
    """
    choice("cross_entropy", "reduction", reduction, REDUCTIONS)
    if soft_label and ignore_index > 0:
        raise ArgumentError(
            "cross_entropy: ignore_index is for labels that are classes", where=here()
        )
    g = recorder(input, label, weight)
    x, y = as_variable(g, input), as_variable(g, label)
    if x.ndim == 0:
        raise ShapeError("cross_entropy: the input has no class axis", where=here())
    w = None if weight is None else like(g, weight, x)
    loss = _CrossEntropy(g, x, y, w, axis_of(x, axis), ignore_index, reduction, use_softmax)
    if soft_label:
        return named(loss.soft(loss.smooth(stopped(y), label_smoothing)), name)
    loss.check_label()
    return named(loss.hard(label_smoothing), name)


@dataclass
class _CrossEntropy:
    """One call: operands, the class axis counted from the front, options."""

    g: Tape
    x: Variable
    label: Variable
    weight: Variable | None
    axis: int
    ignore: int
    reduction: str
    use_softmax: bool
    ignore_code: int = -1  # what ignored labels are where labels are checkable

    def check_label(self) -> None:
        x, y = self.x, self.label
        column = y.ndim == x.ndim and y.shape[self.axis] in (1, -1)
        rest = [d for k, d in enumerate(x.shape) if k != self.axis]
        found = [d for k, d in enumerate(y.shape) if not column or k != self.axis]
        same = len(rest) == len(found) and all(
            d == e or -1 in (d, e) for d, e in zip(rest, found, strict=True)
        )
        if not same:
            raise ShapeError(
                "cross_entropy: the label does not fit the input",
                operands=[
                    ("input = " + x.name, x.tensor_type),
                    ("label = " + y.name, y.tensor_type),
                ],
                where=here(),
                fix="give one class per sample, or soft_label=True for probabilities",
            )

    @property
    def is_column(self) -> bool:
        """Whether the label has a 1 where the input has its classes."""
        return self.label.ndim == self.x.ndim

    def classes(self) -> Variable:
        """The label as integers without the class axis: [*n]."""
        y = self.label
        if y.dtype not in (np.dtype("i4"), np.dtype("i8")):
            y = cast_to(y, np.dtype("i8"))
        squeezed: Variable = self.g.Squeeze(y, [self.axis]) if self.is_column else y
        return squeezed

    def hard(self, smoothing: float) -> Variable:
        """Labels are classes."""
        labels, self.ignore_code = checkable(self.g, self.classes(), self.ignore)
        return self.reduced(self.each(labels, smoothing), labels, smoothing)

    def each(self, labels: Variable, smoothing: float) -> Variable:
        """The weighted loss of each sample, 0 where ignored: [*n]."""
        g, x, flat = self.g, self.x, labels
        if self.axis != 1 or x.ndim < 2:  # ONNX has the classes in dim 1
            x = self.classes_last(x)
            x = x if x.ndim == 2 else reshape(x, [-1, self.depth(x)])  # [n, c]
            flat = labels if labels.ndim == 1 else g.Reshape(labels, [-1])  # [n]
        loss = self.smoothed(x, flat, smoothing) if smoothing else self.picked(x, flat, self.weight)
        return loss if flat is labels else g.reshape_like(loss, labels)

    def picked(self, x: Variable, labels: Variable, weight: Variable | None) -> Variable:
        """-weight[y] log p[y], 0 where ignored: [*n]."""
        loss: Variable = self.g.emit(
            "SoftmaxCrossEntropyLoss" if self.use_softmax else "NegativeLogLikelihoodLoss",
            x if self.use_softmax else self.g.Log(x),
            labels,
            weight,
            ignore_index=self.ignore_code,
            reduction="none",
        )
        return loss

    def smoothed(self, x: Variable, labels: Variable, smoothing: float) -> Variable:
        """(1 - e) times the loss of y plus e times the mean over the classes, weighted: [*n]."""
        g, dtype = self.g, self.x.dtype
        hit = self.picked(x, labels, None)
        log = g.LogSoftmax(x, axis=1) if self.use_softmax else g.Log(x)  # [n, c, *d]
        spread = g.Mul(g.ReduceMean(log, [1], keepdims=0), g.const(-smoothing, dtype))
        loss = g.Add(g.Mul(hit, g.const(1 - smoothing, dtype)), spread)
        if self.weight is not None:
            return g.Mul(loss, self.weights(labels, smoothing))
        return g.Where(self.ignored(labels), g.const(0.0, dtype), loss)

    def depth(self, x: Variable) -> int | Variable:
        """The number of classes, which are in x's last dim."""
        known = x.shape[-1]
        return self.g.dim_of(x, -1) if known == -1 else known

    def classes_last(self, x: Variable) -> Variable:
        """x with its class axis at the end."""
        n = x.ndim
        if self.axis == n - 1:
            return x
        perm = [k for k in range(n) if k != self.axis]
        moved: Variable = self.g.Transpose(x, perm=[*perm, self.axis])
        return moved

    def reduced(self, loss: Variable, labels: Variable, smoothing: float) -> Variable:
        """The reduction of a loss per sample, ignored ones being 0."""
        g = self.g
        if self.reduction == "none":
            return g.Unsqueeze(loss, [self.axis]) if self.is_column else loss
        if self.reduction == "sum":
            return g.ReduceSum(loss, keepdims=0)
        if self.weight is None and self.ignore < 0:
            return g.ReduceMean(loss, keepdims=0)
        if self.weight is None:
            counts = g.cast(g.Not(self.ignored(labels)), self.x.dtype)
        else:
            counts = self.weights(labels, smoothing)
        return self.over(g.ReduceSum(loss, keepdims=0), g.ReduceSum(counts, keepdims=0))

    def ignored(self, labels: Variable) -> Variable:
        """Where labels do not count: bool[*n]."""
        found: Variable = self.g.Equal(labels, self.g.const(self.ignore_code, labels.dtype))
        return found

    def weights(self, labels: Variable, smoothing: float) -> Variable:
        """The weight of each label's probabilities, 0 where it is ignored: [*n]."""
        g, dtype = self.g, self.x.dtype
        assert self.weight is not None
        ignored = self.ignored(labels)
        own = g.Gather(self.weight, g.Where(ignored, g.const(0, labels.dtype), labels))
        if smoothing:
            mean = g.ReduceMean(self.weight, keepdims=0)
            own = g.Add(
                g.Mul(own, g.const(1 - smoothing, dtype)), g.Mul(mean, g.const(smoothing, dtype))
            )
        return g.Where(ignored, g.const(0.0, dtype), own)

    def over(self, total: Variable, count: Variable) -> Variable:
        """total / count, and total (which is 0) where count is 0."""
        g = self.g
        none = g.Equal(count, g.const(0.0, count.dtype))
        return g.Div(total, g.Where(none, g.const(1.0, count.dtype), count))

    def smooth(self, y: Variable, epsilon: float) -> Variable:
        """(1 - epsilon) y + epsilon / c."""
        if not epsilon:
            return y
        c = known_classes(self.x, self.axis)
        g, dtype = self.g, self.x.dtype
        return g.Add(g.Mul(y, g.const(1 - epsilon, dtype)), g.const(epsilon / c, dtype))

    def of_probabilities(self, y: Variable) -> Variable:
        """-sum(y log p) with 1 on the class axis."""
        g = self.g
        log = g.LogSoftmax(self.x, axis=self.axis) if self.use_softmax else g.Log(self.x)
        return g.Neg(g.ReduceSum(g.Mul(y, log), [self.axis], keepdims=1))

    def soft(self, y: Variable) -> Variable:
        """Labels are probabilities; a sample's weight is label · weight."""
        g = self.g
        y = cast_to(y, self.x.dtype)
        loss = self.of_probabilities(y)
        count: Variable | None = None
        if self.weight is not None:
            shape = [-1 if k == self.axis else 1 for k in range(self.x.ndim)]
            weights = g.ReduceSum(
                g.Mul(y, g.Reshape(self.weight, np.array(shape))), [self.axis], keepdims=1
            )
            loss, count = g.Mul(loss, weights), g.ReduceSum(weights, keepdims=0)
        if self.reduction == "none":
            return loss
        if self.reduction == "mean" and count is None:
            return g.ReduceMean(loss, keepdims=0)
        total = g.ReduceSum(loss, keepdims=0)
        return total if count is None or self.reduction == "sum" else self.over(total, count)


@overload
def softmax_with_cross_entropy(
    logits: TensorLike, label: TensorLike, soft_label: bool = False, ignore_index: int = -100,
    numeric_stable_mode: bool = True, return_softmax: Literal[False] = False, axis: int = -1,
) -> Variable: ...  # fmt: skip


@overload
def softmax_with_cross_entropy(
    logits: TensorLike, label: TensorLike, soft_label: bool = False, ignore_index: int = -100,
    numeric_stable_mode: bool = True, *, return_softmax: Literal[True], axis: int = -1,
) -> tuple[Variable, Variable]: ...  # fmt: skip


def softmax_with_cross_entropy(
    logits: TensorLike, label: TensorLike, soft_label: bool = False, ignore_index: int = -100,
    numeric_stable_mode: bool = True, return_softmax: bool = False, axis: int = -1,
) -> Variable | tuple[Variable, Variable]:  # fmt: skip
    """The cross entropy of each sample        logits: [*n, c], c on ``axis``   result: [*n, 1].

    label: int[*n, 1] or int[*n], or with ``soft_label`` the probabilities [*n, c] of all classes.
    The loss is 0 where it is ``ignore_index``. With ``return_softmax`` the result is a pair of the
    losses and softmax(logits), [*n, c]. ``numeric_stable_mode`` is accepted as in Paddle and
    changes nothing: the computation is always stable.

    >>> softmax_with_cross_entropy(x, label)
    <Variable unsqueeze_1 : f32[N, 1]>

    Raises:
        ShapeError: the label does not fit the logits.
        ArgumentError: ``ignore_index`` > 0 with ``soft_label``, or logits do not have the axis.
    """
    g = recorder(logits, label)
    x, y = as_variable(g, logits), as_variable(g, label)
    at = axis_of(x, axis)
    column = y if y.ndim == x.ndim else g.Unsqueeze(y, [at])
    loss = cross_entropy(
        x, column, ignore_index=ignore_index, reduction="none", soft_label=soft_label, axis=at
    )
    return (loss, g.Softmax(x, axis=at)) if return_softmax else loss
