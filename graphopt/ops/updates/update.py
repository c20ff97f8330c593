"""Update rules: composites that replace a parameter and its state, alphabetical.

Each takes ``dw``, the gradient after clipping and regularization, and ``lr``, the rate in force.
t counts the updates of this parameter, from 1. Products of betas are kept as state: [1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ops.registry.cases import Case, Draw, Shape, case, fixed, ints, positive, unit
from graphopt.ops.registry.registry import Updates, composite


def _cases(**state: Any) -> list[Case]:  # noqa: ANN401 - draws and shapes
    """One case over a matrix; ``state`` adds to the parameter, its gradient and the rate."""
    return [case(w=(3, 2), dw=(3, 2), lr=(), **state)]


def _over_all(moments: Mapping[str, Callable[[Shape], Draw]], *products: str) -> list[Case]:
    """Cases over a matrix and over a scalar; ``moments`` have its shape, ``products`` are [1]."""
    found: list[Case] = []
    for shape in ((3, 2), ()):
        state: dict[str, Any] = {name: draw(shape) for name, draw in moments.items()}
        state |= {name: positive((1,)) for name in products}
        found.append(case(w=shape, dw=shape, lr=(), **state))
    return found


def _blend(g: Tape, old: Variable, new: Variable, beta: float) -> Variable:
    """beta old + (1 - beta) new."""
    return g.Add(g.Mul(old, beta), g.Mul(new, 1.0 - beta))


def _scalar(g: Tape, x: Variable, like: Variable) -> Variable:
    """[1] as [], unless it broadcasts to the parameter's shape as it is."""
    return x if like.tensor_type.rank else g.Squeeze(x, [0])


def _inverse(g: Tape, x: Variable, like: Variable) -> Variable:
    """1 / x of a [1], to multiply with: onnxruntime multiplies faster than it divides."""
    return _scalar(g, g.Reciprocal(x), like)


MOMENTS: Mapping[str, Callable[[Shape], Draw]] = {"m": fixed, "s": positive}


@composite(
    "Adadelta", updates=("w", "a", "u"), cases=_cases(a=positive((3, 2)), u=positive((3, 2)))
)
def adadelta(
    g: Tape, w: Variable, dw: Variable, a: Variable, u: Variable, lr: Variable,
    *, rho: float = 0.95, epsilon: float = 1e-6,
) -> Updates:  # fmt: skip
    """a' = rho a + (1 - rho) dw²,  x = -√((u + ε) / (a' + ε)) dw,  w' = w + lr x.

    u' = rho u + (1 - rho) x²        w, dw, a, u: [*s]   lr: []        Zeiler, 2012.
    """
    a_next = _blend(g, a, g.Mul(dw, dw), rho)
    ratio = g.Div(g.Add(u, epsilon), g.Add(a_next, epsilon))
    x = g.Neg(g.Mul(g.Sqrt(ratio), dw))
    return {"w": g.Add(w, g.Mul(lr, x)), "a": a_next, "u": _blend(g, u, g.Mul(x, x), rho)}


@composite("Adagrad", updates=("w", "a"), cases=_cases(a=positive((3, 2))))
def adagrad(
    g: Tape, w: Variable, dw: Variable, a: Variable, lr: Variable, *, epsilon: float = 1e-6
) -> Updates:
    """a' = a + dw²,  w' = w - lr dw / (√a' + ε)        w, dw, a: [*s]   lr: []."""
    a_next = g.Add(a, g.Mul(dw, dw))
    step = g.Div(g.Mul(lr, dw), g.Add(g.Sqrt(a_next), epsilon))
    return {"w": g.Sub(w, step), "a": a_next}


