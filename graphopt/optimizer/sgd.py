"""SGD: gradient descent."""

from __future__ import annotations

from graphopt.clip import ClipGradBase
from graphopt.ir.model.variable import Variable
from graphopt.optimizer.optimizer import Optimizer, Parameters, RateLike, WeightDecay
from graphopt.optimizer.state import State


class SGD(Optimizer):
    """w ← w - lr g, with g the gradient after clipping and regularization. No state.

    ``learning_rate``, ``parameters``, ``weight_decay``, ``grad_clip``, ``multi_precision`` and
    ``name`` are those of ``Optimizer``, and so are their errors.

    >>> import graphopt as go
    >>> loss = go.mean(go.static.nn.fc(x, 1))
    >>> optimize_ops, params_grads = go.optimizer.SGD(0.1).minimize(loss)
    >>> [op.type for op in optimize_ops]
    ['SGD', 'SGD']
    """

    def __init__(
        self,
        learning_rate: RateLike = 0.001,
        parameters: Parameters | None = None,
        weight_decay: WeightDecay | None = None,
        grad_clip: ClipGradBase | None = None,
        multi_precision: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, parameters, weight_decay, grad_clip, multi_precision, name)

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        state.g.emit("SGD", w, dw, lr, into=[w])
