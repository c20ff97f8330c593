"""ai.onnx.preview.training: ONNX's own update rules, each over any number of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ops.registry.cases import case, ints, positive
from graphopt.ops.registry.registry import decomposition

DOMAIN = "ai.onnx.preview.training"
UpdateRule: TypeAlias = Callable[..., Sequence[Variable]]
ONE, TWO = (3, 2), (4,)


@decomposition(
    f"{DOMAIN}::Adagrad",
    cases=[
        case(R=(), T=ints((), 5), inputs=[ONE, ONE, positive(ONE)], results=2,
             attrs={"norm_coefficient": 0.125}),
        case(R=(), T=ints((), 5, low=1), inputs=[ONE, TWO, ONE, TWO, positive(ONE), positive(TWO)],
             results=4, attrs={"decay_factor": 0.125, "epsilon": 0.125}),
    ],
    nondiff=["T"],
    twice=False,
)  # fmt: skip
def adagrad(g: Tape, op: Operator) -> list[Variable]:
    """H' = H + G^2, X' = X - r G / (sqrt H' + epsilon), r = R / (1 + T decay)   X, G, H: [*s]."""
    R, T = op.operand("R"), op.operand("T")
    rate = g.Div(R, g.Add(g.Mul(g.cast(T, R.dtype), op.attrs["decay_factor"]), 1.0))

    def rule(X: Variable, G: Variable, H: Variable) -> Sequence[Variable]:
        G = _with_decay(g, op, X, G)
        squares = g.Add(H, g.Mul(G, G))
        step = g.Div(G, g.Add(g.Sqrt(squares), op.attrs["epsilon"]))
        return g.Sub(X, g.Mul(g.cast(rate, X.dtype), step)), squares

    return _each(op, rule, 3)


@decomposition(
    f"{DOMAIN}::Adam",
    cases=[
        case(R=(), T=ints((), 5, low=1), inputs=[*[ONE] * 3, positive(ONE)], results=3,
             attrs={"norm_coefficient": 0.125, "norm_coefficient_post": 0.25, "epsilon": 0.125}),
        case(R=(), T=ints((), 1), inputs=[*[ONE] * 3, positive(ONE)], results=3),
    ],
    nondiff=["T"],
    twice=False,
)  # fmt: skip
def adam(g: Tape, op: Operator) -> list[Variable]:
    """X' = (1 - post) (X - r V' / (sqrt H' + epsilon))        X, G, V, H: [*s].

    V' = alpha V + (1 - alpha) G, H' = beta H + (1 - beta) G^2, and for T > 0
    r = R sqrt(1 - beta^T) / (1 - alpha^T), else R.
    """
    R, T, alpha, beta = op.operand("R"), op.operand("T"), op.attrs["alpha"], op.attrs["beta"]
    steps = g.Where(g.Greater(T, 0), g.cast(T, R.dtype), 1.0)
    unbiased = g.Div(
        g.Sqrt(g.Sub(1.0, g.Pow(g.full(beta, R), steps))),
        g.Sub(1.0, g.Pow(g.full(alpha, R), steps)),
    )
    rate = g.Where(g.Greater(T, 0), g.Mul(R, unbiased), R)

    def rule(X: Variable, G: Variable, V: Variable, H: Variable) -> Sequence[Variable]:
        G = _with_decay(g, op, X, G)
        mean = g.Add(g.Mul(V, alpha), g.Mul(G, 1 - alpha))
        squares = g.Add(g.Mul(H, beta), g.Mul(g.Mul(G, G), 1 - beta))
        step = g.Div(mean, g.Add(g.Sqrt(squares), op.attrs["epsilon"]))
        moved = g.Sub(X, g.Mul(g.cast(rate, X.dtype), step))
        return g.Mul(moved, 1 - op.attrs["norm_coefficient_post"]), mean, squares

    return _each(op, rule, 4)


MOMENTUM = {"alpha": 0.875, "beta": 0.75, "norm_coefficient": 0.125}


@decomposition(
    f"{DOMAIN}::Momentum",
    cases=[
        case(R=(), T=ints((), 5, low=1), inputs=[ONE] * 3, results=2,
             attrs={**MOMENTUM, "mode": "standard"}),
        case(R=(), T=ints((), 1), inputs=[ONE, TWO] * 3, results=4,
             attrs={**MOMENTUM, "mode": "nesterov"}),
    ],
    nondiff=["T"],
)  # fmt: skip
def momentum(g: Tape, op: Operator) -> list[Variable]:
    """V' = alpha V + b G, X' = X - R V', or X - R (G + alpha V')        X, G, V: [*s].

    b is beta, and 1 in the first step (T = 0); the second form is Nesterov's.
    """
    R, alpha = op.operand("R"), op.attrs["alpha"]
    weight = g.Where(g.Greater(op.operand("T"), 0), g.full(op.attrs["beta"], R), 1.0)

    def rule(X: Variable, G: Variable, V: Variable) -> Sequence[Variable]:
        G = _with_decay(g, op, X, G)
        velocity = g.Add(g.Mul(V, alpha), g.Mul(G, g.cast(weight, X.dtype)))
        step = velocity
        if op.attrs["mode"] == "nesterov":
            step = g.Add(G, g.Mul(velocity, alpha))
        return g.Sub(X, g.Mul(g.cast(R, X.dtype), step)), velocity

    return _each(op, rule, 3)


def _with_decay(g: Tape, op: Operator, X: Variable, G: Variable) -> Variable:
    """The gradient of the loss with norm_coefficient / 2 |X|^2 added."""
    decay = op.attrs["norm_coefficient"]
    return g.Add(G, g.Mul(X, decay)) if decay else G


def _each(op: Operator, rule: UpdateRule, kinds: int) -> list[Variable]:
    """The rule for every tensor. Operands and results are grouped by kind: X1, X2, G1, G2, ..."""
    operands = list(op.operands())[2:]
    count = len(operands) // kinds
    made = [rule(*operands[k::count]) for k in range(count)]
    return [result[kind] for kind in range(len(made[0])) for result in made]
