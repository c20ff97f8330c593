"""Elementwise arithmetic with broadcasting; the engine sums gradients back to operand shapes."""

from __future__ import annotations

from graphopt.ir.operator import Operator
from graphopt.ir.tape import Tape
from graphopt.ir.variable import Variable
from graphopt.ops.cases import case, positive
from graphopt.ops.registry import Grads, gradient

BROADCASTS = [case(A=(2, 3), B=(2, 3)), case(A=(2, 3), B=(3,)), case(A=(2, 1), B=(4, 1, 3))]


@gradient("Add", cases=BROADCASTS)
def add(g: Tape, op: Operator, dC: Variable) -> Grads:
    """C = A + B        A, B: broadcast to C."""
    return {"A": dC, "B": dC}


@gradient(
    "Div",
    cases=[case(A=(2, 3), B=positive((2, 3))), case(A=(3,), B=positive((2, 1)))],
)
def div(g: Tape, op: Operator, dC: Variable) -> Grads:
    """C = A / B        A, B: broadcast to C."""
    A, B = op.operand("A"), op.operand("B")
    dA = g.Div(dC, B)
    return {"A": dA, "B": g.Neg(g.Div(g.Mul(dA, A), B))}


@gradient("Mul", cases=BROADCASTS)
def mul(g: Tape, op: Operator, dC: Variable) -> Grads:
    """C = A B        A, B: broadcast to C."""
    A, B = op.operand("A"), op.operand("B")
    return {"A": g.Mul(dC, B), "B": g.Mul(dC, A)}


@gradient("Neg", cases=[case(X=(2, 3))])
def neg(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = -X        X: [*n]."""
    return {"X": g.Neg(dY)}


@gradient("Sub", cases=BROADCASTS)
def sub(g: Tape, op: Operator, dC: Variable) -> Grads:
    """C = A - B        A, B: broadcast to C."""
    return {"A": dC, "B": g.Neg(dC)}


@gradient("Sum", cases=[case(data_0=[(2, 3), (3,), (2, 1)]), case(data_0=[(2, 3)])])
def sum_(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the sum of all operands        operands: broadcast to Y."""
    return {"data_0": [dY] * len(op.inputs)}


@gradient("Cast", cases=[case(input=(2, 3), attrs={"to": 11})])
def cast(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X in another dtype        X: [*n]."""
    return {"input": g.cast(dY, op.operand("input").dtype)}


@gradient("Identity", cases=[case(input=(2, 3))])
def identity(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X        X: [*n]."""
    return {"input": dY}
