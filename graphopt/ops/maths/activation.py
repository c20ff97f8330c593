"""Activations. Slopes at kinks are those of Paddle; results are used where that saves an op.

A factor that a condition chooses is made of the condition as 1 or 0 where that is possible:
onnxruntime's Where takes one thread, and more than twice as long as what stands for it.
"""

from __future__ import annotations

import math

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ops.maths.elementwise import result_of
from graphopt.ops.registry.cases import Draw, case, fixed
from graphopt.ops.registry.registry import Grads, gradient

AXES = [case(input=(2, 3)), *[case(input=(2, 3, 4), attrs={"axis": axis}) for axis in (0, 1, -2)]]
WIDE = Draw((4, 5), lambda rng, shape: 4.0 * fixed(shape).sample(rng, shape))  # in ±6


@gradient("Elu", cases=[case(X=(2, 3)), case(X=(2, 3), attrs={"alpha": 0.5})])
def elu(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X if X > 0, else alpha (exp X - 1)        X: [*n]."""
    negative = g.Add(result_of(op), op.attrs["alpha"])
    return {"X": g.Mul(dY, g.Where(g.Greater(op.operand("X"), 0.0), 1.0, negative))}


@gradient("Gelu", cases=[case(X=(2, 3)), case(X=(2, 3), attrs={"approximate": "tanh"})])
def gelu(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X times the normal distribution function of X, by erf or by tanh        X: [*n]."""
    X, Y = op.operand("X"), result_of(op)
    slope = _gelu_slope_tanh(g, X, Y) if op.attrs["approximate"] == "tanh" else _gelu_slope(g, X)
    return {"X": g.Mul(dY, slope)}


@gradient("HardSigmoid", cases=[case(X=(3, 4), attrs={"alpha": 0.5}), case(X=(3, 4))])
def hard_sigmoid(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = min(max(alpha X + beta, 0), 1), of slope 0 on both bounds        X: [*n]."""
    Y = result_of(op)
    inside = g.And(g.Greater(Y, 0.0), g.Less(Y, 1.0))
    return {"X": g.Mul(dY, g.Mul(g.cast(inside, Y.dtype), op.attrs["alpha"]))}


@gradient("HardSwish", cases=[case(X=WIDE)])
def hard_swish(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X min(max(X / 6 + 1 / 2, 0), 1), of slope 0 at -3 and 1 at 3        X: [*n]."""
    X = op.operand("X")
    inner = g.Add(g.Mul(X, 1 / 3), 0.5)
    slope = g.Where(g.Less(X, 3.0), inner, 1.0)
    return {"X": g.Mul(dY, g.Where(g.Greater(X, -3.0), slope, 0.0))}


@gradient(
    "LeakyRelu",
    cases=[
        case(X=(2, 3)),
        *[case(X=(2, 3), attrs={"alpha": alpha}) for alpha in (0.3, -0.5, 1.5)],
    ],
)
def leaky_relu(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X if X >= 0, else alpha X        X: [*n]."""
    alpha = op.attrs["alpha"]
    positive = g.cast(g.GreaterOrEqual(op.operand("X"), 0.0), dY.dtype)
    if 0 <= alpha <= 1:
        return {"X": g.Mul(dY, g.Max(positive, alpha))}
    return {"X": g.Mul(dY, g.Where(g.Equal(positive, 0.0), alpha, positive))}


@gradient("LogSoftmax", cases=AXES)
def log_softmax(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X - log sum exp X along an axis        X: [*n]."""
    total = g.ReduceSum(dY, [op.attrs["axis"]], keepdims=1)
    return {"input": g.Sub(dY, g.Mul(g.Exp(result_of(op)), total))}


@gradient("Mish", cases=[case(X=(2, 3))])
def mish(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X t with t = tanh softplus X        X: [*n]."""
    X = op.operand("X")
    t = g.Tanh(g.Softplus(X))
    bend = g.Mul(g.Sub(X, g.Mul(result_of(op), t)), g.Sigmoid(X))  # X (1 - t^2) softplus' X
    return {"X": g.Mul(dY, g.Add(t, bend))}


@gradient(
    "PRelu",
    cases=[
        case(X=(2, 3), slope=(2, 3)),
        case(X=(2, 3, 4), slope=(3, 1)),
        case(X=(2, 3), slope=(1,)),
    ],
)
def p_relu(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X if X >= 0, else slope X        X: [*n]   slope: broadcast to X."""
    X, slope = op.operand("X"), op.operand("slope")
    dX = g.Mul(dY, g.Where(g.GreaterOrEqual(X, 0.0), 1.0, slope))
    return {"X": dX, "slope": g.Mul(dY, g.Min(X, 0.0))}


@gradient("Relu", cases=[case(X=(2, 3))])
def relu(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = max(X, 0), of slope 0 at 0        X: [*n]."""
    return {"X": g.Mul(dY, g.cast(g.Greater(result_of(op), 0.0), dY.dtype))}


@gradient("Selu", cases=[case(X=(2, 3)), case(X=(2, 3), attrs={"alpha": 0.5, "gamma": 2.0})])
def selu(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = gamma X if X > 0, else gamma alpha (exp X - 1)        X: [*n]."""
    alpha, gamma = op.attrs["alpha"], op.attrs["gamma"]
    negative = g.Add(result_of(op), alpha * gamma)
    return {"X": g.Mul(dY, g.Where(g.Greater(op.operand("X"), 0.0), gamma, negative))}


@gradient("Sigmoid", cases=[case(X=(2, 3))])
def sigmoid(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = 1 / (1 + exp -X)        X: [*n]."""
    Y = result_of(op)
    return {"X": g.Mul(dY, g.Mul(Y, g.Sub(1.0, Y)))}


@gradient("Softmax", cases=AXES)
def softmax(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = exp X / sum exp X along an axis        X: [*n].

    Of -inf alone, as a fully masked row of attention is, Y is NaN. Where something else takes its
    place dY is 0, and dX is 0 too, not 0 NaN.
    """
    Y, axis = result_of(op), op.attrs["axis"]
    if _is_replaced(g, Y):
        empty = g.IsNaN(g.Slice(Y, [0], [1], [axis]))  # [*m, 1]
        Y = g.Where(empty, 0.0, Y)
    mean = g.ReduceSum(g.Mul(dY, Y), [axis], keepdims=1)
    return {"input": g.Mul(Y, g.Sub(dY, mean))}


@gradient("Softplus", cases=[case(X=(2, 3))])
def softplus(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = log(1 + exp X)        X: [*n]."""
    return {"X": g.Mul(dY, g.Sigmoid(op.operand("X")))}


@gradient("Softsign", cases=[case(input=(2, 3))])
def softsign(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X / (1 + |X|)        X: [*n]."""
    d = g.Add(g.Abs(op.operand("input")), 1.0)
    return {"input": g.Div(dY, g.Mul(d, d))}


@gradient("Swish", cases=[case(X=(2, 3)), case(X=(2, 3), attrs={"alpha": 1.5})])
def swish(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X s with s = sigmoid(alpha X)        X: [*n]."""
    X, Y, alpha = op.operand("X"), result_of(op), op.attrs["alpha"]
    s = g.Sigmoid(X if alpha == 1 else g.Mul(X, alpha))
    bend = g.Mul(Y, g.Sub(1.0, s))
    return {"X": g.Mul(dY, g.Add(s, bend if alpha == 1 else g.Mul(bend, alpha)))}


@gradient("Tanh", cases=[case(input=(2, 3))])
def tanh(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = tanh X        X: [*n]."""
    Y = result_of(op)
    return {"input": g.Mul(dY, g.Sub(1.0, g.Mul(Y, Y)))}


@gradient("ThresholdedRelu", cases=[case(X=(3, 4), attrs={"alpha": 0.5})])
def thresholded_relu(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X if X > alpha, else 0        X: [*n]."""
    above = g.Greater(op.operand("X"), op.attrs["alpha"])
    return {"X": g.Mul(dY, g.cast(above, dY.dtype))}


def _is_replaced(g: Tape, Y: Variable) -> bool:
    """Whether a Where takes Y, or Y in another dtype, or something else."""
    ops = (*Y.block.ops, *(g.scratch or ()))
    readers = [op for op in ops if any(v is Y for v in op.reads())]
    copies = [v for op in readers if op.type in ("Cast", "Identity") for v in op.writes()]
    return any(op.type == "Where" for op in readers) or any(_is_replaced(g, v) for v in copies)


def _gelu_slope(g: Tape, X: Variable) -> Variable:
    """(1 + erf u) / 2 + X exp(-u^2) / sqrt(2 pi) with u = X / sqrt 2."""
    u = g.Mul(X, math.sqrt(0.5))
    cumulative = g.Add(g.Mul(g.Erf(u), 0.5), 0.5)
    density = g.Exp(g.Sub(-math.log(math.sqrt(2 * math.pi)), g.Mul(u, u)))
    return g.Add(cumulative, g.Mul(X, density))


def _gelu_slope_tanh(g: Tape, X: Variable, Y: Variable) -> Variable:
    """The slope s + Y (1 - s) z', where Y = X s, s = sigmoid z and z = X (a + b X^2)."""
    a = 2 * math.sqrt(2 / math.pi)
    cubic = g.Mul(g.Mul(X, X), 0.044715 * a)  # b X^2
    s = g.Sigmoid(g.Mul(X, g.Add(cubic, a)))
    dz = g.Add(g.Mul(cubic, 3.0), a)
    return g.Add(s, g.Mul(g.Mul(Y, g.Sub(1.0, s)), dz))
