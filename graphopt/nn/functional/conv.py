"""Convolutions of one, two and three spatial dims.

Their signatures are written out, as type checkers, editors and Paddle's own defaults and orders
want them; what is said at length and what is done stands once, for any number of dims.

A weight is [out, in / groups, *kernel]; of a transposed convolution [in, out / groups, *kernel].
"""

from __future__ import annotations

from graphopt.errors import ArgumentError, ShapeError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.nn.functional.windows import IntOrInts, Layout, Padding, Window, spatial
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, named, need_rank


def conv1d(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: IntOrInts = 1,
    padding: Padding = 0, dilation: IntOrInts = 1, groups: int = 1, data_format: str = "NCL",
    name: str | None = None,
) -> Variable:  # fmt: skip
    """Cross-correlation of sequences with a weight, plus bias.

    x: [n, c, l]   weight: [o, c / groups, k]   bias: [o]   result: [n, o, l']

    ``stride``, ``padding``, ``dilation`` and ``groups`` are those of ``conv2d``, with one spatial
    dim, and so are the errors. ``data_format`` is 'NCL', or 'NLC' for x: [n, l, c].
    """
    return _conv(1, x, weight, bias, stride, padding, dilation, groups, data_format, name)


def conv2d(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: IntOrInts = 1,
    padding: Padding = 0, dilation: IntOrInts = 1, groups: int = 1, data_format: str = "NCHW",
    name: str | None = None,
) -> Variable:  # fmt: skip
    """Cross-correlation of images with a weight, plus bias.

    x: [n, c, h, w]   weight: [o, c / groups, kh, kw]   bias: [o]   result: [n, o, h', w']
    with h' = (h + padding above and below - dilation (kh - 1) - 1) / stride + 1, rounded down.

    Args:
        x: the images.
        weight: a kernel for each channel of the result.
        bias: added to each channel of the result.
        stride: elements from one window to the next, one int for all spatial dims or one a dim.
        padding: zeros around x. An int is for all sides, one int a dim for both of its sides, two
            ints a dim are [top, bottom, left, right]; a pair for each dim of x, with [0, 0] for
            batch and channels; 'VALID' is none; 'SAME' gives h' = h / stride, rounded up.
        dilation: the distance of neighbours in a window, 1 where they touch; one int or one a dim.
        groups: x and the result have their channels in this many groups; a group of the result
            sees the one of x in its place only.
        data_format: 'NCHW', or 'NHWC' for x: [n, h, w, c] and a result alike.
        name: the result's name.

    >>> w = image.program.global_block().create_var("w", [16, 3, 3, 3])
    >>> conv2d(image, w, padding=1)
    <Variable conv_0 : f32[N, 16, 8, 8]>

    Raises:
        ShapeError: x has other channels than the weight is for, or is smaller than a window.
        ArgumentError: x or weight has another number of dims, or ``stride``, ``padding``,
            ``dilation`` or ``data_format`` has none of its forms.
    """
    return _conv(2, x, weight, bias, stride, padding, dilation, groups, data_format, name)


def conv3d(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: IntOrInts = 1,
    padding: Padding = 0, dilation: IntOrInts = 1, groups: int = 1, data_format: str = "NCDHW",
    name: str | None = None,
) -> Variable:  # fmt: skip
    """Cross-correlation of volumes with a weight, plus bias.

    x: [n, c, d, h, w]   weight: [o, c / groups, kd, kh, kw]   bias: [o]
    result: [n, o, d', h', w']

    ``stride``, ``padding``, ``dilation`` and ``groups`` are those of ``conv2d``, with three spatial
    dims, and so are the errors. ``data_format`` is 'NCDHW', or 'NDHWC' for x: [n, d, h, w, c].
    """
    return _conv(3, x, weight, bias, stride, padding, dilation, groups, data_format, name)


