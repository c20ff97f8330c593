"""Quantization: integers have no gradient, their scales do."""

from __future__ import annotations

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.registry.cases import Draw, Shape, case, fixed
from graphopt.ops.registry.registry import Grads, gradient


def small(shape: Shape) -> Draw:
    """Fed integers of 8 bits."""
    return Draw(shape, lambda rng, s: rng.integers(-9, 9, s).astype(np.int8))


@gradient(
    "DequantizeLinear",
    cases=[
        case(x=small((2, 3)), x_scale=()),
        case(x=small((2, 3, 4)), x_scale=fixed((3,))),
        case(x=small((3, 2)), x_scale=fixed((3,)), attrs={"axis": -2}),
        case(x=small((2, 6)), x_scale=(2, 3), attrs={"axis": 1, "block_size": 2}),
        case(x=small((5, 2)), x_scale=(2, 2), attrs={"axis": 0, "block_size": 3}),
    ],
    nondiff=["x", "x_zero_point"],
)
def dequantize_linear(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = (x - zero) scale    x, Y: [*m, n, *s]   scale, zero: [], [n] or [*m, n / block, *s]."""
    x, scale = op.operand("x"), op.operand("x_scale")
    one = g.expand_like(g.full(1.0, scale), scale)
    steps = g.DequantizeLinear(x, one, op.maybe("x_zero_point"), **op.attrs)  # x - zero
    slope = g.Mul(dY, steps)
    axis, block = op.attrs["axis"] % max(x.ndim, 1), op.attrs["block_size"]
    if block:
        slope = _block_sums(g, slope, scale, axis, block)
    elif scale.ndim == 1:
        slope = g.ReduceSum(slope, [k for k in range(x.ndim) if k != axis], keepdims=0)
    return {"x_scale": g.cast(slope, scale.dtype)}


def _block_sums(g: Tape, x: Variable, scale: Variable, axis: int, block: int) -> Variable:
    """x summed over blocks of an axis, the last of which may be shorter: the shape of scale."""
    count = g.dim_of(scale, axis)
    lacking = g.Sub(g.Mul(count, block), g.dim_of(x, axis))
    whole = g.Pad(x, g.dims(0, lacking), None, [axis])
    behind = [g.dim_of(x, k) for k in range(axis + 1, x.ndim)]
    blocks = g.Reshape(whole, g.dims(*[0] * axis, count, block, *behind))
    return typed(g.ReduceSum(blocks, [axis + 1], keepdims=0), scale)
