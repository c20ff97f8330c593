"""Convolutions as layers. The classes differ in their numbers of spatial dims alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphopt.errors import ArgumentError
from graphopt.initializer import Initializer, Normal
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import integer
from graphopt.ir.types.where import here
from graphopt.nn import functional
from graphopt.nn.functional.windows import IntOrInts, Padding, spatial
from graphopt.nn.layer.layers import Layer, LayerAttr, arguments, required
from graphopt.tensor.operands import TensorLike


def conv_initializer(in_channels: int, kernel: list[int]) -> Initializer:
    """N(0, 2 / (in_channels times the kernel's size)); groups do not count, as in Paddle."""
    return Normal(0.0, math.sqrt(2.0 / (in_channels * math.prod(kernel))))


class _Conv(Layer):
    """A convolution with ``N`` spatial dims, done by ``FUNCTION``."""

    N = 0
    FUNCTION: Callable[..., Variable]

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts,
        padding: Padding, dilation: IntOrInts, groups: int, padding_mode: str,
        weight_attr: LayerAttr, bias_attr: LayerAttr, data_format: str,
    ) -> None:  # fmt: skip
        if padding_mode != "zeros":
            raise ArgumentError(
                f"padding_mode {padding_mode!r} is not provided",
                where=here(),
                fix="pad with nn.functional.pad first",
            )
        super().__init__()
        name = type(self).__name__
        self.kernel = spatial(name, "kernel_size", kernel_size, self.N)
        check_groups(name, in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.data_format = data_format
        shape, initializer = self._weight()
        made = self.create_parameter(shape, weight_attr, default_initializer=initializer)
        self.weight = required(made, f"{name}: weight_attr")
        self.bias = self.create_parameter([out_channels], bias_attr, is_bias=True)

    def _weight(self) -> tuple[list[int], Initializer | None]:
        """The weight's shape, and how it starts."""
        shape = [self.out_channels, self.in_channels // self.groups, *self.kernel]
        return shape, conv_initializer(self.in_channels, self.kernel)

    def forward(self, x: TensorLike) -> Variable:
        """Record the convolution of x."""
        return self._recorded(x)

    def _recorded(self, x: TensorLike, **options: IntOrInts | None) -> Variable:
        return type(self).FUNCTION(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            data_format=self.data_format,
            **options,
        )

    def extra_repr(self) -> str:
        """Channels, kernel, and what is not as usual."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel}"
        usual = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        odd = [f"{k}={getattr(self, k)}" for k, v in usual.items() if getattr(self, k) != v]
        return ", ".join([text, *odd])


def check_groups(function: str, in_channels: int, out_channels: int, groups: int) -> None:
    """Refuse groups that do not divide both numbers of channels.

    Raises:
        ArgumentError: they do not.
        ArgumentTypeError: one of the numbers is not an int.
    """
    for value in (in_channels, out_channels, groups):
        integer(f"{function}: a number of channels or groups", value)
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ArgumentError(
            f"{function}: {groups} groups do not divide {in_channels} and {out_channels} channels",
            where=here(),
            fix="use a number of groups that divides both",
        )


class Conv1D(_Conv):
    """Cross-correlation of sequences with a weight, plus bias.

    x: [n, c, l]   weight: [o, c / groups, k]   bias: [o]

    The arguments are those of ``Conv2D``: ``in_channels`` c, ``out_channels`` o, ``kernel_size``,
    ``stride``, ``padding``, ``dilation``, ``groups``, ``padding_mode``, ``weight_attr``,
    ``bias_attr``, ``data_format`` ('NCL', or 'NLC' for x: [n, l, c]).
    """

    PREFIX, N = "conv1d", 1
    FUNCTION = staticmethod(functional.conv1d)

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts = 1,
        padding: Padding = 0, dilation: IntOrInts = 1, groups: int = 1, padding_mode: str = "zeros",
        weight_attr: LayerAttr = None, bias_attr: LayerAttr = None, data_format: str = "NCL",
    ) -> None:  # fmt: skip
        super().__init__(**arguments(locals()))


class Conv2D(_Conv):
    """Cross-correlation of images with a weight, plus bias.

    x: [n, c, h, w]   weight: [o, c / groups, kh, kw]   bias: [o]

    Args:
        in_channels: c.
        out_channels: o.
        kernel_size: kh and kw; one int for all spatial dims or one a dim.
        stride: as in ``nn.functional.conv2d``.
        padding: as in ``nn.functional.conv2d``.
        dilation: as in ``nn.functional.conv2d``.
        groups: as in ``nn.functional.conv2d``; divides both numbers of channels.
        padding_mode: 'zeros'; what Paddle has besides is not provided.
        weight_attr: how the weight is made; from N(0, 2 / (c kh kw)) by default.
        bias_attr: how the bias is made; zeros by default, and False for none.
        data_format: 'NCHW', or 'NHWC' for x: [n, h, w, c] and a result alike.

    >>> conv = Conv2D(3, 16, 3, padding=1)
    >>> conv(image), conv.weight
    (<Variable conv_0 : f32[N, 16, 8, 8]>, <Parameter conv2d_0.w_0 : f32[16, 3, 3, 3]>)

    Raises:
        ArgumentError: another ``padding_mode``, ``groups`` that do not divide the channels,
            ``kernel_size`` has none of its forms, or ``weight_attr`` is False.
        ArgumentTypeError: a number of channels or groups is not an int.
    """

    PREFIX, N = "conv2d", 2
    FUNCTION = staticmethod(functional.conv2d)

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts = 1,
        padding: Padding = 0, dilation: IntOrInts = 1, groups: int = 1, padding_mode: str = "zeros",
        weight_attr: LayerAttr = None, bias_attr: LayerAttr = None, data_format: str = "NCHW",
    ) -> None:  # fmt: skip
        super().__init__(**arguments(locals()))


class Conv3D(_Conv):
    """Cross-correlation of volumes with a weight, plus bias.

    x: [n, c, d, h, w]   weight: [o, c / groups, kd, kh, kw]   bias: [o]

    The arguments are those of ``Conv2D``: ``in_channels`` c, ``out_channels`` o, ``kernel_size``,
    ``stride``, ``padding``, ``dilation``, ``groups``, ``padding_mode``, ``weight_attr``,
    ``bias_attr``, ``data_format`` ('NCDHW', or 'NDHWC' for x: [n, d, h, w, c]).
    """

    PREFIX, N = "conv3d", 3
    FUNCTION = staticmethod(functional.conv3d)

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts = 1,
        padding: Padding = 0, dilation: IntOrInts = 1, groups: int = 1, padding_mode: str = "zeros",
        weight_attr: LayerAttr = None, bias_attr: LayerAttr = None, data_format: str = "NCDHW",
    ) -> None:  # fmt: skip
        super().__init__(**arguments(locals()))


class _ConvTranspose(_Conv):
    def __init__(self, output_padding: IntOrInts, **others: Any) -> None:  # noqa: ANN401 - _Conv's
        super().__init__(padding_mode="zeros", **others)
        self.output_padding = output_padding

    def _weight(self) -> tuple[list[int], Initializer | None]:
        return [self.in_channels, self.out_channels // self.groups, *self.kernel], None

    def forward(self, x: TensorLike, output_size: IntOrInts | None = None) -> Variable:
        """Record the transposed convolution of x.

        ``output_size`` is the spatial size of the result, in place of ``output_padding``.
        """
        return self._recorded(x, output_padding=self.output_padding, output_size=output_size)


class Conv1DTranspose(_ConvTranspose):
    """Transposed convolution: x is mapped as ``Conv1D`` maps gradients back to its x; plus bias.

    x: [n, c, l]   weight: [c, o / groups, k]   bias: [o]

    The arguments are those of ``Conv2DTranspose``: ``in_channels`` c, ``out_channels`` o,
    ``kernel_size``, ``stride``, ``padding``, ``output_padding``, ``groups``, ``dilation``,
    ``weight_attr``, ``bias_attr``, ``data_format`` ('NCL', or 'NLC' for x: [n, l, c]).
    """

    PREFIX, N = "conv1d_transpose", 1
    FUNCTION = staticmethod(functional.conv1d_transpose)

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts = 1,
        padding: Padding = 0, output_padding: IntOrInts = 0, groups: int = 1,
        dilation: IntOrInts = 1, weight_attr: LayerAttr = None, bias_attr: LayerAttr = None,
        data_format: str = "NCL",
    ) -> None:  # fmt: skip
        super().__init__(**arguments(locals()))


class Conv2DTranspose(_ConvTranspose):
    """Transposed convolution: x is mapped as ``Conv2D`` maps gradients back to its x; plus bias.

    x: [n, c, h, w]   weight: [c, o / groups, kh, kw]   bias: [o]

    Called with (x, output_size), which may leave out the size.

    Args:
        in_channels: c.
        out_channels: o.
        kernel_size: kh and kw; one int for all spatial dims or one a dim.
        stride: as in ``nn.functional.conv2d_transpose``.
        padding: as in ``nn.functional.conv2d_transpose``.
        output_padding: as in ``nn.functional.conv2d_transpose``.
        dilation: as in ``nn.functional.conv2d_transpose``.
        groups: as in ``nn.functional.conv2d_transpose``; divides both numbers of channels.
        weight_attr: how the weight is made; XavierUniform by default.
        bias_attr: how the bias is made; zeros by default, and False for none.
        data_format: 'NCHW', or 'NHWC' for x: [n, h, w, c] and a result alike.

    >>> Conv2DTranspose(3, 16, 2, stride=2)(image)
    <Variable convtranspose_0 : f32[N, 16, 16, 16]>

    Raises:
        ArgumentError: ``groups`` do not divide the channels, ``kernel_size`` has none of its forms,
            or ``weight_attr`` is False.
        ArgumentTypeError: a number of channels or groups is not an int.
    """

    PREFIX, N = "conv2d_transpose", 2
    FUNCTION = staticmethod(functional.conv2d_transpose)

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts = 1,
        padding: Padding = 0, output_padding: IntOrInts = 0, dilation: IntOrInts = 1,
        groups: int = 1, weight_attr: LayerAttr = None, bias_attr: LayerAttr = None,
        data_format: str = "NCHW",
    ) -> None:  # fmt: skip
        super().__init__(**arguments(locals()))


class Conv3DTranspose(_ConvTranspose):
    """Transposed convolution: x is mapped as ``Conv3D`` maps gradients back to its x; plus bias.

    x: [n, c, d, h, w]   weight: [c, o / groups, kd, kh, kw]   bias: [o]

    The arguments are those of ``Conv2DTranspose``: ``in_channels`` c, ``out_channels`` o,
    ``kernel_size``, ``stride``, ``padding``, ``output_padding``, ``groups``, ``dilation``,
    ``weight_attr``, ``bias_attr``, ``data_format`` ('NCDHW', or 'NDHWC' for x: [n, d, h, w, c]).
    """

    PREFIX, N = "conv3d_transpose", 3
    FUNCTION = staticmethod(functional.conv3d_transpose)

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: IntOrInts, stride: IntOrInts = 1,
        padding: Padding = 0, output_padding: IntOrInts = 0, dilation: IntOrInts = 1,
        groups: int = 1, weight_attr: LayerAttr = None, bias_attr: LayerAttr = None,
        data_format: str = "NCDHW",
    ) -> None:  # fmt: skip
        super().__init__(**arguments(locals()))
