"""Normalizations: (x - mean) / √(var + epsilon) over some dims, then times a weight, plus a bias.

A variance is the mean of the squares, not divided by one less. Where a channel has a weight and a
bias, ``data_format`` may say that channels are last: 'NLC', 'NHWC' or 'NDHWC'; all other formats
that Paddle knows have them first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.errors import ShapeError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import integer, number
from graphopt.ir.types.where import here
from graphopt.nn.functional.windows import CHANNELS_FIRST, CHANNELS_LAST, Layout
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, axis_of, choice, named, need_rank
from graphopt.tensor.reduce import norm

FORMATS = ["NC", *CHANNELS_FIRST.values(), *CHANNELS_LAST.values()]


def batch_norm(
    x: TensorLike,
    running_mean: Variable,
    running_var: Variable,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    training: bool = False,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    data_format: str = "NCHW",
    use_global_stats: bool | None = None,
    name: str | None = None,
) -> Variable:
    """Each channel to mean 0 and variance 1: (x - mean) / √(var + epsilon) weight + bias.

    x: [n, c, *d]   running_mean, running_var, weight, bias: [c]   result: as x

    While ``training``, mean and var are those of the batch over all dims but c, and the running
    ones, if they are kept between runs, become
    ``momentum`` running + (1 - ``momentum``) batch. Otherwise, and with ``use_global_stats``, mean
    and var are ``running_mean`` and ``running_var``. ``epsilon`` keeps the root from 0.
    ``data_format`` 'NLC', 'NHWC' or 'NDHWC' is for x: [n, *d, c].

    Ioffe, Szegedy: Batch Normalization, 2015.

    >>> mean, var = (x.program.global_block().create_var(name, [4]) for name in ("mean", "var"))
    >>> batch_norm(x, mean, var)
    <Variable batchnormalization_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: ``epsilon`` or ``momentum`` is not a number.
        ArgumentError: x has fewer than 2 dims or more than 5, or an unknown ``data_format``.
    """
    epsilon = number("batch_norm: epsilon", epsilon)
    momentum = number("batch_norm: momentum", momentum)
    g = recorder(x, running_mean, running_var, weight, bias)
    x = as_variable(g, x)
    need_rank(x, "batch_norm", 2, 3, 4, 5)
    layout = _layout("batch_norm", x, data_format)
    x = layout.first(g, x)
    scale, shift = _affine(g, x, weight, bias, (running_mean.shape[0],))
    operands = (x, scale, shift, running_mean, running_var)
    if not training or use_global_stats:
        y = g.BatchNormalization(*operands, epsilon=epsilon)
    else:
        y = Variable("", x.tensor_type, block=g.block, where=here())
        g.emit(
            "BatchNormalization",
            *operands,
            into=[y, _next(g, running_mean), _next(g, running_var)],
            epsilon=epsilon,
            momentum=momentum,
            training_mode=1,
        )
    return named(layout.back(g, y), name)


def _layout(function: str, x: Variable, data_format: str) -> Layout:
    """Where x has its channels; the formats of any number of dims are taken."""
    choice(function, "data_format", data_format, FORMATS)
    return Layout(x.ndim - 2, x.ndim > 2 and data_format in CHANNELS_LAST.values())


def _next(g: Tape, running: Variable) -> Variable:
    """The variable that takes a running statistic's next value.

    That is the statistic itself if it is kept between runs, else a variable that nobody reads.
    """
    if running.persistable:
        return running
    return Variable("", running.tensor_type, block=g.block, where=here())


def _affine(
    g: Tape,
    x: Variable,
    weight: TensorLike | None,
    bias: TensorLike | None,
    shape: tuple[int, ...],
) -> tuple[Variable, Variable]:
    """Weight and bias in the given shape; ones and zeros where they are not given."""
    found: list[Variable] = []
    for value, fill in ((weight, 1.0), (bias, 0.0)):
        if value is None:
            found.append(g.const(np.full(shape, fill), x.dtype))
            continue
        operand = as_variable(g, value)
        found.append(operand if operand.shape == shape else g.Reshape(operand, [*shape]))
    return found[0], found[1]


def group_norm(
    x: TensorLike,
    num_groups: int,
    epsilon: float = 1e-5,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """Each group of channels of a sample to mean 0 and variance 1, then weight and bias.

    x: [n, c, *d]   weight, bias: [c]   result: as x

    The c channels are cut in ``num_groups`` groups of neighbours; mean and var are over a group's
    channels and *d, and ``epsilon`` is added to var. ``data_format`` 'NLC', 'NHWC' or 'NDHWC' is
    for x: [n, *d, c].

    Wu, He: Group Normalization, 2018.

    >>> group_norm(image, num_groups=3)
    <Variable reshape_1 : f32[N, 3, 8, 8]>

    Raises:
        ShapeError: ``num_groups`` does not divide the channels, or their number is not known.
        ArgumentTypeError: ``num_groups`` is not an int, or ``epsilon`` not a number.
        ArgumentError: x has fewer than 2 dims or more than 5, or an unknown ``data_format``.
    """
    num_groups = integer("group_norm: num_groups", num_groups)
    epsilon = number("group_norm: epsilon", epsilon)
    g = recorder(x, weight, bias)
    x = as_variable(g, x)
    need_rank(x, "group_norm", 2, 3, 4, 5)
    layout = _layout("group_norm", x, data_format)
    x = layout.first(g, x)
    channels = x.shape[1]
    if num_groups < 1 or channels % num_groups or channels < 0:
        raise ShapeError(
            f"group_norm: {num_groups} groups do not divide the channels",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="use a number of groups that divides the channels",
        )
    # Not ONNX's GroupNormalization: its variance E[x²] - E[x]² is noise where the mean is large.
    y = g.reshape_like(_standard(g, g.reshape(x, 0, num_groups, -1), [-1], epsilon), x)
    for type, value in (("Mul", weight), ("Add", bias)):
        if value is not None:
            y = g.emit(type, y, g.reshape(as_variable(g, value), -1, *[1] * (x.ndim - 2)))
    return named(layout.back(g, y), name)


def _standard(g: Tape, x: Variable, axes: Sequence[int], epsilon: float) -> Variable:
    """(x - mean) / √(var + epsilon) over axes; the variance is that of the centred values."""
    off = g.Sub(x, g.ReduceMean(x, [*axes], keepdims=1))
    return _over_root(g, off, axes, epsilon)


def _over_root(g: Tape, x: Variable, axes: Sequence[int], epsilon: float) -> Variable:
    """``x`` / √(mean x² + epsilon) over axes."""
    square = g.ReduceMean(g.Mul(x, x), [*axes], keepdims=1)
    y: Variable = g.Div(x, g.Sqrt(g.Add(square, g.const(epsilon, x.dtype))))
    return y


def instance_norm(
    x: TensorLike,
    running_mean: Variable | None = None,
    running_var: Variable | None = None,
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.9,
    eps: float = 1e-5,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """Each channel of a sample to mean 0 and variance 1, then weight and bias.

    x: [n, c, *d]   weight, bias: [c]   result: as x

    Mean and var are over *d, and ``eps`` is added to var. ``data_format`` 'NLC', 'NHWC' or 'NDHWC'
    is for x: [n, *d, c]. ``running_mean``, ``running_var``, ``use_input_stats`` and ``momentum``
    are accepted as in Paddle and change nothing.

    Ulyanov, Vedaldi, Lempitsky: Instance Normalization, 2016.

    >>> instance_norm(image)
    <Variable instancenormalization_0 : f32[N, 3, 8, 8]>

    Raises:
        ArgumentTypeError: ``eps`` is not a number.
        ArgumentError: x has fewer than 3 dims or more than 5, or an unknown ``data_format``.
    """
    epsilon = number("instance_norm: eps", eps)
    g = recorder(x, weight, bias)
    x = as_variable(g, x)
    need_rank(x, "instance_norm", 3, 4, 5)
    layout = _layout("instance_norm", x, data_format)
    x = layout.first(g, x)
    scale, shift = _affine(g, x, weight, bias, (x.shape[1],))
    y = g.InstanceNormalization(x, scale, shift, epsilon=epsilon)
    return named(layout.back(g, y), name)


def layer_norm(
    x: TensorLike,
    normalized_shape: int | Sequence[int],
    weight: TensorLike | None = None,
    bias: TensorLike | None = None,
    epsilon: float = 1e-5,
    name: str | None = None,
) -> Variable:
    """The last dims of each sample to mean 0 and variance 1, then weight and bias.

    x: [*n, *normalized_shape]   weight, bias: [*normalized_shape], or flat   result: as x

    ``normalized_shape`` is an int where it is one dim; ``epsilon`` is added to var.

    Ba, Kiros, Hinton: Layer Normalization, 2016.

    >>> layer_norm(x, 4)
    <Variable layernormalization_0 : f32[N, 4]>

    Raises:
        ShapeError: x does not end with ``normalized_shape``.
        ArgumentTypeError: ``epsilon`` is not a number.
    """
    g = recorder(x, weight, bias)
    x = as_variable(g, x)
    shape = _last_dims("layer_norm", x, normalized_shape)
    scale, shift = _affine(g, x, weight, bias, shape)
    epsilon = number("layer_norm: epsilon", epsilon)
    y = g.LayerNormalization(x, scale, shift, axis=-len(shape), epsilon=epsilon)
    return named(y, name)


def _last_dims(
    function: str, x: Variable, normalized_shape: int | Sequence[int]
) -> tuple[int, ...]:
    """The normalized shape, which x ends with.

    Raises:
        ShapeError: it does not.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if x.shape[-len(shape) :] != shape:
        raise ShapeError(
            f"{function}: the last dims of {x.name} are not {[*shape]}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="give the dims to normalize over",
        )
    return shape


