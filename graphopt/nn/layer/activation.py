"""Activations as layers: each is the function of nn.functional with its arguments fixed."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.initializer import Constant
from graphopt.ir.model.variable import Variable
from graphopt.nn import functional
from graphopt.nn.layer.layers import FunctionLayer, Layer, LayerAttr, required
from graphopt.tensor.operands import TensorLike


class _Plain(FunctionLayer):
    """An activation without arguments."""

    FUNCTION: Callable[..., Variable]

    def __init__(self, name: str | None = None) -> None:
        super().__init__(type(self).FUNCTION, locals())


class CELU(FunctionLayer):
    """x above 0, ``alpha`` (exp(x / ``alpha``) - 1) below        x: [*n]."""

    def __init__(self, alpha: float = 1.0, name: str | None = None) -> None:
        super().__init__(functional.celu, locals())


class ELU(FunctionLayer):
    """x above 0, ``alpha`` (exp x - 1) from 0 down        x: [*n]."""

    def __init__(self, alpha: float = 1.0, name: str | None = None) -> None:
        super().__init__(functional.elu, locals())


class GELU(FunctionLayer):
    """x Φ(x), Φ being the distribution function of N(0, 1)        x: [*n].

    ``approximate`` is that of ``nn.functional.gelu``.
    """

    def __init__(self, approximate: bool = False, name: str | None = None) -> None:
        super().__init__(functional.gelu, locals())


class GLU(FunctionLayer):
    """a σ(b), a and b being the halves of x along ``axis``        x: [*n, 2 k]."""

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        super().__init__(functional.glu, locals())


class Hardshrink(FunctionLayer):
    """x where |x| > ``threshold``, else 0        x: [*n]."""

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        super().__init__(functional.hardshrink, locals())


class Hardsigmoid(_Plain):
    """min(max(x / 6 + 1 / 2, 0), 1)        x: [*n]."""

    FUNCTION = staticmethod(functional.hardsigmoid)


class Hardswish(_Plain):
    """x min(max(x / 6 + 1 / 2, 0), 1)        x: [*n]."""

    FUNCTION = staticmethod(functional.hardswish)


class Hardtanh(FunctionLayer):
    """min(max(x, ``min``), ``max``)        x: [*n]."""

    def __init__(self, min: float = -1.0, max: float = 1.0, name: str | None = None) -> None:
        super().__init__(functional.hardtanh, locals())


class LeakyReLU(FunctionLayer):
    """x from 0 up, ``negative_slope`` x below        x: [*n]."""

    def __init__(self, negative_slope: float = 0.01, name: str | None = None) -> None:
        super().__init__(functional.leaky_relu, locals())


class LogSigmoid(_Plain):
    """log σ(x) = -log(1 + exp(-x))        x: [*n]."""

    FUNCTION = staticmethod(functional.log_sigmoid)


class LogSoftmax(FunctionLayer):
    """x - log(sum exp x), the sum being along ``axis``        x: [*n]."""

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        super().__init__(functional.log_softmax, locals())


class Mish(_Plain):
    """x tanh(log(1 + exp x))        x: [*n]."""

    FUNCTION = staticmethod(functional.mish)


class PReLU(Layer):
    """x from 0 up, weight x below        x: [n, c, *d]   weight: [num_parameters].

    ``num_parameters`` is 1, or c for a weight per channel. The weight starts at ``init``, unless
    ``weight_attr`` says how it is made. ``data_format`` is that of ``nn.functional.prelu``.

    >>> PReLU(num_parameters=3)(image)
    <Variable prelu_0 : f32[N, 3, 8, 8]>

    Raises:
        ArgumentError: ``weight_attr`` is False.
    """

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
        """Record the activation of x."""
        return functional.prelu(x, self.weight, self.data_format)


class ReLU(_Plain):
    """max(x, 0), of slope 0 at 0        x: [*n].

    >>> ReLU()(x)
    <Variable relu_0 : f32[N, 4]>
    """

    FUNCTION = staticmethod(functional.relu)


class ReLU6(_Plain):
    """min(max(x, 0), 6)        x: [*n]."""

    FUNCTION = staticmethod(functional.relu6)


class SELU(FunctionLayer):
    """``scale`` x above 0, ``scale`` ``alpha`` (exp x - 1) from 0 down        x: [*n]."""

    def __init__(
        self,
        scale: float = 1.0507009873554804934193349852946,
        alpha: float = 1.6732632423543772848170429916717,
        name: str | None = None,
    ) -> None:
        super().__init__(functional.selu, locals())


class Sigmoid(_Plain):
    """σ(x) = 1 / (1 + exp(-x))        x: [*n]."""

    FUNCTION = staticmethod(functional.sigmoid)


class Silu(_Plain):
    """x σ(x)        x: [*n]."""

    FUNCTION = staticmethod(functional.silu)


class Softmax(FunctionLayer):
    """exp x / (sum exp x), the sum being along ``axis``        x: [*n]."""

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        super().__init__(functional.softmax, locals())


class Softplus(FunctionLayer):
    """log(1 + exp(``beta`` x)) / ``beta``; x where ``beta`` x > ``threshold``        x: [*n]."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0, name: str | None = None) -> None:
        super().__init__(functional.softplus, locals())


class Softshrink(FunctionLayer):
    """x - ``threshold`` above it, x + ``threshold`` below its negative, else 0        x: [*n]."""

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        super().__init__(functional.softshrink, locals())


class Softsign(_Plain):
    """x / (1 + |x|)        x: [*n]."""

    FUNCTION = staticmethod(functional.softsign)


class Swish(_Plain):
    """x σ(x)        x: [*n]."""

    FUNCTION = staticmethod(functional.silu)


class Tanh(_Plain):
    """The hyperbolic tangent        x: [*n]."""

    FUNCTION = staticmethod(functional.tanh)


class Tanhshrink(_Plain):
    """x - tanh x        x: [*n]."""

    FUNCTION = staticmethod(functional.tanhshrink)


class ThresholdedReLU(FunctionLayer):
    """x where x > ``threshold``, else ``value``        x: [*n]."""

    def __init__(self, threshold: float = 1.0, value: float = 0.0, name: str | None = None) -> None:
        super().__init__(functional.thresholded_relu, locals())
