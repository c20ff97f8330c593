"""Rprop: each weight has a step of its own."""

from __future__ import annotations

from typing import Any

from graphopt.clip import ClipGradBase
from graphopt.errors import ArgumentError
from graphopt.ir.model.variable import Variable
from graphopt.optimizer.optimizer import Optimizer, Parameters, RateLike
from graphopt.optimizer.state import State


class Rprop(Optimizer):
    """w ← w - sign(g) s, where each weight has a step s of its own; for full batches.

    s grows while g keeps its sign and shrinks when g changes it: by the factors ``etas``, (shrink,
    grow), within ``learning_rate_range``, (low, high). It starts at ``learning_rate``, a float or
    the value of a scheduler at ``minimize``. ``parameters``, ``grad_clip``, ``multi_precision`` and
    ``name`` are those of ``Optimizer``, and so are their errors.

    Riedmiller, Braun: A Direct Adaptive Method for Faster Backpropagation Learning, 1993.

    Raises:
        ArgumentError: the range is not 0 < low <= high, or the factors are not 0 < shrink < 1 <
            grow.
    """

    def __init__(
        self,
        learning_rate: RateLike = 0.001,
        learning_rate_range: tuple[float, float] = (1e-5, 50.0),
        parameters: Parameters | None = None,
        etas: tuple[float, float] = (0.5, 1.2),
        grad_clip: ClipGradBase | None = None,
        multi_precision: bool = False,
        name: str | None = None,
    ) -> None:
        (low, high), (shrink, grow) = learning_rate_range, etas
        if not 0 < low <= high:
            raise ArgumentError(f"learning_rate_range must be 0 < low <= high, not {low}, {high}")
        if not 0 < shrink < 1 < grow:
            raise ArgumentError(f"etas must be 0 < shrink < 1 < grow, not {shrink}, {grow}")
        self._hyper: dict[str, Any] = {"low": low, "high": high, "shrink": shrink, "grow": grow}
        super().__init__(learning_rate, parameters, None, grad_clip, multi_precision, name)

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        previous = state.new("prevs", w.tensor_type)
        step = state.new("learning_rates", w.tensor_type, self.get_lr())
        state.g.emit("Rprop", w, dw, previous, step, into=[w, previous, step], **self._hyper)