def normalize(
    x: TensorLike, p: float = 2, axis: int = 1, epsilon: float = 1e-12, name: str | None = None
) -> Variable:
    """x / max(‖x‖, epsilon), where ‖x‖ = (sum |x|^p)^(1/p) along an axis        x: [*n].

    ``p`` 2 makes vectors along ``axis`` of length 1; ``epsilon`` keeps zeros as they are. Where x
    has one dim, that is the axis.

    >>> normalize(x)
    <Variable div_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: ``p`` is not a number, or ``axis`` not an int.
        ArgumentError: x does not have the axis.
    """
    g = recorder(x)
    x = as_variable(g, x)
    at = axis_of(x, axis) if x.ndim > 1 else 0
    size = norm(x, number("normalize: p", p), at, keepdim=True)
    return named(g.Div(x, g.Max(size, g.const(epsilon, x.dtype))), name)


def rms_norm(
    input: TensorLike,
    normalized_shape: int | Sequence[int],
    weight: TensorLike | None = None,
    eps: float = 1e-5,
    name: str | None = None,
) -> Variable:
    """x / √(mean x² + eps), the mean over the last dims of ``input`` x; then times a weight.

    input: [*n, *normalized_shape]   weight: [*normalized_shape], or flat   result: as input

    ``normalized_shape`` is an int where it is one dim.

    Zhang, Sennrich: Root Mean Square Layer Normalization, 2019.

    >>> rms_norm(x, 4)
    <Variable div_0 : f32[N, 4]>

    Raises:
        ShapeError: ``input`` does not end with ``normalized_shape``.
    """
    g = recorder(input, weight)
    x = as_variable(g, input)
    shape = _last_dims("rms_norm", x, normalized_shape)
    y = _over_root(g, x, [*range(-len(shape), 0)], eps)
    if weight is not None:
        y = g.Mul(y, g.reshape(as_variable(g, weight), *shape))
    return named(y, name)
