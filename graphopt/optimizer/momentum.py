"""Momentum: gradient descent with a velocity."""

from __future__ import annotations

from typing import Any

from graphopt.clip import ClipGradBase
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import number
from graphopt.optimizer.optimizer import Optimizer, Parameters, RateLike, WeightDecay
from graphopt.optimizer.state import State


class Momentum(Optimizer):
    """v ← μ v + g,  w ← w - lr v, or w - lr (g + μ v) with ``use_nesterov``.

    μ is ``momentum``; g is multiplied by ``rescale_grad`` first. ``use_multi_tensor`` is accepted
    as in Paddle and changes nothing. ``learning_rate``, ``parameters``, ``weight_decay``,
    ``grad_clip``, ``multi_precision`` and ``name`` are those of ``Optimizer``, and so are their
    errors.

    Sutskever et al.: On the importance of initialization and momentum in deep learning, 2013.

    Raises:
        ArgumentTypeError: ``momentum`` or ``rescale_grad`` is not a number.
    """

    def __init__(
        self,
        learning_rate: RateLike = 0.001,
        momentum: float = 0.9,
        parameters: Parameters | None = None,
        use_nesterov: bool = False,
        weight_decay: WeightDecay | None = None,
        grad_clip: ClipGradBase | None = None,
        multi_precision: bool = False,
        rescale_grad: float = 1.0,
        use_multi_tensor: bool = False,
        name: str | None = None,
    ) -> None:
        self._mu = number("momentum", momentum)
        self._nesterov = use_nesterov
        self._rescale = number("rescale_grad", rescale_grad)
        super().__init__(learning_rate, parameters, weight_decay, grad_clip, multi_precision, name)

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        v = state.new("velocity", w.tensor_type)
        if self._rescale != 1.0:
            dw = state.g.Mul(dw, self._rescale)
        hyper: dict[str, Any] = {"mu": self._mu, "nesterov": int(self._nesterov)}
        state.g.emit("Momentum", w, dw, v, lr, into=[w, v], **hyper)
