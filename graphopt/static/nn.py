"""paddle.static.nn: functions that make their parameters where they are called.

``name`` names the parameters (<name>.w_0) and the result; without it they are fc_0.w_0, fc_1.w_0, …
``act`` and ``activation`` are names of activations, the keys of ``ACTIVATIONS``. A ``param_attr``,
``weight_attr`` or ``bias_attr`` is None, a ParamAttr, a name, an initializer or False for no such
parameter. A function that raises an error leaves no parameter behind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphopt.errors import ArgumentError
from graphopt.initializer import Constant
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.literals import integer
from graphopt.ir.types.types import DTypeLike
from graphopt.ir.types.where import here
from graphopt.nn import functional
from graphopt.nn.layer.layers import LayerAttr, layer_parameter, required, statistic
from graphopt.passes.gradients.backward import check_variable
from graphopt.scoping import recorder
from graphopt.static.control_flow import case, cond, scan, switch_case, while_loop
from graphopt.static.conv import conv2d, conv2d_transpose, conv3d, conv3d_transpose
from graphopt.static.naming import (
    ACTIVATIONS,
    activation_named,
    all_or_nothing,
    channels_of,
    known_dim,
    layer_name,
)
from graphopt.tensor.manipulation import flatten
from graphopt.tensor.operands import choice, named, need_rank

__all__ = [
    "ACTIVATIONS",
    "batch_norm",
    "case",
    "cond",
    "conv2d",
    "conv2d_transpose",
    "conv3d",
    "conv3d_transpose",
    "embedding",
    "fc",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "prelu",
    "scan",
    "switch_case",
    "while_loop",
]


@all_or_nothing
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
    """Each channel to mean 0 and variance 1 over the batch        input: [n, c, *d].

    See ``nn.functional.batch_norm`` for the formula. Parameters: w_0 the scale and b_0 the shift;
    w_1 and w_2 the running mean and variance, which are not trained.

    Args:
        input: the tensor to normalize.
        act: the name of an activation of the result.
        is_test: whether the running statistics are used, and not those of the batch.
        momentum: the share of the running statistics that a run keeps.
        epsilon: is added to the variance.
        param_attr: how the scale is made; ones by default, and False for none.
        bias_attr: how the shift is made; zeros by default, and False for none.
        data_layout: 'NLC', 'NHWC' or 'NDHWC' for [n, *d, c]; channels are first in every other
            format.
        in_place: accepted as in Paddle; changes nothing.
        name: the prefix of the parameters' names, and the result's name.
        moving_mean_name: the running mean's name, in place of w_1.
        moving_variance_name: the running variance's name, in place of w_2.
        do_model_average_for_mean_and_var: accepted as in Paddle; changes nothing.
        use_global_stats: whether the running statistics are used in training too.

    >>> batch_norm(image, act="relu")
    <Variable relu_0 : f32[N, 3, 8, 8]>

    Raises:
        ShapeError: the channels are not known.
        ArgumentError: an unknown ``act`` or ``data_layout``, or input has no channels.
        ArgumentTypeError: ``momentum`` or ``epsilon`` is not a number.
    """
    activation = activation_named(act)
    size, layer = channels_of("batch_norm", input, data_layout), layer_name("batch_norm", name)
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


@all_or_nothing
def embedding(
    input: Variable,
    size: Sequence[int],
    is_sparse: bool = False,
    is_distributed: bool = False,
    padding_idx: int | None = None,
    param_attr: LayerAttr = None,
    dtype: DTypeLike = "float32",
) -> Variable:
    """Rows of a table that is made here        input: int[*n]   size: [rows, d]   result: [*n, d].

    Elements of input that equal ``padding_idx``, a row that may count from the end, give zeros.
    ``param_attr`` says how the table of ``dtype`` is made: XavierUniform by default. ``is_sparse``
    and ``is_distributed`` are accepted as in Paddle and change nothing.

    >>> embedding(label, [10, 3])
    <Variable gather_0 : f32[N, 3]>

    Raises:
        DTypeError: input is not i32 or i64.
        ArgumentError: ``padding_idx`` is not a row, or ``param_attr`` is False.
    """
    weight = layer_parameter(layer_name("embedding", None), size, param_attr, dtype)
    table = required(weight, "static.nn.embedding: param_attr")
    return functional.embedding(input, table, padding_idx, is_sparse)


@all_or_nothing
def fc(
    x: Variable | list[Variable] | tuple[Variable, ...],
    size: int,
    num_flatten_dims: int = 1,
    weight_attr: LayerAttr | list[LayerAttr] = None,
    bias_attr: LayerAttr = None,
    activation: str | None = None,
    name: str | None = None,
) -> Variable:
    """activation(x weight + bias), with the dims of x from ``num_flatten_dims`` on made one.

    x: [*n, *d]   weight: [d, size]   result: [*n, size], where *n are ``num_flatten_dims`` dims;
    several x have a weight each, and are added up

    ``weight_attr`` says how the weight is made, or a list of these the weights; XavierUniform by
    default. ``bias_attr`` says how the bias is made; zeros by default, and False for none.
    ``activation`` is a name of ``ACTIVATIONS``.

    >>> fc(x, 10, activation="relu")
    <Variable relu_0 : f32[N, 10]>

    Raises:
        ArgumentTypeError: x is not a Variable, or ``num_flatten_dims`` not an int.
        ArgumentError: an unknown activation, ``num_flatten_dims`` is out of range, or
            ``weight_attr`` is False.
        ShapeError: a dim of the weight is not known.
    """
    function = activation_named(activation)
    listed = x if isinstance(x, (list, tuple)) else [x]
    inputs = [check_variable(v, "static.nn.fc: x") for v in listed]
    num_flatten_dims = integer("static.nn.fc: num_flatten_dims", num_flatten_dims)
    attrs = weight_attr if isinstance(weight_attr, list) else [weight_attr] * len(inputs)
    g = recorder(*inputs)
    flat = [_flattened(v, num_flatten_dims) for v in inputs]
    layer = layer_name("fc", name)
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
        known_dim("fc", x, axis)
    return x if kept == x.ndim - 1 else flatten(x, start_axis=kept)


def _times_weight(g: Tape, layer: str, x: Variable, size: int, attr: LayerAttr) -> Variable:
    weight = layer_parameter(layer, [x.shape[-1], size], attr, x.dtype)
    product: Variable = g.MatMul(x, required(weight, "static.nn.fc: weight_attr"))
    return product


@all_or_nothing
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
    """Each group of channels of a sample to mean 0 and variance 1        input: [n, c, *d].

    ``groups``, ``epsilon`` and ``data_layout`` are ``num_groups``, ``epsilon`` and ``data_format``
    of ``nn.functional.group_norm``. ``param_attr`` and ``bias_attr`` say how scale and shift, [c],
    are made: ones and zeros by default, and False for none. ``act`` is the name of an activation of
    the result.

    >>> group_norm(image, groups=3)
    <Variable add_1 : f32[N, 3, 8, 8]>

    Raises:
        ShapeError: the channels are not known, or ``groups`` does not divide them.
        ArgumentError: an unknown ``act`` or ``data_layout``, or input has no channels.
        ArgumentTypeError: ``groups`` is not an int, or ``epsilon`` not a number.
    """
    activation = activation_named(act)
    size = channels_of("group_norm", input, data_layout)
    weight, bias = _affine(layer_name("group_norm", name), input, size, param_attr, bias_attr)
    y = functional.group_norm(input, groups, epsilon, weight, bias, data_layout)
    return named(activation(y), name)


@all_or_nothing
def instance_norm(
    input: Variable,
    epsilon: float = 1e-5,
    param_attr: LayerAttr = None,
    bias_attr: LayerAttr = None,
    name: str | None = None,
) -> Variable:
    """Each channel of a sample to mean 0 and variance 1        input: [n, c, *d].

    ``epsilon`` is added to the variance. ``param_attr`` and ``bias_attr`` say how scale and shift,
    [c], are made: ones and zeros by default, and False for none.

    >>> instance_norm(image)
    <Variable instancenormalization_0 : f32[N, 3, 8, 8]>

    Raises:
        ShapeError: c is not known.
        ArgumentError: input has fewer than 3 dims or more than 5.
        ArgumentTypeError: ``epsilon`` is not a number.
    """
    size, layer = known_dim("instance_norm", input, 1), layer_name("instance_norm", name)
    weight, bias = _affine(layer, input, size, param_attr, bias_attr)
    y = functional.instance_norm(input, weight=weight, bias=bias, eps=epsilon)
    return named(y, name)


@all_or_nothing
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
    """The dims from ``begin_norm_axis`` on to mean 0 and variance 1        input: [*n, *d].

    ``scale`` and ``shift`` say whether there are these parameters, which are flat: of as many
    elements as *d. ``param_attr`` and ``bias_attr`` say how they are made: ones and zeros by
    default. ``epsilon`` is added to the variance; ``act`` is the name of an activation of the
    result.

    >>> layer_norm(image)
    <Variable layernormalization_0 : f32[N, 3, 8, 8]>

    Raises:
        ShapeError: a dim of *d is not known.
        ArgumentError: an unknown ``act``, or input does not have the axis.
        ArgumentTypeError: ``epsilon`` is not a number.
    """
    activation = activation_named(act)
    axes = range(begin_norm_axis, max(input.ndim, begin_norm_axis + 1))
    shape = [known_dim("layer_norm", input, k) for k in axes]
    weight, bias = _affine(
        layer_name("layer_norm", name),
        input,
        math.prod(shape),
        param_attr if scale else False,
        bias_attr if shift else False,
    )
    return named(activation(functional.layer_norm(input, shape, weight, bias, epsilon)), name)


@all_or_nothing
def prelu(
    x: Variable,
    mode: str,
    param_attr: LayerAttr = None,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """x from 0 up, alpha x below        x: [n, c, *d]   alpha: [1], [c] or [1, c, *d].

    alpha is a parameter: one for all of x (``mode`` 'all'), one a 'channel' or one an 'element' of
    a sample. ``param_attr`` says how it is made: 0.25 by default. ``data_format`` 'NLC', 'NHWC' or
    'NDHWC' is for x: [n, *d, c].

    >>> prelu(image, "channel")
    <Variable prelu_1 : f32[N, 3, 8, 8]>

    Raises:
        ArgumentError: an unknown ``mode``, x has no channels, or ``param_attr`` is False.
        ShapeError: a dim of alpha is not known.
    """
    choice("static.nn.prelu", "mode", mode, ["all", "channel", "element"])
    need_rank(x, "static.nn.prelu", *range(1 if mode == "all" else 2, 7))
    shapes = {
        "all": lambda: [1],
        "channel": lambda: [channels_of("prelu", x, data_format)],
        "element": lambda: [1, *(known_dim("prelu", x, k) for k in range(1, x.ndim))],
    }
    made = layer_parameter(
        layer_name("prelu", name),
        shapes[mode](),
        param_attr,
        x.dtype,
        default_initializer=Constant(0.25),
    )
    alpha = required(made, "static.nn.prelu: param_attr")
    if mode == "element":
        return named(recorder(x).PRelu(x, alpha), name)
    return functional.prelu(x, alpha, data_format, name)
