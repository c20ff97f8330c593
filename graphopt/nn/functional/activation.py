"""Activations, elementwise but for glu and the softmaxes. Slopes at kinks are Paddle's."""

from __future__ import annotations

from graphopt.errors import ArgumentError
from graphopt.ir.model.arithmetic import cast_to
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import number
from graphopt.ir.types.types import DTypeLike, as_dtype
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, axis_of, named, unary


def celu(x: TensorLike, alpha: float = 1.0, name: str | None = None) -> Variable:
    """x above 0, ``alpha`` (exp(x / ``alpha``) - 1) below        x: [*n].

    Barron: Continuously Differentiable Exponential Linear Units, 2017.

    >>> celu(x)
    <Variable celu_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: ``alpha`` is not a number.
    """
    g = recorder(x)
    return named(g.Celu(as_variable(g, x), alpha=number("celu: alpha", alpha)), name)


def elu(x: TensorLike, alpha: float = 1.0, name: str | None = None) -> Variable:
    """x above 0, ``alpha`` (exp x - 1) from 0 down        x: [*n].

    Clevert, Unterthiner, Hochreiter: Exponential Linear Units, 2016.

    >>> elu(x)
    <Variable elu_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: ``alpha`` is not a number.
    """
    g = recorder(x)
    return named(g.Elu(as_variable(g, x), alpha=number("elu: alpha", alpha)), name)


def gelu(x: TensorLike, approximate: bool = False, name: str | None = None) -> Variable:
    """x Φ(x), Φ being the distribution function of N(0, 1)        x: [*n].

    With ``approximate`` Φ(x) is (1 + tanh(√(2 / π) (x + 0.044715 x³))) / 2.

    Hendrycks, Gimpel: Gaussian Error Linear Units, 2016.

    >>> gelu(x)
    <Variable gelu_0 : f32[N, 4]>
    """
    g = recorder(x)
    kind = "tanh" if approximate else "none"
    return named(g.Gelu(as_variable(g, x), approximate=kind), name)


def glu(x: TensorLike, axis: int = -1, name: str | None = None) -> Variable:
    """a σ(b), a and b being the halves of x along ``axis``        x: [*n, 2 k]   result: [*n, k].

    Dauphin et al.: Language Modeling with Gated Convolutional Networks, 2017.

    >>> glu(x)
    <Variable mul_0 : f32[N, 2]>

    Raises:
        ArgumentError: x does not have the axis, or an odd number of elements along it.
        ArgumentTypeError: the axis is not an int.
    """
    g = recorder(x)
    x = as_variable(g, x)
    at = axis_of(x, axis)
    if x.shape[at] % 2 and x.shape[at] != -1:
        raise ArgumentError(
            f"glu: axis {axis} of {x.name} cannot be halved",
            operands=[(x.name, x.tensor_type)],
            where=here(),
        )
    a, b = g.emit("Split", x, outputs=2, axis=at, num_outputs=2)
    return named(g.Mul(a, g.Sigmoid(b)), name)


def hardshrink(x: TensorLike, threshold: float = 0.5, name: str | None = None) -> Variable:
    """x where |x| > ``threshold``, else 0        x: [*n].

    >>> hardshrink(x)
    <Variable where_0 : f32[N, 4]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    far = g.Greater(g.Abs(x), g.const(threshold, x.dtype))
    return named(g.Where(far, x, g.const(0.0, x.dtype)), name)


def hardsigmoid(
    x: TensorLike, slope: float = 0.1666667, offset: float = 0.5, name: str | None = None
) -> Variable:
    """min(max(``slope`` x + ``offset``, 0), 1)        x: [*n].

    >>> hardsigmoid(x)
    <Variable hardsigmoid_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: ``slope`` or ``offset`` is not a number.
    """
    g = recorder(x)
    alpha, beta = number("hardsigmoid: slope", slope), number("hardsigmoid: offset", offset)
    return named(g.HardSigmoid(as_variable(g, x), alpha=alpha, beta=beta), name)


def hardswish(x: TensorLike, name: str | None = None) -> Variable:
    """x min(max(x / 6 + 1 / 2, 0), 1)        x: [*n].

    Howard et al.: Searching for MobileNetV3, 2019.

    >>> hardswish(x)
    <Variable hardswish_0 : f32[N, 4]>
    """
    return unary("HardSwish", x, name)


def hardtanh(
    x: TensorLike, min: float = -1.0, max: float = 1.0, name: str | None = None
) -> Variable:
    """min(max(x, ``min``), ``max``), of slope 0 on the bounds        x: [*n].

    >>> hardtanh(x)
    <Variable where_1 : f32[N, 4]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    low, high = g.const(min, x.dtype), g.const(max, x.dtype)
    bounded = g.Where(g.Less(x, high), x, high)
    return named(g.Where(g.Greater(x, low), bounded, low), name)