def _conv(
    n: int, x: TensorLike, weight: TensorLike, bias: TensorLike | None, stride: IntOrInts,
    padding: Padding, dilation: IntOrInts, groups: int, data_format: str, name: str | None,
) -> Variable:  # fmt: skip
    function = f"conv{n}d"
    g = recorder(x, weight, bias)
    x, w, window, layout = _operands(g, function, n, x, weight, stride, dilation, data_format)
    _check_channels(function, x, w, w.shape[1] * groups)
    pads, auto_pad = window.pads(function, padding, x, layout)
    if auto_pad == "NOTSET":
        window.check_fits(function, x, pads)
    y = g.Conv(
        x,
        w,
        _flat(g, bias),
        kernel_shape=list(window.kernel),
        strides=window.stride,
        dilations=window.dilation,
        group=groups,
        auto_pad=auto_pad,
        pads=pads if auto_pad == "NOTSET" else None,
    )
    return named(layout.back(g, y), name)


def _operands(
    g: Tape, function: str, n: int, x: TensorLike, weight: TensorLike, stride: IntOrInts,
    dilation: IntOrInts, data_format: str,
) -> tuple[Variable, Variable, Window, Layout]:  # fmt: skip
    """x with its channels first, the weight, the window that moves over x, and x's layout."""
    x, w = as_variable(g, x), as_variable(g, weight)
    layout = Layout.of(function, x, n, data_format)
    need_rank(w, f"{function}: weight", n + 2)
    window = Window(
        kernel=w.shape[2:],
        stride=spatial(function, "stride", stride, n),
        dilation=spatial(function, "dilation", dilation, n),
    )
    return layout.first(g, x), w, window, layout


def _flat(g: Tape, bias: TensorLike | None) -> Variable | None:
    """The bias: [o]."""
    return None if bias is None else g.Reshape(as_variable(g, bias), [-1])


def _check_channels(function: str, x: Variable, w: Variable, channels: int) -> None:
    if x.shape[1] not in (-1, channels):
        shape = "[{}, out / groups, ...]" if "transpose" in function else "[out, {} / groups, ...]"
        raise ShapeError(
            f"{function}: x has {x.shape[1]} channels, the weight is for {channels}",
            operands=[(x.name, x.tensor_type), (w.name, w.tensor_type)],
            where=here(),
            fix=f"make the weight with shape {shape.format(x.shape[1])}",
        )


def conv1d_transpose(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: IntOrInts = 1,
    padding: Padding = 0, output_padding: IntOrInts = 0, groups: int = 1, dilation: IntOrInts = 1,
    output_size: IntOrInts | None = None, data_format: str = "NCL", name: str | None = None,
) -> Variable:  # fmt: skip
    """Transposed convolution: x is mapped as ``conv1d`` maps gradients back to its x; plus bias.

    x: [n, c, l]   weight: [c, o / groups, k]   bias: [o]   result: [n, o, l']

    ``stride``, ``padding``, ``output_padding``, ``groups``, ``dilation`` and ``output_size`` are
    those of ``conv2d_transpose``, with one spatial dim, and so are the errors. ``data_format`` is
    'NCL', or 'NLC' for x: [n, l, c].
    """
    return _conv_transpose(
        1, x, weight, bias, stride, padding, output_padding, dilation, groups, output_size,
        data_format, name,
    )  # fmt: skip


def conv2d_transpose(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: IntOrInts = 1,
    padding: Padding = 0, output_padding: IntOrInts = 0, dilation: IntOrInts = 1, groups: int = 1,
    output_size: IntOrInts | None = None, data_format: str = "NCHW", name: str | None = None,
) -> Variable:  # fmt: skip
    """Transposed convolution: x is mapped as ``conv2d`` maps gradients back to its x; plus bias.

    x: [n, c, h, w]   weight: [c, o / groups, kh, kw]   bias: [o]   result: [n, o, h', w']
    with h' = (h - 1) stride - padding + dilation (kh - 1) + 1 + output_padding.

    Args:
        x: the images.
        weight: a kernel for each channel of x.
        bias: added to each channel of the result.
        stride: elements of the result from where one element of x adds its kernel to where the
            next one does; one int for all spatial dims or one a dim.
        padding: as in ``conv2d``: elements that the result lacks at its sides.
        output_padding: elements that h' has more at its end; one int or one a dim.
        dilation: as in ``conv2d``.
        groups: as in ``conv2d``.
        output_size: h' and w', one int or one a dim, in place of ``output_padding``.
        data_format: 'NCHW', or 'NHWC' for x: [n, h, w, c] and a result alike.
        name: the result's name.

    >>> w = image.program.global_block().create_var("w", [3, 16, 2, 2])
    >>> conv2d_transpose(image, w, stride=2)
    <Variable convtranspose_0 : f32[N, 16, 16, 16]>

    Raises:
        ShapeError: x has other channels than the weight is for.
        ArgumentError: x or weight has another number of dims, an option has none of its forms,
            ``output_size`` is out of reach, or it or 'SAME' needs the dims of x, which are not
            known.
    """
    return _conv_transpose(
        2, x, weight, bias, stride, padding, output_padding, dilation, groups, output_size,
        data_format, name,
    )  # fmt: skip


