"""Fourier transforms. They are linear: their gradients are transforms the other way."""

from __future__ import annotations

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import TensorType
from graphopt.ops.registry.cases import case, fixed, ints, scalar
from graphopt.ops.registry.registry import Grads, decomposition, gradient, zero_gradient
from graphopt.ops.tools.counting import up_to

I64 = np.dtype(np.int64)

zero_gradient(
    "the operands are sizes, or bounds that are rounded to a whole bin",
    "BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix",
)  # fmt: skip


@gradient(
    "DFT",
    cases=[
        case(input=(2, 5, 2)),
        case(input=(2, 5, 1), dft_length=scalar(7)),
        case(input=(2, 5, 2), dft_length=ints((), 4, low=3), attrs={"inverse": 1}),
        case(input=(3, 2, 4, 1), axis=scalar(0), attrs={"inverse": 1}),
        case(input=(2, 5, 1), attrs={"onesided": 1}),
        case(input=(6, 2, 1), dft_length=scalar(4), axis=scalar(0), attrs={"onesided": 1}),
        case(input=(2, 4, 2), attrs={"onesided": 1, "inverse": 1}),
        case(input=(2, 4, 2), dft_length=scalar(7), attrs={"onesided": 1, "inverse": 1}),
        case(
            input=(4, 2, 2),
            dft_length=ints((), 5, low=4),
            axis=scalar(-3),
            attrs={"onesided": 1, "inverse": 1},
        ),
    ],
    nondiff=["dft_length", "axis"],
)
def dft(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y[k] = sum_t w^(k t) X[t], w = exp(-2 pi i / l)        X: [*n, t, *s, 2]   Y: [*n, l, *s, 2].

    A real X has one number in its last dim. The inverse has the conjugate of w and divides by l.
    """
    X, axis = op.operand("input"), op.maybe("axis")
    inverse, onesided = op.attrs["inverse"], op.attrs["onesided"]
    length = _length(g, op, dY)  # []
    scale = g.cast(length, X.dtype)
    if not inverse:
        dX = g.Mul(_ranked(g, g.DFT(dY, length, axis, inverse=1), X), scale)
    else:  # [*n, l, *s, 2], or l // 2 + 1 bins
        dX = g.Div(_ranked(g, g.DFT(dY, None, axis, onesided=onesided), X), scale)
    if inverse and onesided:
        dX = g.Mul(dX, _multiplicity(g, op, length))
    if op.maybe("dft_length") is not None:
        dX = _cut_or_padded(g, dX, X, _axes(g, op))
    if X.tensor_type.shape is None or X.tensor_type.shape[-1] != 2:
        dX = g.Slice(dX, [0], g.dim_of(X, -1), [-1])
    return {"input": typed(dX, X)}


@decomposition(
    "STFT",
    cases=[
        case(
            signal=fixed((2, 9, 1)),
            frame_step=scalar(2),
            window=fixed((4,)),
            attrs={"onesided": 0},
        ),
        case(
            signal=fixed((2, 9, 2)),
            frame_step=scalar(3),
            frame_length=scalar(4),
            attrs={"onesided": 0},
        ),
    ],
    nondiff=["frame_step", "frame_length"],
)
def stft(g: Tape, op: Operator) -> Variable:
    """Y[f] = DFT(w X[f step : f step + l])        X: [n, t, c]   w: [l]   Y: [n, f, k, 2].

    c is 1 for a real X and 2 for a complex one; k is l, or l // 2 + 1 where Y is one-sided.
    """
    X, window = op.operand("signal"), op.maybe("window")
    step, length = _vector(g, op.operand("frame_step")), _frame_length(g, op)  # [1], [1]
    count = g.Add(g.Div(g.Sub(g.dim_of(X, 1), length), step), 1)
    starts = g.Mul(g.Unsqueeze(up_to(g, count), [1]), step)  # [f, 1]
    frames = g.Gather(X, g.Add(starts, up_to(g, length)), axis=1)  # [n, f, l, c]
    if window is not None:
        frames = g.Mul(frames, g.Unsqueeze(window, [1]))
    found: Variable = g.DFT(frames, onesided=op.attrs["onesided"])
    return found


def _length(g: Tape, op: Operator, dY: Variable) -> Variable:
    """The number of elements that are transformed, l: i64[]."""
    given, axis = op.maybe("dft_length"), op.maybe("axis")
    if given is not None:
        return g.cast(given, I64)
    # Of a one-sided transform only the real side tells an even l from an odd one.
    full = op.operand("input") if not op.attrs["inverse"] else dY
    if axis is None or isinstance(axis, Constant):
        k = -2 if axis is None else int(axis.value)
        return g.Squeeze(g.dim_of(full, k), [0])
    return g.Gather(g.shape_of(full), axis)


def _ranked(g: Tape, x: Variable, like: Variable) -> Variable:
    """x with the rank of ``like``, which onnx cannot tell while the axis is not known."""
    if x.tensor_type.shape is None:
        symbols = [g.program.fresh_symbol() for _ in range(like.ndim)]
        x.tensor_type = TensorType(x.dtype, tuple(symbols))
    return x


def _axes(g: Tape, op: Operator) -> Variable:
    """The axis of the transform: i64[1]."""
    axis = op.maybe("axis")
    return g.const([-2]) if axis is None else _vector(g, axis)


def _vector(g: Tape, x: Variable) -> Variable:
    """A scalar as i64[1]."""
    if isinstance(x, Constant):
        return g.const(x.value.reshape(1).astype(I64))
    return g.Reshape(g.cast(x, I64), [1])


def _multiplicity(g: Tape, op: Operator, length: Variable) -> Variable:
    """How often each bin of a one-sided spectrum counts: once where it is its own conjugate."""
    twice = g.Mul(g.Range(0, g.Add(g.Div(length, 2), 1), 1), 2)  # 2 k
    own = g.Equal(g.Mod(twice, length), 0)
    ones = np.ones(op.operand("input").ndim, np.int64)
    shape = g.ScatterElements(ones, _axes(g, op), [-1])  # 1 but for the axis
    times: Variable = g.Reshape(g.Where(own, g.full(1.0, op.operand("input")), 2.0), shape)
    return times


def _cut_or_padded(g: Tape, x: Variable, like: Variable, axes: Variable) -> Variable:
    """x with as many elements along an axis as ``like``: the first ones, or zeros behind them."""
    size, wanted = (g.Gather(g.shape_of(v), axes) for v in (x, like))
    missing = g.Max(g.Sub(wanted, size), 0)
    padded: Variable = g.Pad(g.Slice(x, [0], wanted, axes), g.dims(0, missing), None, axes)
    return padded


def _frame_length(g: Tape, op: Operator) -> Variable:
    """The number of elements in a frame: i64[1]."""
    given, window = op.maybe("frame_length"), op.maybe("window")
    if given is not None:
        return _vector(g, given)
    return g.dim_of(op.operand("signal"), 1) if window is None else g.dim_of(window, 0)
