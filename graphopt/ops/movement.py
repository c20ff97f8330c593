"""Ops that move elements without changing them."""

from __future__ import annotations

from graphopt.ir.operator import Operator
from graphopt.ir.tape import Tape
from graphopt.ir.variable import Variable
from graphopt.ops.cases import case, i64
from graphopt.ops.registry import Grads, gradient


@gradient("Expand", cases=[case(input=(2, 1), shape=i64(4, 2, 3)), case(input=(3,), shape=i64(1))],
          nondiff=["shape"])  # fmt: skip
def expand(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X broadcast to a shape        X: broadcast to Y."""
    return {"input": dY}


@gradient("Reshape", cases=[case(data=(2, 3, 4), shape=i64(6, 4)), case(data=(2, 3), shape=i64(0, -1, 1))],
          nondiff=["shape"])  # fmt: skip
def reshape(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X in another shape        X: [*n]   Y: [*m], as many elements."""
    return {"data": g.reshape_like(dY, op.operand("data"))}


@gradient("Squeeze", cases=[case(data=(2, 1, 3), axes=i64(1))], nondiff=["axes"])
def squeeze(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X without some dims of size 1        X: [*n]."""
    return {"data": g.reshape_like(dY, op.operand("data"))}


@gradient("Transpose", cases=[case(data=(2, 3, 4), attrs={"perm": [2, 0, 1]}), case(data=(2, 3))])
def transpose(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y[..] = X with its dims permuted        X: [*n]   Y: [n[perm]]."""
    perm = op.attrs.get("perm")
    if perm is None:
        return {"data": g.Transpose(dY)}
    inverse = sorted(range(len(perm)), key=perm.__getitem__)
    return {"data": g.Transpose(dY, perm=inverse)}


@gradient("Unsqueeze", cases=[case(data=(2, 3), axes=i64(0, -1))], nondiff=["axes"])
def unsqueeze(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X with new dims of size 1        X: [*n]."""
    return {"data": g.reshape_like(dY, op.operand("data"))}
