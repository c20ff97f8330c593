"""SGD: gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.clip import ClipGradBase
from graphopt.ir.variable import Parameter, Variable
from graphopt.optimizer.optimizer import Optimizer, State
from graphopt.regularizer import WeightDecayRegularizer


class SGD(Optimizer):
    """w ← w - lr g, with g the gradient after clipping and regularization. No state.

    The arguments are those of ``ASGD`` without ``batch_num``.
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        parameters: Sequence[Parameter] | None = None,
        weight_decay: float | WeightDecayRegularizer | None = None,
        grad_clip: ClipGradBase | None = None,
        multi_precision: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, parameters, weight_decay, grad_clip, multi_precision, name)

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        state.g.emit("SGD", w, dw, lr, into=[w])
