"""Losses as layers: a function of nn.functional, with fixed options, called with its operands."""

from __future__ import annotations

from graphopt.nn import functional
from graphopt.nn.layer.layers import FunctionLayer
from graphopt.tensor.operands import TensorLike


class BCELoss(FunctionLayer):
    """Binary cross entropy of probabilities, called with (input, label)        both: [*n].

    ``weight`` and ``reduction`` are those of ``nn.functional.binary_cross_entropy``.
    """

    def __init__(
        self, weight: TensorLike | None = None, reduction: str = "mean", name: str | None = None
    ) -> None:
        super().__init__(functional.binary_cross_entropy, locals())


class BCEWithLogitsLoss(FunctionLayer):
    """Binary cross entropy of σ(logit), called with (logit, label)        both: [*n].

    ``weight``, ``reduction`` and ``pos_weight`` are those of
    ``nn.functional.binary_cross_entropy_with_logits``.
    """

    def __init__(
        self,
        weight: TensorLike | None = None,
        reduction: str = "mean",
        pos_weight: TensorLike | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(functional.binary_cross_entropy_with_logits, locals())


class CrossEntropyLoss(FunctionLayer):
    """Cross entropy, called with (input, label)        input: [*n, c]   label: int[*n].

    ``weight``, ``ignore_index``, ``reduction``, ``soft_label``, ``axis``, ``use_softmax`` and
    ``label_smoothing`` are those of ``nn.functional.cross_entropy``.

    >>> CrossEntropyLoss()(x, label)
    <Variable reducemean_0 : f32[]>
    """

    def __init__(
        self, weight: TensorLike | None = None, ignore_index: int = -100, reduction: str = "mean",
        soft_label: bool = False, axis: int = -1, use_softmax: bool = True,
        label_smoothing: float = 0.0, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(functional.cross_entropy, locals())


class KLDivLoss(FunctionLayer):
    """y (log y - x), called with log-probabilities x and probabilities y        x, y: [n, *d].

    ``reduction`` and ``log_target`` are those of ``nn.functional.kl_div``.
    """

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(functional.kl_div, locals())


class L1Loss(FunctionLayer):
    """|x - y|, called with (x, y)        x, y: [*n].

    ``reduction`` is 'mean', 'sum' or 'none'.
    """

    def __init__(self, reduction: str = "mean", name: str | None = None) -> None:
        super().__init__(functional.l1_loss, locals())


class MarginRankingLoss(FunctionLayer):
    """max(0, ``margin`` - y (x - other)), called with (x, other, y)        x, other, y: [*n].

    y is 1 where x should be the larger one, else -1. ``reduction`` is 'mean', 'sum' or 'none'.
    """

    def __init__(
        self, margin: float = 0.0, reduction: str = "mean", name: str | None = None
    ) -> None:
        super().__init__(functional.margin_ranking_loss, locals())


class MSELoss(FunctionLayer):
    """(x - y)², called with (x, y)        x, y: [*n].

    ``reduction`` is 'mean', 'sum' or 'none'.

    >>> MSELoss()(x, 0.0)
    <Variable reducemean_0 : f32[]>
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(functional.mse_loss, locals())


class NLLLoss(FunctionLayer):
    """-weight[y] x[y], called with log-probabilities x and classes y.

    x: [n, c, *d]   y: int[n, *d]   weight: [c]

    ``weight``, ``ignore_index`` and ``reduction`` are those of ``nn.functional.nll_loss``.
    """

    def __init__(
        self,
        weight: TensorLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        name: str | None = None,
    ) -> None:
        super().__init__(functional.nll_loss, locals())


class SmoothL1Loss(FunctionLayer):
    """d² / 2 near 0, a line from |d| = ``delta`` on, with d = x - y; called with (x, y): [*n].

    ``reduction``, ``delta`` and ``is_huber`` are those of ``nn.functional.smooth_l1_loss``.
    """

    def __init__(
        self,
        reduction: str = "mean",
        delta: float = 1.0,
        is_huber: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(functional.smooth_l1_loss, locals())