def _adam_step(
    g: Tape, m: Variable, s: Variable, b1: Variable, b2: Variable, lr: Variable, epsilon: float
) -> Variable:
    """lr √(1 - b2) / (1 - b1) m / (√s + ε √(1 - b2)), with b1 = beta1^t, b2 = beta2^t."""
    root = _scalar(g, g.Sqrt(g.Sub(1.0, b2)), m)
    rate = g.Div(g.Mul(lr, root), _scalar(g, g.Sub(1.0, b1), m))
    return g.Div(g.Mul(rate, m), g.Add(g.Sqrt(s), g.Mul(root, epsilon)))


@composite("Adam", updates=("w", "m", "s", "b1", "b2"), cases=_over_all(MOMENTS, "b1", "b2"))
def adam(
    g: Tape, w: Variable, dw: Variable, m: Variable, s: Variable, b1: Variable, b2: Variable,
    lr: Variable, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
    weight_decay: float = 0.0,
) -> Updates:  # fmt: skip
    """m' = β₁ m + (1 - β₁) dw,  s' = β₂ s + (1 - β₂) dw²,  w' = w - lr m̂ / (√ŝ + ε).

    With weight_decay w is first multiplied by 1 - lr λ (AdamW: Loshchilov, Hutter, 2019).

    w, dw, m, s: [*s]   b1, b2: [1], β₁^t and β₂^t   lr: []        Kingma, Ba, 2015.
    """
    if weight_decay:
        w = g.Mul(w, g.Sub(1.0, g.Mul(lr, weight_decay)))
    m_next, s_next = _blend(g, m, dw, beta1), _blend(g, s, g.Mul(dw, dw), beta2)
    step = _adam_step(g, m_next, s_next, b1, b2, lr, epsilon)
    return {
        "w": g.Sub(w, step), "m": m_next, "s": s_next,
        "b1": g.Mul(b1, beta1), "b2": g.Mul(b2, beta2),
    }  # fmt: skip


@composite(
    "Adamax",
    updates=("w", "m", "u", "b1"),
    cases=_over_all({"m": fixed, "u": positive}, "b1"),
)
def adamax(
    g: Tape, w: Variable, dw: Variable, m: Variable, u: Variable, b1: Variable, lr: Variable,
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
) -> Updates:  # fmt: skip
    """m' = β₁ m + (1 - β₁) dw,  u' = max(|dw|, β₂ u + ε),  w' = w - lr / (1 - β₁^t) m' / u'.

    w, dw, m, u: [*s]   b1: [1], β₁^t   lr: []        Kingma, Ba, 2015.
    """
    m_next = _blend(g, m, dw, beta1)
    u_next = g.Max(g.Abs(dw), g.Add(g.Mul(u, beta2), epsilon))
    rate = g.Div(lr, _scalar(g, g.Sub(1.0, b1), w))
    step = g.Div(g.Mul(rate, m_next), u_next)
    return {"w": g.Sub(w, step), "m": m_next, "u": u_next, "b1": g.Mul(b1, beta1)}


@composite(
    "AMSGrad",
    updates=("w", "m", "s", "top", "b1", "b2"),
    cases=_over_all({**MOMENTS, "top": positive}, "b1", "b2"),
)
def amsgrad(
    g: Tape, w: Variable, dw: Variable, m: Variable, s: Variable, top: Variable, b1: Variable,
    b2: Variable, lr: Variable,
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, weight_decay: float = 0.0,
) -> Updates:  # fmt: skip
    """Adam with s replaced in the step by its running maximum.

    w, dw, m, s, top: [*s]   b1, b2: [1]   lr: []        Reddi, Kale, Kumar, 2018.
    """
    if weight_decay:
        w = g.Mul(w, g.Sub(1.0, g.Mul(lr, weight_decay)))
    m_next, s_next = _blend(g, m, dw, beta1), _blend(g, s, g.Mul(dw, dw), beta2)
    top_next = g.Max(top, s_next)
    step = _adam_step(g, m_next, top_next, b1, b2, lr, epsilon)
    return {
        "w": g.Sub(w, step), "m": m_next, "s": s_next, "top": top_next,
        "b1": g.Mul(b1, beta1), "b2": g.Mul(b2, beta2),
    }  # fmt: skip


