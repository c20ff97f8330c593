"""Elementwise arithmetic with broadcasting; the engine sums gradients back to operand shapes."""

from __future__ import annotations

import math

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ops.registry.cases import Draw, bools, case, i64, ints, positive, scalar, unit
from graphopt.ops.registry.registry import Grads, gradient

BROADCASTS = [case(A=(2, 3), B=(2, 3)), case(A=(2, 3), B=(3,)), case(A=(2, 1), B=(4, 1, 3))]
MANY = [case(data_0=[(2, 3), (3,)]), case(data_0=[(2, 3), (3,), (2, 1)]), case(data_0=[(2, 3)])]
ABOVE_ONE = Draw((2, 3), lambda rng, shape: 1.0 + positive(shape).sample(rng, shape))


def result_of(op: Operator) -> Variable:
    """The first result."""
    found = op.outputs[0]
    assert found is not None
    return found


@gradient("Abs", cases=[case(X=(2, 3))])
def abs_(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = |X|, of slope 0 at 0        X: [*n]."""
    return {"X": g.Mul(dY, g.Sign(op.operand("X")))}


@gradient("Acos", cases=[case(input=unit((2, 3)))])
def acos(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = arccos X        X: [*n]."""
    return {"input": g.Neg(g.Div(dY, _cosine_of_arcsine(g, op.operand("input"))))}


@gradient("Acosh", cases=[case(input=ABOVE_ONE)])
def acosh(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = arcosh X        X: [*n]."""
    X = op.operand("input")
    return {"input": g.Div(dY, g.Sqrt(g.Sub(g.Mul(X, X), 1.0)))}


@gradient("Add", cases=BROADCASTS)
def add(g: Tape, op: Operator, dC: Variable) -> Grads:
    """C = A + B        A, B: broadcast to C."""
    return {"A": dC, "B": dC}


@gradient("Asin", cases=[case(input=unit((2, 3)))])
def asin(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = arcsin X        X: [*n]."""
    return {"input": g.Div(dY, _cosine_of_arcsine(g, op.operand("input")))}


@gradient("Asinh", cases=[case(input=(2, 3))])
def asinh(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = arsinh X        X: [*n]."""
    X = op.operand("input")
    return {"input": g.Div(dY, g.Sqrt(g.Add(g.Mul(X, X), 1.0)))}


@gradient("Atan", cases=[case(input=(2, 3))])
def atan(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = arctan X        X: [*n]."""
    X = op.operand("input")
    return {"input": g.Div(dY, g.Add(g.Mul(X, X), 1.0))}


@gradient("Atanh", cases=[case(input=unit((2, 3)))])
def atanh(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = artanh X        X: [*n]."""
    X = op.operand("input")
    return {"input": g.Div(dY, g.Sub(1.0, g.Mul(X, X)))}


@gradient("Cast", cases=[case(input=(2, 3), attrs={"to": 11})])
def cast(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X in another dtype        X: [*n]."""
    return {"input": g.cast(dY, op.operand("input").dtype)}


@gradient(
    "Clip",
    cases=[
        case(input=(3, 4), min=scalar(-0.5), max=scalar(0.7)),
        case(input=(3, 4), min=()),
        case(input=(3, 4), min=None, max=()),
        case(input=(3, 4), min=positive(()), max=unit(())),
        case(input=(2, 3)),
    ],
)
def clip(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = min(max(X, lower), upper), of slope 1 on the bounds        X: [*n]   bounds: []."""
    X, Y, lower = op.operand("input"), result_of(op), op.maybe("min")
    raised = X if lower is None else g.Max(X, lower)
    is_raised = g.And(g.Less(X, raised), g.Equal(raised, Y))
    return {
        "input": g.Where(g.Equal(X, Y), dY, 0.0),
        "min": g.Where(is_raised, dY, 0.0),
        "max": g.Where(g.Greater(raised, Y), dY, 0.0),
    }


@gradient("Cos", cases=[case(input=(2, 3))])
def cos(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = cos X        X: [*n]."""
    return {"input": g.Neg(g.Mul(dY, g.Sin(op.operand("input"))))}


@gradient("Cosh", cases=[case(input=(2, 3))])
def cosh(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = cosh X        X: [*n]."""
    return {"input": g.Mul(dY, g.Sinh(op.operand("input")))}


@gradient(
    "Div",
    cases=[case(A=(2, 3), B=positive((2, 3))), case(A=(3,), B=positive((2, 1)))],
)
def div(g: Tape, op: Operator, dC: Variable) -> Grads:
    """C = A / B        A, B: broadcast to C."""
    B = op.operand("B")
    dA = g.Div(dC, B)
    return {"A": dA, "B": g.Neg(g.Mul(dA, result_of(op)))}


@gradient("Erf", cases=[case(input=(2, 3))])
def erf(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = erf X, of slope 2 / sqrt(pi) exp(-X^2)        X: [*n]."""
    X = op.operand("input")
    return {"input": g.Mul(dY, g.Exp(g.Sub(math.log(2 / math.sqrt(math.pi)), g.Mul(X, X))))}


@gradient("Exp", cases=[case(input=(2, 3))])
def exp(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = exp X        X: [*n]."""
    return {"input": g.Mul(dY, result_of(op))}


@gradient("Identity", cases=[case(input=(2, 3))])
def identity(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X        X: [*n]."""
    return {"input": dY}


@gradient("Log", cases=[case(input=positive((2, 3)))])
def log(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = log X        X: [*n]."""
    return {"input": g.Div(dY, op.operand("input"))}


@gradient("Max", cases=MANY)
def max_(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the largest operand, the gradient shared by ties        operands: broadcast to Y."""
    return {"data_0": _among_winners(g, op, dY, "Greater")}


@gradient("Mean", cases=MANY)
def mean(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the mean of all operands        operands: broadcast to Y."""
    count = len(op.inputs)
    return {"data_0": [g.Div(dY, float(count)) if count > 1 else dY] * count}


@gradient("Min", cases=MANY)
def min_(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the smallest operand, the gradient shared by ties        operands: broadcast to Y."""
    return {"data_0": _among_winners(g, op, dY, "Less")}


@gradient("Mod", cases=[case(A=(3, 4), B=positive((4,)), attrs={"fmod": 1})])
def mod(g: Tape, op: Operator, dC: Variable) -> Grads:
    """C = A - k B, k being A / B rounded to 0, or (fmod=0) down        A, B: broadcast to C."""
    A, B = op.operand("A"), op.operand("B")
    steps = g.Round(g.Div(g.Sub(result_of(op), A), B))  # -k; Round takes rounding off
    return {"A": dC, "B": g.Mul(dC, steps)}


@gradient("Mul", cases=BROADCASTS)
def mul(g: Tape, op: Operator, dC: Variable) -> Grads:
    """C = A B        A, B: broadcast to C."""
    A, B = op.operand("A"), op.operand("B")
    return {"A": g.Mul(dC, B), "B": g.Mul(dC, A)}


@gradient("Neg", cases=[case(X=(2, 3))])
def neg(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = -X        X: [*n]."""
    return {"X": g.Neg(dY)}


@gradient(
    "Pow",
    cases=[
        case(X=positive((2, 3)), Y=(2, 3)),
        case(X=positive((2, 1)), Y=(3,)),
        *[case(X=(2, 3), Y=scalar(exponent)) for exponent in (2.0, 3.0, -1.0, 2)],
        case(X=positive((2, 3)), Y=scalar(0.5)),
        case(X=positive((2, 3)), Y=scalar(-1.5)),
        case(X=(2, 3), Y=i64(1, 2, 3)),
        case(X=(2, 3), Y=ints((3,), 4)),
    ],
)
def pow_(g: Tape, op: Operator, dZ: Variable) -> Grads:
    """Z = X^Y, not depending on Y where X <= 0        X, Y: broadcast to Z."""
    X, Y, Z = op.operand("X"), op.operand("Y"), result_of(op)
    if isinstance(Y, Constant) and Y.value.size == 1:
        return {"X": _power_by_constant(g, X, float(Y.value.item()), Z, dZ), "Y": None}
    exponent = g.cast(Y, X.dtype)
    less = g.Where(g.Equal(exponent, 0.0), 1.0, g.Sub(exponent, 1.0))  # keeps 0 * 0^-1 from NaN
    dX = g.Mul(dZ, g.Mul(exponent, g.Pow(X, less)))
    grows = g.Greater(X, 0.0)
    dY = g.Mul(g.Mul(dZ, Z), g.Log(g.Where(grows, X, 1.0)))
    return {"X": dX, "Y": g.Where(grows, dY, 0.0)}


@gradient("Range", cases=[case(start=unit(()), limit=scalar(5.7), delta=positive(()))])
def range_(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y[k] = start + k delta, as long as Y < limit        operands: []   Y: [n]."""
    steps = g.cast(g.Range(0, g.size_of(dY), 1), dY.dtype)  # [n]
    slope = g.ReduceSum(g.Mul(dY, steps), keepdims=0)
    return {"start": g.ReduceSum(dY, keepdims=0), "limit": None, "delta": slope}


@gradient("Reciprocal", cases=[case(X=(2, 3))])
def reciprocal(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = 1 / X        X: [*n]."""
    Y = result_of(op)
    return {"X": g.Neg(g.Mul(g.Mul(dY, Y), Y))}


@gradient("Sin", cases=[case(input=(2, 3))])
def sin(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = sin X        X: [*n]."""
    return {"input": g.Mul(dY, g.Cos(op.operand("input")))}


@gradient("Sinh", cases=[case(input=(2, 3))])
def sinh(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = sinh X        X: [*n]."""
    return {"input": g.Mul(dY, g.Cosh(op.operand("input")))}


@gradient("Sqrt", cases=[case(X=positive((2, 3)))])
def sqrt(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = sqrt X        X: [*n]."""
    return {"X": g.Div(g.Mul(dY, 0.5), result_of(op))}


@gradient("Sub", cases=BROADCASTS)
def sub(g: Tape, op: Operator, dC: Variable) -> Grads:
    """C = A - B        A, B: broadcast to C."""
    return {"A": dC, "B": g.Neg(dC)}


@gradient("Sum", cases=[case(data_0=[(2, 3), (3,), (2, 1)]), case(data_0=[(2, 3)])])
def sum_(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the sum of all operands        operands: broadcast to Y."""
    return {"data_0": [dY] * len(op.inputs)}


@gradient("Tan", cases=[case(input=unit((2, 3)))])
def tan(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = tan X        X: [*n]."""
    Y = result_of(op)
    return {"input": g.Mul(dY, g.Add(g.Mul(Y, Y), 1.0))}


@gradient(
    "Where",
    cases=[
        case(condition=bools((2, 3)), X=(2, 3), Y=(3,)),
        case(condition=bools((2, 1)), X=(), Y=(2, 3)),
    ],
    nondiff=["condition"],
)
def where(g: Tape, op: Operator, dZ: Variable) -> Grads:
    """Z = X where the condition holds, else Y        condition, X, Y: broadcast to Z."""
    condition = op.operand("condition")
    return {"X": g.Where(condition, dZ, 0.0), "Y": g.Where(condition, 0.0, dZ)}


def _cosine_of_arcsine(g: Tape, X: Variable) -> Variable:
    """sqrt(1 - X^2)."""
    return g.Sqrt(g.Sub(1.0, g.Mul(X, X)))


def _among_winners(g: Tape, op: Operator, dY: Variable, wins: str) -> list[Variable | None]:
    """The winner's gradient is dY, shared by those that tie; two operands need fewer ops."""
    operands = list(op.reads())
    if len(operands) == 1:
        return [dY]
    if len(operands) == 2:
        A, B = operands
        tied = g.Where(g.Equal(A, B), g.Mul(dY, 0.5), 0.0)
        return [g.Where(g.emit(wins, x, y), dY, tied) for x, y in ((A, B), (B, A))]
    won = [g.cast(g.Equal(x, result_of(op)), dY.dtype) for x in operands]
    share = g.Div(dY, g.Sum(*won))
    return [g.Mul(w, share) for w in won]


def _power_by_constant(
    g: Tape, X: Variable, exponent: float, Z: Variable, dZ: Variable
) -> Variable:
    """The gradient of X^exponent; common exponents need no Pow."""
    if exponent == 0:
        return g.zeros_like(X)
    if exponent == 0.5:
        return g.Div(g.Mul(dZ, 0.5), Z)
    slope = X if exponent == 2 else g.Pow(X, g.full(exponent - 1, X))
    return g.Mul(dZ, g.Mul(slope, exponent))
