"""Convolutions as layers. Paddings are those of nn.functional.conv2d."""

from __future__ import annotations

import math
from collections.abc import Callable

from graphopt.errors import ArgumentError
from graphopt.initializer import Initializer, Normal
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import integer
from graphopt.ir.types.where import here
from graphopt.nn import functional
from graphopt.nn.functional.windows import IntOrInts, Padding, spatial
from graphopt.nn.layer.layers import Layer, LayerAttr, required
from graphopt.tensor.operands import TensorLike


def conv_initializer(in_channels: int, kernel: list[int]) -> Initializer:
    """N(0, 2 / (in_channels times the kernel's size)); groups do not count, as in Paddle."""
    return Normal(0.0, math.sqrt(2.0 / (in_channels * math.prod(kernel))))


class _Conv(Layer):
    N = 0
    TRANSPOSED = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts,
        padding: Padding,
        dilation: IntOrInts,
        groups: int,
        weight_attr: LayerAttr,
        bias_attr: LayerAttr,
        data_format: str,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel = spatial(name, "kernel_size", kernel_size, self.N)
        check_groups(name, in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.data_format = data_format
        shape = [out_channels, in_channels // groups, *self.kernel]
        initializer: Initializer | None = conv_initializer(in_channels, self.kernel)
        if self.TRANSPOSED:
            shape = [in_channels, out_channels // groups, *self.kernel]
            initializer = None
        made = self.create_parameter(shape, weight_attr, default_initializer=initializer)
        self.weight = required(made, f"{name}: weight_attr")
        self.bias = self.create_parameter([out_channels], bias_attr, is_bias=True)

    def extra_repr(self) -> str:
        """Channels, kernel, and what is not as usual."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel}"
        usual = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
        odd = [f"{k}={getattr(self, k)}" for k, v in usual.items() if getattr(self, k) != v]
        return ", ".join([text, *odd])


def check_groups(function: str, in_channels: int, out_channels: int, groups: int) -> None:
    """Raise ArgumentError unless groups divides both numbers of channels."""
    for value in (in_channels, out_channels, groups):
        integer(f"{function}: a number of channels or groups", value)
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ArgumentError(
            f"{function}: {groups} groups do not divide {in_channels} and {out_channels} channels",
            where=here(),
            fix="use a number of groups that divides both",
        )


class Conv1D(_Conv):
    """Cross-correlation with a weight, plus bias.

    x: [n, c, l]   weight: [o, c / groups, k]   bias: [o]
    """

    PREFIX = "conv1d"
    N = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        data_format: str = "NCL",
    ) -> None:
        zeros_only(padding_mode)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
            weight_attr, bias_attr, data_format,
        )  # fmt: skip

    def forward(self, x: TensorLike) -> Variable:
        """The convolution of x."""
        return functional.conv1d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups,
            self.data_format,
        )  # fmt: skip


class Conv2D(_Conv):
    """Cross-correlation with a weight, plus bias.

    x: [n, c, h, w]   weight: [o, c / groups, kh, kw]   bias: [o]

    >>> conv = Conv2D(3, 16, 3, padding=1)
    >>> conv(image), conv.weight
    (<Variable conv_0 : f32[N, 16, 8, 8]>, <Parameter conv2d_0.w_0 : f32[16, 3, 3, 3]>)
    """

    PREFIX = "conv2d"
    N = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        data_format: str = "NCHW",
    ) -> None:
        zeros_only(padding_mode)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
            weight_attr, bias_attr, data_format,
        )  # fmt: skip

    def forward(self, x: TensorLike) -> Variable:
        """The convolution of x."""
        return functional.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups,
            self.data_format,
        )  # fmt: skip


class Conv3D(_Conv):
    """Cross-correlation with a weight, plus bias.

    x: [n, c, d, h, w]   weight: [o, c / groups, kd, kh, kw]   bias: [o]
    """

    PREFIX = "conv3d"
    N = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        data_format: str = "NCDHW",
    ) -> None:
        zeros_only(padding_mode)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
            weight_attr, bias_attr, data_format,
        )  # fmt: skip

    def forward(self, x: TensorLike) -> Variable:
        """The convolution of x."""
        return functional.conv3d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups,
            self.data_format,
        )  # fmt: skip


class _ConvTranspose(_Conv):
    TRANSPOSED = True
    FUNCTION: Callable[..., Variable]
    FORMAT = ""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        output_padding: IntOrInts = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        data_format: str | None = None,
    ) -> None:
        self.output_padding = output_padding
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups,
            weight_attr, bias_attr, data_format or self.FORMAT,
        )  # fmt: skip

    def forward(self, x: TensorLike, output_size: IntOrInts | None = None) -> Variable:
        """The transposed convolution of x."""
        return type(self).FUNCTION(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
            output_size=output_size,
            data_format=self.data_format,
        )


class Conv1DTranspose(_ConvTranspose):
    """The transpose of Conv1D, plus bias.

    x: [n, c, l]   weight: [c, o / groups, k]   bias: [o]
    """

    PREFIX = "conv1d_transpose"
    N, FORMAT = 1, "NCL"
    FUNCTION = staticmethod(functional.conv1d_transpose)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        output_padding: IntOrInts = 0,
        groups: int = 1,
        dilation: IntOrInts = 1,
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        data_format: str = "NCL",
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation,
            groups, weight_attr, bias_attr, data_format,
        )  # fmt: skip


class Conv2DTranspose(_ConvTranspose):
    """The transpose of Conv2D, plus bias.

    x: [n, c, h, w]   weight: [c, o / groups, kh, kw]   bias: [o]

    >>> Conv2DTranspose(3, 16, 2, stride=2)(image)
    <Variable convtranspose_0 : f32[N, 16, 16, 16]>
    """

    PREFIX = "conv2d_transpose"
    N, FORMAT = 2, "NCHW"
    FUNCTION = staticmethod(functional.conv2d_transpose)


class Conv3DTranspose(_ConvTranspose):
    """The transpose of Conv3D, plus bias.

    x: [n, c, d, h, w]   weight: [c, o / groups, kd, kh, kw]   bias: [o]
    """

    PREFIX = "conv3d_transpose"
    N, FORMAT = 3, "NCDHW"
    FUNCTION = staticmethod(functional.conv3d_transpose)


def zeros_only(padding_mode: str) -> None:
    """Raise ArgumentError for another padding mode than 'zeros'."""
    if padding_mode != "zeros":
        raise ArgumentError(
            f"padding_mode {padding_mode!r} is not provided",
            where=here(),
            fix="pad with nn.functional.pad first",
        )