def conv3d_transpose(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, stride: IntOrInts = 1,
    padding: Padding = 0, output_padding: IntOrInts = 0, groups: int = 1, dilation: IntOrInts = 1,
    output_size: IntOrInts | None = None, data_format: str = "NCDHW", name: str | None = None,
) -> Variable:  # fmt: skip
    """Transposed convolution: x is mapped as ``conv3d`` maps gradients back to its x; plus bias.

    x: [n, c, d, h, w]   weight: [c, o / groups, kd, kh, kw]   bias: [o]
    result: [n, o, d', h', w']

    ``stride``, ``padding``, ``output_padding``, ``groups``, ``dilation`` and ``output_size`` are
    those of ``conv2d_transpose``, with three spatial dims, and so are the errors. ``data_format``
    is 'NCDHW', or 'NDHWC' for x: [n, d, h, w, c].
    """
    return _conv_transpose(
        3, x, weight, bias, stride, padding, output_padding, dilation, groups, output_size,
        data_format, name,
    )  # fmt: skip


def _conv_transpose(
    n: int, x: TensorLike, weight: TensorLike, bias: TensorLike | None, stride: IntOrInts,
    padding: Padding, output_padding: IntOrInts, dilation: IntOrInts, groups: int,
    output_size: IntOrInts | None, data_format: str, name: str | None,
) -> Variable:  # fmt: skip
    function = f"conv{n}d_transpose"
    g = recorder(x, weight, bias)
    x, w, window, layout = _operands(g, function, n, x, weight, stride, dilation, data_format)
    _check_channels(function, x, w, w.shape[0])
    pads, auto_pad = window.pads(function, padding, x, layout)
    if auto_pad != "NOTSET":
        raise ArgumentError(
            f"{function}: 'SAME' needs an input of known spatial dims",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="give the padding as ints",
        )
    extra = spatial(function, "output_padding", output_padding, n, least=0)
    if output_size is not None:
        wanted = spatial(function, "output_size", output_size, n)
        extra = _extra(function, window, pads, x, wanted)
    y = g.ConvTranspose(
        x,
        w,
        _flat(g, bias),
        kernel_shape=list(window.kernel),
        strides=window.stride,
        dilations=window.dilation,
        group=groups,
        pads=pads,
        output_padding=extra,
    )
    return named(layout.back(g, y), name)


def _extra(
    function: str, window: Window, pads: list[int], x: Variable, wanted: list[int]
) -> list[int]:
    """The output padding that gives the wanted size."""
    if -1 in x.shape[2:]:
        raise ArgumentError(
            f"{function}: output_size needs an input of known spatial dims",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="give output_padding",
        )
    n = len(wanted)
    least = [
        (size - 1) * s - pads[k] - pads[k + n] + d * (kernel - 1) + 1
        for k, (size, kernel, s, d) in enumerate(
            zip(x.shape[2:], window.kernel, window.stride, window.dilation, strict=True)
        )
    ]
    extra = [w - size for w, size in zip(wanted, least, strict=True)]
    if any(not 0 <= e < s for e, s in zip(extra, window.stride, strict=True)):
        raise ArgumentError(
            f"{function}: output_size cannot be {wanted}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix=f"use sizes from {least}, below that plus the stride",
        )
    return extra
