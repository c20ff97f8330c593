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

    m ← β₁ m + (1 - β₁) g,  s ← β₂ s + (1 - β₂) g²,  m̂ = m / (1 - β₁^t),  ŝ = s / (1 - β₂^t), where
    β₁ is ``beta1``, β₂ ``beta2``, ε ``epsilon`` and t the number of steps. With ``amsgrad`` the
    largest s so far takes the place of s in the step. ``weight_decay`` is added to g (L2); for a
    decay apart from g take AdamW.

    ``lazy_mode`` and ``use_multi_tensor`` are accepted as in Paddle and change nothing.
    ``learning_rate``, ``parameters``, ``weight_decay``, ``grad_clip``, ``multi_precision`` and
    ``name`` are those of ``Optimizer``, and so are their errors.

    Kingma, Ba: Adam, 2015. Reddi, Kale, Kumar: On the Convergence of Adam and Beyond, 2018.

    >>> import graphopt as go
    >>> loss = go.mean(go.static.nn.fc(x, 1))
    >>> optimize_ops, params_grads = go.optimizer.Adam(0.001).minimize(loss)
    >>> [op.type for op in optimize_ops]
    ['Adam', 'Adam']

    Raises:
        ArgumentError: a beta is outside [0, 1), or ``epsilon`` is negative or None.
        ArgumentTypeError: one of them is not a number.
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
    """Adam whose weights decay apart from the gradient: first w ← w (1 - lr λ), then Adam's step.

    Args:
        learning_rate: as in ``Optimizer``.
        beta1: β₁ of Adam, in [0, 1).
        beta2: β₂ of Adam, in [0, 1).
        epsilon: ε of Adam, at least 0.
        parameters: as in ``Optimizer``; a group's ``weight_decay`` is L2, beside λ.
        weight_decay: λ, a number.
        lr_ratio: a function from a Parameter to a factor on its rate; 1 for all by default.
        apply_decay_param_fun: a function from a name to whether the parameter is decayed; all by
            default.
        grad_clip: as in ``Optimizer``.
        lazy_mode: accepted as in Paddle; changes nothing.
        multi_precision: as in ``Optimizer``.
        amsgrad: as in Adam.
        name: as in ``Optimizer``.

    Loshchilov, Hutter: Decoupled Weight Decay Regularization, 2019.

    Raises:
        ArgumentTypeError: ``weight_decay``, a beta or ``epsilon`` is not a number, or a function
            cannot be called.
        ArgumentError: a beta is outside [0, 1), or ``epsilon`` is negative or None.
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
    """w ← w - lr / (1 - β₁^t) m / u, with u a running maximum of |g| that fades.

    m ← β₁ m + (1 - β₁) g,  u ← max(|g|, β₂ u + ε), where β₁ is ``beta1``, β₂ ``beta2``, ε
    ``epsilon`` and t the number of steps. ``learning_rate``, ``parameters``, ``weight_decay``,
    ``grad_clip``, ``multi_precision`` and ``name`` are those of ``Optimizer``, and so are their
    errors.

    Kingma, Ba: Adam, 2015.

    Raises:
        ArgumentError: a beta is outside [0, 1), or ``epsilon`` is negative or None.
        ArgumentTypeError: one of them is not a number.
    """

    def _update(self, state: State, w: Variable, dw: Variable, lr: Variable) -> None:
        m, u = state.new("moment", w.tensor_type), state.new("inf_norm", w.tensor_type)
        b1 = state.scalar("beta1_pow_acc", w, self._hyper["beta1"])
        state.g.emit("Adamax", w, dw, m, u, b1, lr, into=[w, m, u, b1], **self._hyper)


class Lamb(_Betas):
    """w ← w - lr |w| / |r| r, with r = m̂ / (√ŝ + ε) + λ w: Adam's step, in proportion to |w|.

    |w| and |r| are 2-norms of a whole parameter. β₁ is ``beta1``, β₂ ``beta2``, ε ``epsilon`` and λ
    ``lamb_weight_decay``; m̂ and ŝ are those of Adam. ``exclude_from_weight_decay_fn`` gets a
    Parameter: where it is true λ is 0, and |w| / |r| is 1 unless ``always_adapt``.

    ``learning_rate``, ``parameters``, ``grad_clip``, ``multi_precision`` and ``name`` are those of
    ``Optimizer``, and so are their errors.

    You et al.: Large Batch Optimization for Deep Learning, 2020.

    Raises:
        ArgumentError: a beta is outside [0, 1), or ``epsilon`` is negative or None.
        ArgumentTypeError: one of them or λ is not a number, or the function cannot be called.
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
    """Adam with Nesterov's momentum, whose factor at step t is μ_t = β₁ (1 - 0.96^(tψ) / 2).

    w ← w - lr (μ_{t+1} m / (1 - P μ_{t+1}) + (1 - μ_t) g / (1 - P)) / (√ŝ + ε), with P = μ_1 … μ_t,
    and m and ŝ as in Adam. β₁ is ``beta1``, β₂ ``beta2``, ε ``epsilon`` and ψ ``momentum_decay``.
    ``learning_rate``, ``parameters``, ``weight_decay``, ``grad_clip`` and ``name`` are those of
    ``Optimizer``, and so are their errors.

    Dozat: Incorporating Nesterov Momentum into Adam, 2016.

    Raises:
        ArgumentError: a beta is outside [0, 1), or ``epsilon`` or ``momentum_decay`` is negative or
            None.
        ArgumentTypeError: one of them is not a number.
    """

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
    """Adam whose first steps are scaled down, as few gradients then tell how large g² is.

    With R = 2 / (1 - β₂) - 1 and r = R - 2 t β₂^t / (1 - β₂^t) the step is
    √((r-4)(r-2)R / ((R-4)(R-2)r)) lr m̂ / √ŝ where r > 5, else lr m̂; m̂ and ŝ are those of Adam.
    β₁ is ``beta1``, β₂ ``beta2``, ``epsilon`` is added to the root. ``learning_rate``,
    ``parameters``, ``weight_decay``, ``grad_clip``, ``multi_precision`` and ``name`` are those of
    ``Optimizer``, and so are their errors.

    Liu et al.: On the Variance of the Adaptive Learning Rate and Beyond, 2020.

    Raises:
        ArgumentError: a beta is outside [0, 1), or ``epsilon`` is negative or None.
        ArgumentTypeError: one of them is not a number.
    """

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
