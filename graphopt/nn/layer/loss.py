"""Losses as layers, called with (input, label)."""

from __future__ import annotations

from graphopt.nn import functional
from graphopt.nn.layer.layers import FunctionLayer
from graphopt.tensor.operands import TensorLike


class BCELoss(FunctionLayer):
    """Binary cross entropy of probabilities        input, label: [*n]."""

    def __init__(
        self, weight: TensorLike | None = None, reduction: str = "mean", name: str | None = None
    ) -> None:
        super().__init__(functional.binary_cross_entropy, name, weight=weight, reduction=reduction)


class BCEWithLogitsLoss(FunctionLayer):
    """Binary cross entropy of σ(logit)        logit, label: [*n]."""

    def __init__(
        self,
        weight: TensorLike | None = None,
        reduction: str = "mean",
        pos_weight: TensorLike | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            functional.binary_cross_entropy_with_logits,
            name,
            weight=weight,
            reduction=reduction,
            pos_weight=pos_weight,
        )


class CrossEntropyLoss(FunctionLayer):
    """Cross entropy; see nn.functional.cross_entropy        input: [*n, c]   label: int[*n].

    >>> CrossEntropyLoss()(x, label)
    <Variable reducemean_0 : f32[]>
    """

    def __init__(
        self,
        weight: TensorLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        soft_label: bool = False,
        axis: int = -1,
        use_softmax: bool = True,
        label_smoothing: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(
            functional.cross_entropy,
            name,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
            soft_label=soft_label,
            axis=axis,
            use_softmax=use_softmax,
            label_smoothing=label_smoothing,
        )


class KLDivLoss(FunctionLayer):
    """Y (log y - x), x being log-probabilities        x, y: [n, *d]."""

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(functional.kl_div, reduction=reduction, log_target=log_target)


class L1Loss(FunctionLayer):
    """|x - y|        x, y: [*n]."""

    def __init__(self, reduction: str = "mean", name: str | None = None) -> None:
        super().__init__(functional.l1_loss, name, reduction=reduction)


class MarginRankingLoss(FunctionLayer):
    """max(0, margin - y (x - other)), called with (x, other, y)        x, other, y: [*n]."""

    def __init__(
        self, margin: float = 0.0, reduction: str = "mean", name: str | None = None
    ) -> None:
        super().__init__(functional.margin_ranking_loss, name, margin=margin, reduction=reduction)


class MSELoss(FunctionLayer):
    """(x - y)²        x, y: [*n]."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(functional.mse_loss, reduction=reduction)


class NLLLoss(FunctionLayer):
    """-weight[y] x[y], x being log-probabilities        x: [n, c, *d]   y: int[n, *d]."""

    def __init__(
        self,
        weight: TensorLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        name: str | None = None,
    ) -> None:
        super().__init__(
            functional.nll_loss,
            name,
            weight=weight,
            ignore_index=ignore_index,
            reduction=reduction,
        )


class SmoothL1Loss(FunctionLayer):
    """d² / 2 near 0, a line from |d| = delta on, with d = x - y        x, y: [*n]."""

    def __init__(
        self,
        reduction: str = "mean",
        delta: float = 1.0,
        is_huber: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(
            functional.smooth_l1_loss, name, reduction=reduction, delta=delta, is_huber=is_huber
        )
