"""Convolutions that make their parameters where they are called: <layer>.w_0 and <layer>.b_0."""

from __future__ import annotations

from collections.abc import Callable

from graphopt.errors import ArgumentError
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.nn import functional
from graphopt.nn.functional.windows import IntOrInts, Padding, spatial
from graphopt.nn.layer.conv import check_groups, conv_initializer
from graphopt.nn.layer.layers import LayerAttr, layer_parameter, required
from graphopt.static.naming import activation_named, all_or_nothing, channels_of, layer_name
from graphopt.tensor.operands import named

FUNCTIONS: dict[str, Callable[..., Variable]] = {
    "conv2d": functional.conv2d,
    "conv2d_transpose": functional.conv2d_transpose,
    "conv3d": functional.conv3d,
    "conv3d_transpose": functional.conv3d_transpose,
}


@all_or_nothing
def conv2d(
    input: Variable, num_filters: int, filter_size: IntOrInts, stride: IntOrInts = 1,
    padding: Padding = 0, dilation: IntOrInts = 1, groups: int | None = None,
    param_attr: LayerAttr = None, bias_attr: LayerAttr = None, use_cudnn: bool = True,
    act: str | None = None, name: str | None = None, data_format: str = "NCHW",
) -> Variable:  # fmt: skip
    """Cross-correlation of images with filters, plus bias        input: [n, c, h, w].

    result: [n, num_filters, h', w']   weight: [num_filters, c / groups, *filter_size]

    Args:
        input: the images.
        num_filters: channels of the result.
        filter_size: kh and kw; one int for all spatial dims or one a dim.
        stride: as in ``nn.functional.conv2d``, like the next two.
        padding: zeros around the images.
        dilation: the distance of neighbours in a window.
        groups: groups of channels; None is 1.
        param_attr: how the weight is made; from N(0, 2 / (c kh kw)) by default.
        bias_attr: how the bias is made; zeros by default, and False for none.
        use_cudnn: accepted as in Paddle; changes nothing.
        act: the name of an activation of the result.
        name: the prefix of the parameters' names, and the result's name.
        data_format: 'NCHW', or 'NHWC' for [n, h, w, c].

    >>> conv2d(image, 16, 3, act="relu")
    <Variable relu_0 : f32[N, 16, 6, 6]>

    Raises:
        ArgumentError: ``groups`` do not divide the channels, an unknown ``act``, or ``param_attr``
            is False.
        ShapeError: the channels are not known, or input is smaller than a window.
    """
    return _conv(
        "conv2d", input, num_filters, filter_size, groups, param_attr, bias_attr, act, name,
        stride=stride, padding=padding, dilation=dilation, data_format=data_format,
    )  # fmt: skip


@all_or_nothing
def conv2d_transpose(
    input: Variable, num_filters: int, output_size: IntOrInts | None = None,
    filter_size: IntOrInts | None = None, padding: Padding = 0, stride: IntOrInts = 1,
    dilation: IntOrInts = 1, groups: int | None = None, param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None, use_cudnn: bool = True, act: str | None = None,
    name: str | None = None, data_format: str = "NCHW",
) -> Variable:  # fmt: skip
    """Transposed convolution of images with filters, plus bias        input: [n, c, h, w].

    result: [n, num_filters, h', w']   weight: [c, num_filters / groups, *filter_size]

    ``output_size``, ``padding``, ``stride`` and ``dilation`` are those of
    ``nn.functional.conv2d_transpose``; ``filter_size`` is needed even with ``output_size``.
    ``num_filters``, ``groups``, ``param_attr``, ``bias_attr``, ``use_cudnn``, ``act``, ``name`` and
    ``data_format`` are those of ``conv2d``, and so are the errors; but weights start from
    XavierUniform.

    >>> conv2d_transpose(image, 16, filter_size=2, stride=2)
    <Variable convtranspose_0 : f32[N, 16, 16, 16]>
    """
    return _conv(
        "conv2d_transpose", input, num_filters, filter_size, groups, param_attr, bias_attr, act,
        name, stride=stride, padding=padding, dilation=dilation, output_size=output_size,
        data_format=data_format,
    )  # fmt: skip


