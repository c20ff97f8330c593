"""Convolutions that make their parameters where they are called."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.errors import ArgumentError
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.where import here
from graphopt.nn import functional
from graphopt.nn.functional.windows import IntOrInts, Padding, spatial
from graphopt.nn.layer.conv import check_groups, conv_initializer
from graphopt.nn.layer.layers import LayerAttr, layer_parameter, required
from graphopt.static.naming import activation_named, all_or_nothing, channels_of, layer_name
from graphopt.tensor.operands import named


class _Made:
    """The sizes of a convolution, and its parameters: <layer>.w_0 and <layer>.b_0."""

    def __init__(
        self,
        function: str,
        n: int,
        input: Variable,
        num_filters: int,
        filter_size: IntOrInts | None,
        groups: int | None,
        name: str | None,
        data_format: str,
    ) -> None:
        self.function, self.full = function, f"static.nn.{function}"
        if filter_size is None:
            raise ArgumentError(f"{self.full} needs filter_size", where=here())
        self.input, self.num_filters, self.groups, self.name = input, num_filters, groups or 1, name
        self.kernel = spatial(self.full, "filter_size", filter_size, n)
        self.channels = channels_of(function, input, data_format)
        check_groups(self.full, self.channels, num_filters, self.groups)

    def parts(
        self, act: str | None, param_attr: LayerAttr, bias_attr: LayerAttr
    ) -> tuple[Callable[[Variable], Variable], Parameter, Parameter | None]:
        """The activation, the weight and the bias."""
        activation = activation_named(act)
        layer, dtype = layer_name(self.function, self.name), self.input.dtype
        rows, columns, initializer = self.num_filters, self.channels, None
        if self.function.endswith("transpose"):
            rows, columns = columns, rows
        else:
            initializer = conv_initializer(self.channels, self.kernel)
        weight = layer_parameter(
            layer,
            [rows, columns // self.groups, *self.kernel],
            param_attr,
            dtype,
            default_initializer=initializer,
        )
        bias = layer_parameter(layer, [self.num_filters], bias_attr, dtype, is_bias=True)
        return activation, required(weight, f"{self.full}: param_attr"), bias


@all_or_nothing
def conv2d(
    input: Variable,
    num_filters: int,
    filter_size: IntOrInts,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int | None = None,
    param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None,
    use_cudnn: bool = True,
    act: str | None = None,
    name: str | None = None,
    data_format: str = "NCHW",
) -> Variable:
    """Cross-correlation with num_filters filters, plus bias        input: [n, c, h, w].

    >>> conv2d(image, 16, 3, act="relu")
    <Variable relu_0 : f32[N, 16, 6, 6]>
    """
    made = _Made("conv2d", 2, input, num_filters, filter_size, groups, name, data_format)
    activation, weight, bias = made.parts(act, param_attr, bias_attr)
    y = functional.conv2d(input, weight, bias, stride, padding, dilation, made.groups, data_format)
    return named(activation(y), name)


@all_or_nothing
def conv2d_transpose(
    input: Variable,
    num_filters: int,
    output_size: IntOrInts | None = None,
    filter_size: IntOrInts | None = None,
    padding: Padding = 0,
    stride: IntOrInts = 1,
    dilation: IntOrInts = 1,
    groups: int | None = None,
    param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None,
    use_cudnn: bool = True,
    act: str | None = None,
    name: str | None = None,
    data_format: str = "NCHW",
) -> Variable:
    """The transpose of conv2d, plus bias        input: [n, c, h, w]."""
    made = _Made("conv2d_transpose", 2, input, num_filters, filter_size, groups, name, data_format)
    activation, weight, bias = made.parts(act, param_attr, bias_attr)
    y = functional.conv2d_transpose(
        input,
        weight,
        bias,
        stride,
        padding,
        groups=made.groups,
        dilation=dilation,
        output_size=output_size,
        data_format=data_format,
    )
    return named(activation(y), name)


@all_or_nothing
def conv3d(
    input: Variable,
    num_filters: int,
    filter_size: IntOrInts,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int | None = None,
    param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None,
    use_cudnn: bool = True,
    act: str | None = None,
    name: str | None = None,
    data_format: str = "NCDHW",
) -> Variable:
    """Cross-correlation with num_filters filters, plus bias        input: [n, c, d, h, w]."""
    made = _Made("conv3d", 3, input, num_filters, filter_size, groups, name, data_format)
    activation, weight, bias = made.parts(act, param_attr, bias_attr)
    y = functional.conv3d(input, weight, bias, stride, padding, dilation, made.groups, data_format)
    return named(activation(y), name)


@all_or_nothing
def conv3d_transpose(
    input: Variable,
    num_filters: int,
    output_size: IntOrInts | None = None,
    filter_size: IntOrInts | None = None,
    padding: Padding = 0,
    stride: IntOrInts = 1,
    dilation: IntOrInts = 1,
    groups: int | None = None,
    param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None,
    use_cudnn: bool = True,
    act: str | None = None,
    name: str | None = None,
    data_format: str = "NCDHW",
) -> Variable:
    """The transpose of conv3d, plus bias        input: [n, c, d, h, w]."""
    made = _Made("conv3d_transpose", 3, input, num_filters, filter_size, groups, name, data_format)
    activation, weight, bias = made.parts(act, param_attr, bias_attr)
    y = functional.conv3d_transpose(
        input,
        weight,
        bias,
        stride,
        padding,
        groups=made.groups,
        dilation=dilation,
        output_size=output_size,
        data_format=data_format,
    )
    return named(activation(y), name)