@composite(
    "ASGD",
    updates=("w", "d", "y", "m"),
    cases=[
        case(w=(3, 2), dw=(3, 2), d=(3, 2), y=(4, 3, 2), m=ints((1,), 9), lr=()),
        case(w=(), dw=(), d=(), y=(1,), m=ints((1,), 9), lr=()),
    ],
)
def asgd(
    g: Tape, w: Variable, dw: Variable, d: Variable, y: Variable, m: Variable, lr: Variable
) -> Updates:
    """Stochastic average gradient: step along the mean of the last n gradients.

    i = m mod n,  d' = d - y[i] + dw,  y'[i] = dw,  m' = m + 1,  w' = w - lr d' / min(m', n)

    w, dw, d: [*s]   y: [n, *s]   m: i64[1], updates so far   lr: []

    Schmidt, Le Roux, Bach: Minimizing Finite Sums with the Stochastic Average Gradient, 2017.
    """
    n = y.shape[0]
    slot = g.Mod(m, np.array([n]))  # [1]
    oldest = g.Squeeze(g.Gather(y, slot), [0])  # [*s]
    d_next = g.Add(g.Sub(d, oldest), dw)  # [*s]
    y_next = g.ScatterND(y, g.Unsqueeze(slot, [1]), g.Unsqueeze(dw, [0]))  # [n, *s]
    m_next = g.Add(m, np.array([1]))
    seen = g.cast(_scalar(g, g.Min(m_next, np.array([n])), w), w.dtype)
    step = g.Mul(d_next, g.Div(lr, seen))  # [*s]
    return {"w": g.Sub(w, step), "d": d_next, "y": y_next, "m": m_next}


def _norm(g: Tape, x: Variable) -> Variable:
    return g.Sqrt(g.ReduceSumSquare(x, keepdims=0))  # []


@composite("Lamb", updates=("w", "m", "s", "b1", "b2"), cases=_over_all(MOMENTS, "b1", "b2"))
def lamb(
    g: Tape, w: Variable, dw: Variable, m: Variable, s: Variable, b1: Variable, b2: Variable,
    lr: Variable, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-6,
    weight_decay: float = 0.01, adapt: bool = True,
) -> Updates:  # fmt: skip
    """r = m̂ / (√ŝ + ε) + λ w,  w' = w - lr |w| / |r| r (the ratio is 1 where a norm is 0).

    w, dw, m, s: [*s]   b1, b2: [1], β₁^t and β₂^t   lr: []        You et al., 2020.
    """
    m_next, s_next = _blend(g, m, dw, beta1), _blend(g, s, g.Mul(dw, dw), beta2)
    mean = g.Mul(m_next, _inverse(g, g.Sub(1.0, b1), w))
    spread = g.Sqrt(g.Mul(s_next, _inverse(g, g.Sub(1.0, b2), w)))
    r = g.Div(mean, g.Add(spread, epsilon))
    if weight_decay:
        r = g.Add(r, g.Mul(w, weight_decay))
    step = g.Mul(lr, r)
    if adapt:
        wn, rn = _norm(g, w), _norm(g, r)
        both = g.And(g.Greater(wn, 0.0), g.Greater(rn, 0.0))
        step = g.Mul(g.Where(both, g.Div(wn, g.Where(both, rn, 1.0)), 1.0), step)
    return {
        "w": g.Sub(w, step), "m": m_next, "s": s_next,
        "b1": g.Mul(b1, beta1), "b2": g.Mul(b2, beta2),
    }  # fmt: skip


@composite("Momentum", updates=("w", "v"), cases=_cases(v=(3, 2)))
def momentum(
    g: Tape, w: Variable, dw: Variable, v: Variable, lr: Variable,
    *, mu: float = 0.9, nesterov: bool = False,
) -> Updates:  # fmt: skip
    """v' = μ v + dw,  w' = w - lr v', or w - lr (dw + μ v') with nesterov.

    w, dw, v: [*s]   lr: []
    """
    v_next = g.Add(g.Mul(v, mu), dw)
    direction = g.Add(dw, g.Mul(v_next, mu)) if nesterov else v_next
    return {"w": g.Sub(w, g.Mul(lr, direction)), "v": v_next}