def leaky_relu(x: TensorLike, negative_slope: float = 0.01, name: str | None = None) -> Variable:
    """x from 0 up, ``negative_slope`` x below        x: [*n].

    >>> leaky_relu(x)
    <Variable leakyrelu_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: ``negative_slope`` is not a number.
    """
    g = recorder(x)
    alpha = number("leaky_relu: negative_slope", negative_slope)
    return named(g.LeakyRelu(as_variable(g, x), alpha=alpha), name)


def log_sigmoid(x: TensorLike, name: str | None = None) -> Variable:
    """log σ(x) = -log(1 + exp(-x))        x: [*n].

    >>> log_sigmoid(x)
    <Variable neg_1 : f32[N, 4]>
    """
    g = recorder(x)
    return named(g.Neg(g.Softplus(g.Neg(as_variable(g, x)))), name)


def log_softmax(
    x: TensorLike, axis: int = -1, dtype: DTypeLike | None = None, name: str | None = None
) -> Variable:
    """x - log(sum exp x), the sum being along ``axis``        x: [*n].

    x is cast to ``dtype`` first, if that is given.

    >>> log_softmax(x)
    <Variable logsoftmax_0 : f32[N, 4]>

    Raises:
        ArgumentError: x does not have the axis.
        ArgumentTypeError: the axis is not an int.
    """
    return named(_along("LogSoftmax", x, axis, dtype), name)


def _along(type: str, x: TensorLike, axis: int, dtype: DTypeLike | None) -> Variable:
    g = recorder(x)
    x = as_variable(g, x)
    x = x if dtype is None else cast_to(x, as_dtype(dtype))
    y: Variable = g.emit(type, x, axis=axis_of(x, axis))
    return y


def mish(x: TensorLike, name: str | None = None) -> Variable:
    """x tanh(log(1 + exp x))        x: [*n].

    Misra: Mish, 2019.

    >>> mish(x)
    <Variable mish_0 : f32[N, 4]>
    """
    return unary("Mish", x, name)


def prelu(
    x: TensorLike, weight: TensorLike, data_format: str = "NCHW", name: str | None = None
) -> Variable:
    """x from 0 up, ``weight`` x below        x: [n, c, *d]   weight: [1] or [c].

    ``data_format`` 'NLC', 'NHWC' or 'NDHWC' is for x: [n, *d, c].

    He et al.: Delving Deep into Rectifiers, 2015.

    >>> w = image.program.global_block().create_var("w", [3])
    >>> prelu(image, w)
    <Variable prelu_0 : f32[N, 3, 8, 8]>
    """
    g = recorder(x, weight)
    x, slope = as_variable(g, x), as_variable(g, weight)
    channel_last = data_format.endswith("C") and len(data_format) > 2
    if x.ndim > 2 and slope.shape != (1,) and not channel_last:
        slope = g.Reshape(slope, [-1, *[1] * (x.ndim - 2)])  # [c, *1]
    return named(g.PRelu(x, slope), name)


def relu(x: TensorLike, name: str | None = None) -> Variable:
    """max(x, 0), of slope 0 at 0        x: [*n].

    >>> relu(x)
    <Variable relu_0 : f32[N, 4]>
    """
    return unary("Relu", x, name)


def relu6(x: TensorLike, name: str | None = None) -> Variable:
    """min(max(x, 0), 6), of slope 0 at 0 and 6        x: [*n].

    >>> relu6(x)
    <Variable where_1 : f32[N, 4]>
    """
    return hardtanh(x, 0.0, 6.0, name)


