"""Products. Their gradients are quotients, so zeros among the factors are kept out of them.

A zero is replaced by 1, and what lacks it is put back by a factor: 1 where no other factor is 0,
the other zero itself where it is alone (its value is 0, its derivative is not: the second
derivative needs it), 0 where there are more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.maths.reduction import REDUCTIONS, kept_dims, reduced
from graphopt.ops.registry.cases import Draw, case, i64, scalar
from graphopt.ops.registry.registry import Grads, gradient

Pool = Callable[[Variable], Variable]


def numbers(values: Sequence[float]) -> Draw:
    """Fed floats of these values."""
    return Draw((len(values),), lambda *_: np.array(values))


@gradient(
    "CumProd",
    cases=[
        case(x=(2, 4), axis=scalar(1)),
        case(x=(4, 2), axis=scalar(-2), attrs={"exclusive": 1}),
        case(x=(2, 4), axis=scalar(1), attrs={"reverse": 1}),
        case(x=numbers([2.0, 3.0, 0.0, 0.5, 1.5]), axis=scalar(0)),
        case(x=numbers([2.0, 0.0, 3.0, 0.0, 0.5]), axis=scalar(0), attrs={"exclusive": 1}),
    ],
    nondiff=["axis"],
)
def cum_prod(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the product of X up to each position of an axis, or from there on        X, Y: [*n]."""
    X, axis = op.operand("x"), op.operand("axis")
    along = {name: op.attrs[name] for name in ("exclusive", "reverse")}
    is_zero, safe, zero, vanishing = _split_zeros(g, X)
    zeros = g.CumSum(zero, axis, **along)  # up to each position
    last = g.CumSum(vanishing, axis, **along)  # a zero that is alone there
    one = g.cast(g.Equal(zeros, 1.0), X.dtype)
    none, two = (g.cast(g.Equal(zeros, k), X.dtype) for k in (0.0, 2.0))

    def onward(weight: Variable) -> Variable:
        """The sum of dY safe products times a weight, over the positions that X is part of."""
        product = g.Mul(g.CumProd(safe, axis, **along), dY)
        backward = {"exclusive": along["exclusive"], "reverse": 1 - along["reverse"]}
        return g.CumSum(g.Mul(product, weight), axis, **backward)

    of_zero = g.Sub(onward(g.Add(one, g.Mul(two, last))), g.Mul(vanishing, onward(two)))
    others = g.Where(is_zero, of_zero, onward(g.Add(none, g.Mul(one, last))))
    return {"x": typed(g.Div(others, safe), X)}


@gradient(
    "ReduceProd",
    cases=[
        *REDUCTIONS,
        case(data=numbers([2.0, 0.0, 1.5]), attrs={"keepdims": 0}),
        case(data=numbers([2.0, 0.0, 0.0, 1.5]), axes=i64(0)),
    ],
    nondiff=["axes"],
)
def reduce_prod(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = product over axes of X, which may have zeros        X: [*n]   Y: [*n less axes]."""
    X = op.operand("data")
    slope = product_of_others(
        g, X, lambda x: reduced(g, op, "ReduceProd", x), lambda x: reduced(g, op, "ReduceSum", x)
    )
    return {"data": typed(g.Mul(slope, kept_dims(g, op, dY)), X)}


def product_of_others(g: Tape, X: Variable, product: Pool, total: Pool) -> Variable:
    """For each factor in X the product of those it is multiplied with.

    ``product`` and ``total`` multiply and add up the factors of each product.
    """
    _, safe, zero, vanishing = _split_zeros(g, X)
    others = g.Sub(total(zero), zero)  # zeros among the other factors
    lone = g.Where(g.Equal(others, 1.0), g.Sub(total(vanishing), vanishing), 0.0)
    return g.Mul(g.Div(product(safe), safe), g.Where(g.Equal(others, 0.0), 1.0, lone))


def _split_zeros(g: Tape, X: Variable) -> tuple[Variable, Variable, Variable, Variable]:
    """Where X is 0; X with 1 there; 1 there and 0 elsewhere; X there and 0 elsewhere."""
    is_zero = g.Equal(X, 0.0)
    zero = g.cast(is_zero, X.dtype)
    return is_zero, g.Where(is_zero, 1.0, X), zero, g.Where(is_zero, X, 0.0)