@composite(
    "NAdam",
    updates=("w", "decay", "b2", "product", "m", "s"),
    cases=_over_all(MOMENTS, "decay", "b2", "product"),
)
def nadam(
    g: Tape, w: Variable, dw: Variable, decay: Variable, b2: Variable, product: Variable,
    m: Variable, s: Variable, lr: Variable,
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, psi: float = 0.004,
) -> Updates:  # fmt: skip
    """Adam with Nesterov's momentum: μ_t = β₁ (1 - 0.96^(tψ) / 2),  P = μ₁ … μ_t.

    w' = w - lr (μ_{t+1} m' / (1 - P μ_{t+1}) + (1 - μ_t) dw / (1 - P)) / (√(s' / (1 - β₂^t)) + ε)

    w, dw, m, s: [*s]   decay: [1], 0.96^t   b2: [1], β₂^t   product: [1], P   lr: []   Dozat, 2016.
    """
    decay_next, b2_next = g.Mul(decay, 0.96), g.Mul(b2, beta2)  # [1]
    power = g.Pow(decay_next, psi)
    mu = g.Mul(g.Sub(1.0, g.Mul(power, 0.5)), beta1)  # [1]
    following = g.Mul(g.Sub(1.0, g.Mul(power, 0.5 * 0.96**psi)), beta1)
    product_next = g.Mul(product, mu)
    m_next, s_next = _blend(g, m, dw, beta1), _blend(g, s, g.Mul(dw, dw), beta2)
    ahead = _scalar(g, g.Div(following, g.Sub(1.0, g.Mul(product_next, following))), w)
    now = _scalar(g, g.Div(g.Sub(1.0, mu), g.Sub(1.0, product_next)), w)
    mean = g.Add(g.Mul(ahead, m_next), g.Mul(now, dw))
    spread = g.Sqrt(g.Mul(s_next, _inverse(g, g.Sub(1.0, b2_next), w)))
    step = g.Div(g.Mul(lr, mean), g.Add(spread, epsilon))
    return {
        "w": g.Sub(w, step), "decay": decay_next, "b2": b2_next, "product": product_next,
        "m": m_next, "s": s_next,
    }  # fmt: skip


@composite(
    "RAdam",
    updates=("w", "b1", "b2", "rho", "m", "s"),
    cases=_over_all(MOMENTS, "b1", "b2", "rho"),
)
def radam(
    g: Tape, w: Variable, dw: Variable, b1: Variable, b2: Variable, rho: Variable, m: Variable,
    s: Variable, lr: Variable,
    *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8,
) -> Updates:  # fmt: skip
    """Adam whose step is rectified: R = 2 / (1 - β₂) - 1,  r = R - 2 t β₂^t / (1 - β₂^t).

    Where r > 5 the step is √((r-4)(r-2)R / ((R-4)(R-2)r)) m̂ / √ŝ, else m̂.

    w, dw, m, s: [*s]   b1, b2: [1], β₁^t, β₂^t   rho: [1], t β₂^t / (1 - β₂^t)   Liu et al., 2020.
    """
    limit = 2.0 / (1.0 - beta2) - 1.0  # R
    b1_next, b2_next = g.Mul(b1, beta1), g.Mul(b2, beta2)  # [1]
    left = g.Sub(1.0, b2_next)
    # t β₂^t = β₂ (t-1) β₂^(t-1) + β₂^t
    rho_next = g.Div(g.Add(g.Mul(g.Mul(rho, g.Sub(1.0, b2)), beta2), b2_next), left)
    m_next, s_next = _blend(g, m, dw, beta1), _blend(g, s, g.Mul(dw, dw), beta2)
    r = g.Sub(limit, g.Mul(rho_next, 2.0))
    rectified = g.Greater(r, 5.0)
    safe = g.Where(rectified, r, 6.0)
    ratio = g.Div(g.Mul(g.Sub(safe, 4.0), g.Sub(safe, 2.0)), safe)
    factor = g.Sqrt(g.Mul(g.Mul(ratio, limit / ((limit - 4.0) * (limit - 2.0))), left))
    mean = g.Mul(m_next, _inverse(g, g.Sub(1.0, b1_next), w))
    adapted = g.Div(g.Mul(_scalar(g, factor, w), mean), g.Add(g.Sqrt(s_next), epsilon))
    step = g.Where(_scalar(g, rectified, w), adapted, mean)
    return {
        "w": g.Sub(w, g.Mul(lr, step)), "b1": b1_next, "b2": b2_next, "rho": rho_next,
        "m": m_next, "s": s_next,
    }  # fmt: skip