def selu(
    x: TensorLike,
    scale: float = 1.0507009873554804934193349852946,
    alpha: float = 1.6732632423543772848170429916717,
    name: str | None = None,
) -> Variable:
    """``scale`` x above 0, ``scale`` ``alpha`` (exp x - 1) from 0 down        x: [*n].

    Klambauer et al.: Self-Normalizing Neural Networks, 2017.

    >>> selu(x)
    <Variable selu_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: ``scale`` or ``alpha`` is not a number.
    """
    g = recorder(x)
    alpha, gamma = number("selu: alpha", alpha), number("selu: scale", scale)
    return named(g.Selu(as_variable(g, x), alpha=alpha, gamma=gamma), name)


def sigmoid(x: TensorLike, name: str | None = None) -> Variable:
    """σ(x) = 1 / (1 + exp(-x))        x: [*n].

    >>> sigmoid(x)
    <Variable sigmoid_0 : f32[N, 4]>
    """
    return unary("Sigmoid", x, name)


def silu(x: TensorLike, name: str | None = None) -> Variable:
    """x σ(x)        x: [*n].

    >>> silu(x)
    <Variable mul_0 : f32[N, 4]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    return named(g.Mul(x, g.Sigmoid(x)), name)


swish = silu


def softmax(
    x: TensorLike, axis: int = -1, dtype: DTypeLike | None = None, name: str | None = None
) -> Variable:
    """exp x / (sum exp x), the sum being along ``axis``        x: [*n].

    x is cast to ``dtype`` first, if that is given.

    >>> softmax(x)
    <Variable softmax_0 : f32[N, 4]>

    Raises:
        ArgumentError: x does not have the axis.
        ArgumentTypeError: the axis is not an int.
    """
    return named(_along("Softmax", x, axis, dtype), name)


def softplus(
    x: TensorLike, beta: float = 1.0, threshold: float = 20.0, name: str | None = None
) -> Variable:
    """log(1 + exp(``beta`` x)) / ``beta``, and x where ``beta`` x > ``threshold``        x: [*n].

    >>> softplus(x)
    <Variable where_0 : f32[N, 4]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    scaled = x if beta == 1.0 else g.Mul(x, g.const(beta, x.dtype))
    y = g.Softplus(scaled)
    y = y if beta == 1.0 else g.Div(y, g.const(beta, x.dtype))
    return named(g.Where(g.Greater(scaled, g.const(threshold, x.dtype)), x, y), name)


def softshrink(x: TensorLike, threshold: float = 0.5, name: str | None = None) -> Variable:
    """x - ``threshold`` above it, x + ``threshold`` below its negative, else 0        x: [*n].

    >>> softshrink(x)
    <Variable sub_0 : f32[N, 4]>

    Raises:
        ArgumentError: ``threshold`` is negative.
        ArgumentTypeError: it is not a number.
    """
    bound = number("softshrink: threshold", threshold)
    if bound < 0:
        raise ArgumentError(f"softshrink: threshold cannot be {threshold}", where=here())
    g = recorder(x)
    x = as_variable(g, x)
    return named(g.Sub(x, g.Clip(x, g.const(-bound, x.dtype), g.const(bound, x.dtype))), name)


def softsign(x: TensorLike, name: str | None = None) -> Variable:
    """x / (1 + |x|)        x: [*n].

    >>> softsign(x)
    <Variable softsign_0 : f32[N, 4]>
    """
    return unary("Softsign", x, name)


def tanhshrink(x: TensorLike, name: str | None = None) -> Variable:
    """x - tanh x        x: [*n].

    >>> tanhshrink(x)
    <Variable sub_0 : f32[N, 4]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    return named(g.Sub(x, g.Tanh(x)), name)


def thresholded_relu(
    x: TensorLike, threshold: float = 1.0, value: float = 0.0, name: str | None = None
) -> Variable:
    """x where x > ``threshold``, else ``value``        x: [*n].

    >>> thresholded_relu(x)
    <Variable where_0 : f32[N, 4]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    above = g.Greater(x, g.const(threshold, x.dtype))
    return named(g.Where(above, x, g.const(value, x.dtype)), name)