@all_or_nothing
def conv3d(
    input: Variable, num_filters: int, filter_size: IntOrInts, stride: IntOrInts = 1,
    padding: Padding = 0, dilation: IntOrInts = 1, groups: int | None = None,
    param_attr: LayerAttr = None, bias_attr: LayerAttr = None, use_cudnn: bool = True,
    act: str | None = None, name: str | None = None, data_format: str = "NCDHW",
) -> Variable:  # fmt: skip
    """Cross-correlation of volumes with filters, plus bias        input: [n, c, d, h, w].

    result: [n, num_filters, d', h', w']   weight: [num_filters, c / groups, *filter_size]

    The arguments are those of ``conv2d``, with three spatial dims, and so are the errors:
    ``num_filters``, ``filter_size``, ``stride``, ``padding``, ``dilation``, ``groups``,
    ``param_attr``, ``bias_attr``, ``use_cudnn``, ``act``, ``name``. ``data_format`` is 'NCDHW', or
    'NDHWC' for [n, d, h, w, c].
    """
    return _conv(
        "conv3d", input, num_filters, filter_size, groups, param_attr, bias_attr, act, name,
        stride=stride, padding=padding, dilation=dilation, data_format=data_format,
    )  # fmt: skip


@all_or_nothing
def conv3d_transpose(
    input: Variable, num_filters: int, output_size: IntOrInts | None = None,
    filter_size: IntOrInts | None = None, padding: Padding = 0, stride: IntOrInts = 1,
    dilation: IntOrInts = 1, groups: int | None = None, param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None, use_cudnn: bool = True, act: str | None = None,
    name: str | None = None, data_format: str = "NCDHW",
) -> Variable:  # fmt: skip
    """Transposed convolution of volumes with filters, plus bias        input: [n, c, d, h, w].

    result: [n, num_filters, d', h', w']   weight: [c, num_filters / groups, *filter_size]

    The arguments are those of ``conv2d_transpose``, with three spatial dims, and so are the errors:
    ``num_filters``, ``output_size``, ``filter_size``, ``padding``, ``stride``, ``dilation``,
    ``groups``, ``param_attr``, ``bias_attr``, ``use_cudnn``, ``act``, ``name``. ``data_format`` is
    'NCDHW', or 'NDHWC' for [n, d, h, w, c].
    """
    return _conv(
        "conv3d_transpose", input, num_filters, filter_size, groups, param_attr, bias_attr, act,
        name, stride=stride, padding=padding, dilation=dilation, output_size=output_size,
        data_format=data_format,
    )  # fmt: skip


def _conv(
    function: str, input: Variable, num_filters: int, filter_size: IntOrInts | None,
    groups: int | None, param_attr: LayerAttr, bias_attr: LayerAttr, act: str | None,
    name: str | None, *, data_format: str, **options: Padding | None,
) -> Variable:  # fmt: skip
    full, groups = f"static.nn.{function}", groups or 1
    if filter_size is None:
        raise ArgumentError(f"{full} needs filter_size", where=here())
    kernel = spatial(full, "filter_size", filter_size, 3 if "3d" in function else 2)
    channels = channels_of(function, input, data_format)
    check_groups(full, channels, num_filters, groups)
    activation, layer = activation_named(act), layer_name(function, name)
    transposed = function.endswith("transpose")
    rows, columns = (channels, num_filters) if transposed else (num_filters, channels)
    made = layer_parameter(
        layer,
        [rows, columns // groups, *kernel],
        param_attr,
        input.dtype,
        default_initializer=None if transposed else conv_initializer(channels, kernel),
    )
    weight = required(made, f"{full}: param_attr")
    bias = layer_parameter(layer, [num_filters], bias_attr, input.dtype, is_bias=True)
    y = FUNCTIONS[function](input, weight, bias, groups=groups, data_format=data_format, **options)
    return named(activation(y), name)
