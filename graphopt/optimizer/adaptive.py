"""Adadelta, Adagrad, RMSProp: steps scaled by a running mean, or sum, of squared gradients."""

from __future__ import annotations

from typing import Any

from graphopt.clip import ClipGradBase
from graphopt.ir.model.variable import Variable
from graphopt.optimizer.checks import not_negative
from graphopt.optimizer.optimizer import Optimizer, Parameters, RateLike, WeightDecay
from graphopt.optimizer.state import State


class Adadelta(Optimizer):
    """w ← w - lr x, with x = √((u + ε) / (a + ε)) g: steps as large as those before.

    a ← ρ a + (1 - ρ) g² before the step, u ← ρ u + (1 - ρ) x² after it, where ρ is ``rho`` and ε
    ``epsilon``. ``learning_rate``, ``parameters``, ``weight_decay``, ``grad_clip`` and ``name`` are
    those of ``Optimizer``, and so are their errors.

    Zeiler: ADADELTA, 2012.

    Raises:
        ArgumentError: ``rho`` or ``epsilon`` is negative or None.
        ArgumentTypeError: one of them is not a number.
    """

    def __init__(
        self,
        learning_rate: RateLike = 0.001,
        epsilon: float = 1e-6,
        rho: float = 0.95,
        parameters: Parameters | None = None,
        weight_decay: WeightDecay | None = None,
        grad_clip: ClipGradBase | None = None,
        name: str | None = None,
    ) -> None:
        self._hyper: dict[str, Any] = {
            "rho": not_negative("rho", rho),
            "epsilon": not_negative("epsilon", epsilon),
        }
        super().__init__(learning_rate, parameters, weight_decay, grad_clip, name=name)

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        a = state.new("_avg_squared_grad", w.tensor_type)
        u = state.new("_avg_squared_update", w.tensor_type)
        state.g.emit("Adadelta", w, dw, a, u, lr, into=[w, a, u], **self._hyper)


class Adagrad(Optimizer):
    """a ← a + g²,  w ← w - lr g / (√a + ε), with ε ``epsilon``.

    a starts at ``initial_accumulator_value``. ``learning_rate``, ``parameters``, ``weight_decay``,
    ``grad_clip`` and ``name`` are those of ``Optimizer``, and so are their errors.

    Duchi, Hazan, Singer: Adaptive Subgradient Methods, 2011.

    Raises:
        ArgumentError: ``epsilon`` or ``initial_accumulator_value`` is negative or None.
        ArgumentTypeError: one of them is not a number.
    """

    def __init__(
        self,
        learning_rate: RateLike,
        epsilon: float = 1e-6,
        parameters: Parameters | None = None,
        weight_decay: WeightDecay | None = None,
        grad_clip: ClipGradBase | None = None,
        name: str | None = None,
        initial_accumulator_value: float = 0.0,
    ) -> None:
        self._epsilon = not_negative("epsilon", epsilon)
        self._initial = not_negative("initial_accumulator_value", initial_accumulator_value)
        super().__init__(learning_rate, parameters, weight_decay, grad_clip, name=name)

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        a = state.new("moment", w.tensor_type, self._initial)
        state.g.emit("Adagrad", w, dw, a, lr, into=[w, a], epsilon=self._epsilon)


class RMSProp(Optimizer):
    """q ← ρ q + (1 - ρ) g²,  k ← μ k + lr g / √(q - c² + ε),  w ← w - k.

    c is the running mean of g if ``centered``, else 0; ρ is ``rho``, ε ``epsilon`` and μ
    ``momentum``. ``learning_rate``, ``parameters``, ``weight_decay``, ``grad_clip`` and ``name``
    are those of ``Optimizer``, and so are their errors.

    Hinton, Srivastava, Swersky: Neural Networks for Machine Learning, lecture 6, 2012.

    Raises:
        ArgumentError: ``rho``, ``epsilon`` or ``momentum`` is negative or None.
        ArgumentTypeError: one of them is not a number.
    """

    def __init__(
        self,
        learning_rate: RateLike,
        rho: float = 0.95,
        epsilon: float = 1e-6,
        momentum: float = 0.0,
        centered: bool = False,
        parameters: Parameters | None = None,
        weight_decay: WeightDecay | None = None,
        grad_clip: ClipGradBase | None = None,
        name: str | None = None,
    ) -> None:
        self._hyper: dict[str, Any] = {
            "rho": not_negative("rho", rho),
            "epsilon": not_negative("epsilon", epsilon),
            "momentum": not_negative("momentum", momentum),
        }
        self._centered = centered
        super().__init__(learning_rate, parameters, weight_decay, grad_clip, name=name)

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        k, q = state.new("momentum", w.tensor_type), state.new("mean_square", w.tensor_type)
        mean = [state.new("mean_grad", w.tensor_type)] if self._centered else []
        state.g.emit("RMSProp", w, dw, k, q, lr, *mean, into=[w, k, q, *mean], **self._hyper)
