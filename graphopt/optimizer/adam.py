"""Adam and its relatives: AdamW, Adamax, Lamb, NAdam, RAdam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from graphopt.clip import ClipGradBase
from graphopt.errors import ArgumentTypeError
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import number
from graphopt.optimizer.checks import in_unit, not_negative
from graphopt.optimizer.optimizer import Optimizer, Parameters, RateLike, WeightDecay
from graphopt.optimizer.state import State

Function = TypeVar("Function", bound=Callable[..., object])


class _Betas(Optimizer):
    """What the family shares: beta1, beta2, epsilon and two moments."""

    def __init__(
        self,
        learning_rate: RateLike = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        parameters: Parameters | None = None,
        weight_decay: WeightDecay | None = None,
        grad_clip: ClipGradBase | None = None,
        name: str | None = None,
        multi_precision: bool = False,
    ) -> None:
        self._hyper: dict[str, Any] = {
            "beta1": in_unit("beta1", beta1),
            "beta2": in_unit("beta2", beta2),
            "epsilon": not_negative("epsilon", epsilon),
        }
        super().__init__(learning_rate, parameters, weight_decay, grad_clip, multi_precision, name)

    def _moments(self, state: State, w: Variable) -> tuple[Variable, Variable]:
        return state.new("moment1", w.tensor_type), state.new("moment2", w.tensor_type)

    def _powers(self, state: State, w: Variable) -> tuple[Variable, Variable]:
        """β₁^t and β₂^t, which start at t = 1."""
        return (
            state.scalar("beta1_pow_acc", w, self._hyper["beta1"]),
            state.scalar("beta2_pow_acc", w, self._hyper["beta2"]),
        )


class Adam(_Betas):
    """w ← w - lr m̂ / (√ŝ + ε), with m̂ and ŝ the corrected means of g and g².

    ``amsgrad`` divides by the running maximum of s. Kingma, Ba: Adam, 2015.

    Raises:
        ArgumentError: a beta outside [0, 1), or a negative epsilon.
    """

    def __init__(
        self,
        learning_rate: RateLike = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        parameters: Parameters | None = None,
        weight_decay: WeightDecay | None = None,
        grad_clip: ClipGradBase | None = None,
        lazy_mode: bool = False,
        multi_precision: bool = False,
        use_multi_tensor: bool = False,
        amsgrad: bool = False,
        name: str | None = None,
    ) -> None:
        self._amsgrad = amsgrad
        super().__init__(
            learning_rate, beta1, beta2, epsilon, parameters, weight_decay, grad_clip, name,
            multi_precision,
        )  # fmt: skip

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        m, s = self._moments(state, w)
        top = [state.new("moment2_max", w.tensor_type)] if self._amsgrad else []
        b1, b2 = self._powers(state, w)
        state.g.emit(
            "AMSGrad" if self._amsgrad else "Adam",
            w, dw, m, s, *top, b1, b2, self._scaled(state, lr), into=[w, m, s, *top, b1, b2],
            weight_decay=self._decay(state.parameter), **self._hyper,
        )  # fmt: skip

    def _decay(self, p: Variable) -> float:
        """The decoupled weight decay of a parameter."""
        return 0.0

    def _scaled(self, state: State, lr: Variable) -> Variable:
        """The rate of a parameter."""
        return lr


class AdamW(Adam):
    """Adam after w ← w (1 - lr λ). Loshchilov, Hutter: Decoupled Weight Decay, 2019.

    Args:
        weight_decay: λ, a number.
        lr_ratio: a function from a Parameter to a factor on its rate.
        apply_decay_param_fun: which parameters, by name, are decayed; all by default.

    Raises:
        ArgumentTypeError: weight_decay is not a number, or a function is not callable.
    """

    def __init__(
        self,
        learning_rate: RateLike = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        parameters: Parameters | None = None,
        weight_decay: float = 0.01,
        lr_ratio: Callable[[Variable], float] | None = None,
        apply_decay_param_fun: Callable[[str], bool] | None = None,
        grad_clip: ClipGradBase | None = None,
        lazy_mode: bool = False,
        multi_precision: bool = False,
        amsgrad: bool = False,
        name: str | None = None,
    ) -> None:
        self._coefficient = number("weight_decay", weight_decay)
        self._lr_ratio = _callable("lr_ratio", lr_ratio)
        self._decays = _callable("apply_decay_param_fun", apply_decay_param_fun)
        super().__init__(
            learning_rate, beta1, beta2, epsilon, parameters, None, grad_clip, lazy_mode,
            multi_precision, False, amsgrad, name,
        )  # fmt: skip

    def _decay(self, p: Variable) -> float:
        decayed = self._decays is None or self._decays(p.name)
        return self._coefficient if decayed else 0.0

    def _scaled(self, state: State, lr: Variable) -> Variable:
        if self._lr_ratio is None:
            return lr
        return state.g.Mul(lr, float(self._lr_ratio(state.parameter)))


class Adamax(_Betas):
    """w ← w - lr / (1 - β₁^t) m / u, with u = max(|g|, β₂ u + ε). Kingma, Ba: Adam, 2015."""

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        m, u = state.new("moment", w.tensor_type), state.new("inf_norm", w.tensor_type)
        b1 = state.scalar("beta1_pow_acc", w, self._hyper["beta1"])
        state.g.emit("Adamax", w, dw, m, u, b1, lr, into=[w, m, u, b1], **self._hyper)


class Lamb(_Betas):
    """w ← w - lr |w| / |r| r, with r = m̂ / (√ŝ + ε) + λ w. You et al.: LAMB, 2020.

    ``exclude_from_weight_decay_fn`` gets a Parameter: where it is true λ is 0, and the ratio 1
    unless ``always_adapt``.
    """

    def __init__(
        self,
        learning_rate: RateLike = 0.001,
        lamb_weight_decay: float = 0.01,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
        parameters: Parameters | None = None,
        grad_clip: ClipGradBase | None = None,
        exclude_from_weight_decay_fn: Callable[[Variable], bool] | None = None,
        multi_precision: bool = False,
        always_adapt: bool = False,
        name: str | None = None,
    ) -> None:
        self._coefficient = number("lamb_weight_decay", lamb_weight_decay)
        self._excluded = _callable("exclude_from_weight_decay_fn", exclude_from_weight_decay_fn)
        self._always_adapt = always_adapt
        super().__init__(
            learning_rate, beta1, beta2, epsilon, parameters, None, grad_clip, name, multi_precision
        )

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        excluded = self._excluded is not None and self._excluded(state.parameter)
        decay = 0.0 if excluded else self._coefficient
        (m, s), (b1, b2) = self._moments(state, w), self._powers(state, w)
        state.g.emit(
            "Lamb", w, dw, m, s, b1, b2, lr, into=[w, m, s, b1, b2], weight_decay=decay,
            adapt=decay > 0 or self._always_adapt, **self._hyper,
        )  # fmt: skip


class NAdam(_Betas):
    """Adam with Nesterov's momentum, whose decay follows ``momentum_decay``. Dozat, 2016."""

    def __init__(
        self,
        learning_rate: RateLike = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        momentum_decay: float = 0.004,
        parameters: Parameters | None = None,
        weight_decay: WeightDecay | None = None,
        grad_clip: ClipGradBase | None = None,
        name: str | None = None,
    ) -> None:
        self._psi = not_negative("momentum_decay", momentum_decay)
        super().__init__(
            learning_rate, beta1, beta2, epsilon, parameters, weight_decay, grad_clip, name
        )

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        decay = state.scalar("momentum_decay_pow", w, 1.0)
        b2 = state.scalar("beta2_pow", w, 1.0)
        product = state.scalar("mu_product", w, 1.0)
        m, s = self._moments(state, w)
        state.g.emit(
            "NAdam", w, dw, decay, b2, product, m, s, lr, into=[w, decay, b2, product, m, s],
            psi=self._psi, **self._hyper,
        )  # fmt: skip


class RAdam(_Betas):
    """Adam whose step is rectified while its variance is not known. Liu et al., 2020."""

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        b1, b2 = state.scalar("beta1_pow", w, 1.0), state.scalar("beta2_pow", w, 1.0)
        rho = state.scalar("rho", w, 0.0)
        m, s = self._moments(state, w)
        state.g.emit(
            "RAdam", w, dw, b1, b2, rho, m, s, lr, into=[w, b1, b2, rho, m, s], **self._hyper
        )


def _callable(name: str, function: Function | None) -> Function | None:
    if function is not None and not callable(function):
        raise ArgumentTypeError(f"{name} must be callable, not {type(function).__name__}")
    return function
