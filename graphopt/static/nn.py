"""paddle.static.nn: functions that make their parameters where they are called.

``name`` names the parameters (<name>.w_0) and the result; without it they are fc_0.w_0, fc_1.w_0, …
``act`` and ``activation`` are names of activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from graphopt.errors import ArgumentError, ShapeError, did_you_mean
from graphopt.initializer import Constant
from graphopt.ir.tape import Tape
from graphopt.ir.types import DTypeLike
from graphopt.ir.variable import Parameter, Variable
from graphopt.ir.where import here
from graphopt.nn import functional
from graphopt.nn.functional.windows import CHANNELS_LAST, IntOrInts, Padding, spatial
from graphopt.nn.layer.conv import check_groups, conv_initializer
from graphopt.nn.layer.layers import LayerAttr, layer_parameter, required, statistic
from graphopt.scoping import default_main_program, recorder
from graphopt.tensor.manipulation import flatten
from graphopt.tensor.operands import choice, named, need_rank

ACTIVATIONS: dict[str, Callable[[Variable], Variable]] = {
    "elu": functional.elu,
    "gelu": functional.gelu,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_swish": functional.hardswish,
    "leaky_relu": functional.leaky_relu,
    "log_softmax": functional.log_softmax,
    "logsigmoid": functional.log_sigmoid,
    "mish": functional.mish,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "selu": functional.selu,
    "sigmoid": functional.sigmoid,
    "silu": functional.silu,
    "softmax": functional.softmax,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "swish": functional.swish,
    "tanh": functional.tanh,
}


def _activation(name: str | None) -> Callable[[Variable], Variable]:
    """The activation of that name; the identity for None.

    Raises:
        ArgumentError: there is no such activation.
    """
    if name is None:
        return lambda x: x
    if name not in ACTIVATIONS:
        raise ArgumentError(
            f"there is no activation {name!r}",
            where=here(),
            fix=did_you_mean(name, ACTIVATIONS) or f"use one of {', '.join(ACTIVATIONS)}",
        )
    return ACTIVATIONS[name]


def _layer(prefix: str, name: str | None) -> str:
    """The prefix of a layer's parameters: fc_0, or the user's name."""
    return name or default_main_program().unique_name(prefix)


def _known(function: str, x: Variable, axis: int) -> int:
    """A dim that a parameter's shape depends on.

    Raises:
        ShapeError: it is not known while recording.
    """
    if x.shape[axis] == -1:
        raise ShapeError(
            f"static.nn.{function} needs to know dim {axis} of {x.name}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="give it in static.data",
        )
    return x.shape[axis]


def _channels(function: str, x: Variable, data_format: str) -> int:
    last = x.ndim > 2 and data_format in CHANNELS_LAST.values()
    return _known(function, x, x.ndim - 1 if last else 1)


def batch_norm(
    input: Variable,
    act: str | None = None,
    is_test: bool = False,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None,
    data_layout: str = "NCHW",
    in_place: bool = False,
    name: str | None = None,
    moving_mean_name: str | None = None,
    moving_variance_name: str | None = None,
    do_model_average_for_mean_and_var: bool = True,
    use_global_stats: bool = False,
) -> Variable:
    """Channels to mean 0 and variance 1 over the batch        input: [n, c, *d].

    Parameters: w_0 the scale, b_0 the shift, w_1 and w_2 the running mean and variance.

    >>> batch_norm(image, act="relu")
    <Variable relu_0 : f32[N, 3, 8, 8]>
    """
    activation = _activation(act)
    size, layer = _channels("batch_norm", input, data_layout), _layer("batch_norm", name)
    weight, bias = _affine(layer, input, size, param_attr, bias_attr)
    y = functional.batch_norm(
        input,
        statistic(layer, size, 0.0, moving_mean_name, input.dtype),
        statistic(layer, size, 1.0, moving_variance_name, input.dtype),
        weight,
        bias,
        training=not is_test,
        momentum=momentum,
        epsilon=epsilon,
        data_format=data_layout,
        use_global_stats=use_global_stats,
    )
    return named(activation(y), name)


def _affine(
    layer: str, x: Variable, size: int, weight_attr: LayerAttr, bias_attr: LayerAttr
) -> tuple[Parameter | None, Parameter | None]:
    """A scale that starts at 1 and a shift that starts at 0, in x's dtype."""
    one = Constant(1.0)
    weight = layer_parameter(layer, [size], weight_attr, x.dtype, default_initializer=one)
    return weight, layer_parameter(layer, [size], bias_attr, x.dtype, is_bias=True)


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
    activation = _activation(act)
    channels, n = _channels("conv2d", input, data_format), groups or 1
    kernel = spatial("static.nn.conv2d", "filter_size", filter_size, 2)
    check_groups("static.nn.conv2d", channels, num_filters, n)
    layer = _layer("conv2d", name)
    weight = layer_parameter(
        layer,
        [num_filters, channels // n, *kernel],
        param_attr,
        input.dtype,
        default_initializer=conv_initializer(channels, kernel),
    )
    bias = layer_parameter(layer, [num_filters], bias_attr, input.dtype, is_bias=True)
    weight = required(weight, "static.nn.conv2d: param_attr")
    y = functional.conv2d(input, weight, bias, stride, padding, dilation, n, data_format)
    return named(activation(y), name)


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
    activation = _activation(act)
    function = "static.nn.conv2d_transpose"
    if filter_size is None:
        raise ArgumentError(f"{function} needs filter_size", where=here())
    channels, n = _channels("conv2d_transpose", input, data_format), groups or 1
    kernel = spatial(function, "filter_size", filter_size, 2)
    check_groups(function, channels, num_filters, n)
    layer = _layer("conv2d_transpose", name)
    weight = layer_parameter(layer, [channels, num_filters // n, *kernel], param_attr, input.dtype)
    bias = layer_parameter(layer, [num_filters], bias_attr, input.dtype, is_bias=True)
    y = functional.conv2d_transpose(
        input,
        required(weight, f"{function}: param_attr"),
        bias,
        stride,
        padding,
        groups=n,
        dilation=dilation,
        data_format=data_format,
        output_size=output_size,
    )
    return named(activation(y), name)


def embedding(
    input: Variable,
    size: Sequence[int],
    is_sparse: bool = False,
    is_distributed: bool = False,
    padding_idx: int | None = None,
    param_attr: LayerAttr = None,
    dtype: DTypeLike = "float32",
) -> Variable:
    """Rows of a table        input: int[*n]   size: [rows, d]   result: [*n, d].

    >>> embedding(label, [10, 3])
    <Variable gather_0 : f32[N, 3]>
    """
    weight = layer_parameter(_layer("embedding", None), size, param_attr, dtype)
    table = required(weight, "static.nn.embedding: param_attr")
    return functional.embedding(input, table, padding_idx, is_sparse)


def fc(
    x: Variable | list[Variable] | tuple[Variable, ...],
    size: int,
    num_flatten_dims: int = 1,
    weight_attr: LayerAttr | list[LayerAttr] = None,
    bias_attr: LayerAttr = None,
    activation: str | None = None,
    name: str | None = None,
) -> Variable:
    """activation(x weight + bias), the dims of x from num_flatten_dims on made one.

    x: [*n, *d]   weight: [d, size]   result: [*n, size]; several x have a weight each, and add up

    >>> fc(x, 10, activation="relu")
    <Variable relu_0 : f32[N, 10]>

    Raises:
        ArgumentError: an unknown activation, or num_flatten_dims out of range.
        ShapeError: a dim of the weight is not known.
    """
    function = _activation(activation)
    inputs = [x] if isinstance(x, Variable) else list(x)
    attrs = weight_attr if isinstance(weight_attr, list) else [weight_attr] * len(inputs)
    g = recorder(*inputs)
    flat = [_flattened(v, num_flatten_dims) for v in inputs]
    layer = _layer("fc", name)
    products = [_times_weight(g, layer, v, size, a) for v, a in zip(flat, attrs, strict=True)]
    y = products[0] if len(products) == 1 else g.Sum(*products)
    bias = layer_parameter(layer, [size], bias_attr, y.dtype, is_bias=True)
    return named(function(y if bias is None else g.Add(y, bias)), name)


def _flattened(x: Variable, num_flatten_dims: int) -> Variable:
    """x with one dim for all from num_flatten_dims on."""
    kept = num_flatten_dims + x.ndim if num_flatten_dims < 0 else num_flatten_dims
    if not 0 < kept < x.ndim:
        raise ArgumentError(
            f"static.nn.fc: num_flatten_dims {num_flatten_dims} does not fit {x.name}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix=f"use 1 to {x.ndim - 1}, or reshape {x.name} first",
        )
    for axis in range(kept, x.ndim):
        _known("fc", x, axis)
    return x if kept == x.ndim - 1 else flatten(x, start_axis=kept)


def _times_weight(g: Tape, layer: str, x: Variable, size: int, attr: LayerAttr) -> Variable:
    weight = layer_parameter(layer, [x.shape[-1], size], attr, x.dtype)
    product: Variable = g.MatMul(x, required(weight, "static.nn.fc: weight_attr"))
    return product


def group_norm(
    input: Variable,
    groups: int,
    epsilon: float = 1e-5,
    param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None,
    act: str | None = None,
    data_layout: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """Each sample's groups of channels to mean 0 and variance 1        input: [n, c, *d]."""
    activation = _activation(act)
    size = _channels("group_norm", input, data_layout)
    weight, bias = _affine(_layer("group_norm", name), input, size, param_attr, bias_attr)
    y = functional.group_norm(input, groups, epsilon, weight, bias, data_layout)
    return named(activation(y), name)


def instance_norm(
    input: Variable,
    epsilon: float = 1e-5,
    param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None,
    name: str | None = None,
) -> Variable:
    """Each sample's channels to mean 0 and variance 1        input: [n, c, *d]."""
    size, layer = _known("instance_norm", input, 1), _layer("instance_norm", name)
    weight, bias = _affine(layer, input, size, param_attr, bias_attr)
    y = functional.instance_norm(input, weight=weight, bias=bias, eps=epsilon)
    return named(y, name)


def layer_norm(
    input: Variable,
    scale: bool = True,
    shift: bool = True,
    begin_norm_axis: int = 1,
    epsilon: float = 1e-5,
    param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None,
    act: str | None = None,
    name: str | None = None,
) -> Variable:
    """The dims from begin_norm_axis on to mean 0 and variance 1        input: [*n, *d].

    The scale and the shift are flat: [d].

    >>> layer_norm(image)
    <Variable layernormalization_0 : f32[N, 3, 8, 8]>
    """
    activation = _activation(act)
    shape = [_known("layer_norm", input, k) for k in range(begin_norm_axis, input.ndim)]
    weight, bias = _affine(
        _layer("layer_norm", name),
        input,
        math.prod(shape),
        param_attr if scale else False,
        bias_attr if shift else False,
    )
    return named(activation(functional.layer_norm(input, shape, weight, bias, epsilon)), name)


def prelu(
    x: Variable,
    mode: str,
    param_attr: LayerAttr = None,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """x from 0 up, alpha x below; alpha is one for 'all', per 'channel' or per 'element'.

    x: [n, c, *d]   alpha: [1], [c] or [1, c, *d], from 0.25
    """
    choice("static.nn.prelu", "mode", mode, ["all", "channel", "element"])
    need_rank(x, "static.nn.prelu", *range(1 if mode == "all" else 2, 7))
    shapes = {
        "all": lambda: [1],
        "channel": lambda: [_channels("prelu", x, data_format)],
        "element": lambda: [1, *(_known("prelu", x, k) for k in range(1, x.ndim))],
    }
    made = layer_parameter(
        _layer("prelu", name),
        shapes[mode](),
        param_attr,
        x.dtype,
        default_initializer=Constant(0.25),
    )
    alpha = required(made, "static.nn.prelu: param_attr")
    if mode == "element":
        return named(recorder(x).PRelu(x, alpha), name)
    return functional.prelu(x, alpha, data_format, name)