@composite(
    "RMSProp",
    updates=("w", "k", "q", "c"),
    cases=[
        *_cases(k=(3, 2), q=positive((3, 2))),
        *_cases(k=(3, 2), q=positive((3, 2)), attrs={"momentum": 0.9}),
        *_cases(k=(3, 2), q=positive((3, 2)), c=unit((3, 2))),
    ],
)
def rmsprop(
    g: Tape, w: Variable, dw: Variable, k: Variable, q: Variable, lr: Variable,
    c: Variable | None = None,
    *, rho: float = 0.95, epsilon: float = 1e-6, momentum: float = 0.0,
) -> Updates:  # fmt: skip
    """q' = ρ q + (1 - ρ) dw²,  k' = μ k + lr dw / √(q' - c'² + ε),  w' = w - k'.

    c' = ρ c + (1 - ρ) dw if c is given (centered), else 0        w, dw, k, q, c: [*s]   lr: []
    """
    q_next = _blend(g, q, g.Mul(dw, dw), rho)
    c_next = None if c is None else _blend(g, c, dw, rho)
    inner = q_next if c_next is None else g.Sub(q_next, g.Mul(c_next, c_next))
    step = g.Div(g.Mul(lr, dw), g.Sqrt(g.Add(inner, epsilon)))
    k_next = g.Add(g.Mul(k, momentum), step) if momentum else step
    updates = {"w": g.Sub(w, k_next), "k": k_next, "q": q_next}
    return updates if c_next is None else {**updates, "c": c_next}


@composite(
    "Rprop",
    updates=("w", "previous", "step"),
    cases=[case(w=(3, 2), dw=(3, 2), previous=(3, 2), step=positive((3, 2)))],
)
def rprop(
    g: Tape, w: Variable, dw: Variable, previous: Variable, step: Variable,
    *, low: float = 1e-5, high: float = 50.0, shrink: float = 0.5, grow: float = 1.2,
) -> Updates:  # fmt: skip
    """Each weight moves by a step of its own, larger while the gradient keeps its sign.

    The step is clipped to [low, high]; where the sign changed the gradient counts as 0.

    w, dw, previous, step: [*s]        Riedmiller, Braun, 1993.
    """
    product = g.Mul(dw, previous)
    same, changed = g.Greater(product, 0.0), g.Less(product, 0.0)
    grown = g.Where(same, g.Mul(step, grow), g.Where(changed, g.Mul(step, shrink), step))
    step_next = g.Clip(grown, low, high)
    kept = g.Where(changed, 0.0, dw)
    return {"w": g.Sub(w, g.Mul(g.Sign(kept), step_next)), "previous": kept, "step": step_next}


@composite("SGD", updates=("w",), cases=_cases())
def sgd(g: Tape, w: Variable, dw: Variable, lr: Variable) -> Updates:
    """Gradient descent: w' = w - lr dw        w, dw: [*s]   lr: []."""
    return {"w": g.Sub(w, g.Mul(lr, dw))}
