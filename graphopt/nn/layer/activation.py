"""Activations as layers."""

from __future__ import annotations

from graphopt.initializer import Constant
from graphopt.ir.model.variable import Variable
from graphopt.nn import functional
from graphopt.nn.layer.layers import FunctionLayer, Layer, LayerAttr, required
from graphopt.tensor.operands import TensorLike


class CELU(FunctionLayer):
    """x above 0, alpha (exp(x / alpha) - 1) below        x: [*n]."""

    def __init__(self, alpha: float = 1.0, name: str | None = None) -> None:
        super().__init__(functional.celu, name, alpha=alpha)


class ELU(FunctionLayer):
    """x above 0, alpha (exp x - 1) from 0 down        x: [*n]."""

    def __init__(self, alpha: float = 1.0, name: str | None = None) -> None:
        super().__init__(functional.elu, name, alpha=alpha)


class GELU(FunctionLayer):
    """x Φ(x), Φ the normal distribution        x: [*n]."""

    def __init__(self, approximate: bool = False, name: str | None = None) -> None:
        super().__init__(functional.gelu, name, approximate=approximate)


class GLU(FunctionLayer):
    """a σ(b), a and b the halves of x along an axis        x: [*n]."""

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        super().__init__(functional.glu, name, axis=axis)


class Hardshrink(FunctionLayer):
    """x where |x| > threshold, else 0        x: [*n]."""

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        super().__init__(functional.hardshrink, name, threshold=threshold)


class Hardsigmoid(FunctionLayer):
    """min(max(x / 6 + 0.5, 0), 1)        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.hardsigmoid, name)


class Hardswish(FunctionLayer):
    """x min(max(x / 6 + 0.5, 0), 1)        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.hardswish, name)


class Hardtanh(FunctionLayer):
    """min(max(x, min), max)        x: [*n]."""

    def __init__(self, min: float = -1.0, max: float = 1.0, name: str | None = None) -> None:
        super().__init__(functional.hardtanh, name, min=min, max=max)


class LeakyReLU(FunctionLayer):
    """x from 0 up, negative_slope x below        x: [*n]."""

    def __init__(self, negative_slope: float = 0.01, name: str | None = None) -> None:
        super().__init__(functional.leaky_relu, name, negative_slope=negative_slope)


class LogSigmoid(FunctionLayer):
    """log σ(x)        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.log_sigmoid, name)


class LogSoftmax(FunctionLayer):
    """x - log sum exp x along an axis        x: [*n]."""

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        super().__init__(functional.log_softmax, name, axis=axis)


class Mish(FunctionLayer):
    """x tanh(log(1 + exp x))        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.mish, name)


class PReLU(Layer):
    """x from 0 up, weight x below, one weight or one per channel        x: [n, c, *d]."""

    PREFIX = "p_re_lu"

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        weight_attr: LayerAttr = None,
        data_format: str = "NCHW",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.data_format = data_format
        made = self.create_parameter(
            [num_parameters], weight_attr, default_initializer=Constant(init)
        )
        self.weight = required(made, "PReLU: weight_attr")

    def forward(self, x: TensorLike) -> Variable:
        """The activated x."""
        return functional.prelu(x, self.weight, self.data_format)


class ReLU(FunctionLayer):
    """max(x, 0)        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.relu, name)


class ReLU6(FunctionLayer):
    """min(max(x, 0), 6)        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.relu6, name)


class SELU(FunctionLayer):
    """scale x above 0, scale alpha (exp x - 1) from 0 down        x: [*n]."""

    def __init__(
        self,
        scale: float = 1.0507009873554804934193349852946,
        alpha: float = 1.6732632423543772848170429916717,
        name: str | None = None,
    ) -> None:
        super().__init__(functional.selu, name, scale=scale, alpha=alpha)


class Sigmoid(FunctionLayer):
    """1 / (1 + exp(-x))        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.sigmoid, name)


class Silu(FunctionLayer):
    """x σ(x)        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.silu, name)


class Softmax(FunctionLayer):
    """exp x / sum exp x along an axis        x: [*n]."""

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        super().__init__(functional.softmax, name, axis=axis)


class Softplus(FunctionLayer):
    """log(1 + exp(beta x)) / beta, x where beta x > threshold        x: [*n]."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0, name: str | None = None) -> None:
        super().__init__(functional.softplus, name, beta=beta, threshold=threshold)


class Softshrink(FunctionLayer):
    """x moved to 0 by threshold        x: [*n]."""

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        super().__init__(functional.softshrink, name, threshold=threshold)


class Softsign(FunctionLayer):
    """x / (1 + |x|)        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.softsign, name)


class Swish(FunctionLayer):
    """x σ(x)        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.silu, name)


class Tanh(FunctionLayer):
    """Hyperbolic tangent        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.tanh, name)


class Tanhshrink(FunctionLayer):
    """x - tanh x        x: [*n]."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(functional.tanhshrink, name)


class ThresholdedReLU(FunctionLayer):
    """x above threshold, else value        x: [*n]."""

    def __init__(self, threshold: float = 1.0, value: float = 0.0, name: str | None = None) -> None:
        super().__init__(functional.thresholded_relu, name, threshold=threshold, value=value)
