"""Convolutions. A weight is [out, in / groups, *k], of a transposed one [in, out / groups, *k]."""

from __future__ import annotations

from graphopt.errors import ArgumentError, ShapeError
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.nn.functional.windows import IntOrInts, Layout, Padding, Window, spatial
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, named, need_rank


def conv1d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    data_format: str = "NCL",
    name: str | None = None,
) -> Variable:
    """Cross-correlation with a weight, plus bias.

    x: [n, c, l]   weight: [o, c / groups, k]   bias: [o]
    """
    y = _conv("conv1d", 1, x, weight, bias, stride, padding, dilation, groups, data_format)
    return named(y, name)


def conv2d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """Cross-correlation with a weight, plus bias.

    x: [n, c, h, w]   weight: [o, c / groups, kh, kw]   bias: [o]   result: [n, o, h', w']

    ``padding`` is an int, one per dim, two per dim ([top, bottom, left, right]), pairs for every
    dim, 'VALID' (none) or 'SAME' (h' = h / stride, rounded up).

    >>> w = image.program.global_block().create_var("w", [16, 3, 3, 3])
    >>> conv2d(image, w, padding=1)
    <Variable conv_0 : f32[N, 16, 8, 8]>
    """
    y = _conv("conv2d", 2, x, weight, bias, stride, padding, dilation, groups, data_format)
    return named(y, name)


def conv3d(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    data_format: str = "NCDHW",
    name: str | None = None,
) -> Variable:
    """Cross-correlation with a weight, plus bias.

    x: [n, c, d, h, w]   weight: [o, c / groups, kd, kh, kw]   bias: [o]
    """
    y = _conv("conv3d", 3, x, weight, bias, stride, padding, dilation, groups, data_format)
    return named(y, name)


def _conv(
    function: str,
    n: int,
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None,
    stride: IntOrInts,
    padding: Padding,
    dilation: IntOrInts,
    groups: int,
    data_format: str,
) -> Variable:
    g = recorder(x, weight, bias)
    x, w = as_variable(g, x), as_variable(g, weight)
    layout = Layout.of(function, x, n, data_format)
    need_rank(w, f"{function}: weight", n + 2)
    x = layout.first(g, x)
    _check_channels(function, x, w, groups)
    window = Window(
        kernel=w.shape[2:],
        stride=spatial(function, "stride", stride, n),
        dilation=spatial(function, "dilation", dilation, n),
    )
    pads, auto_pad = window.pads(function, padding, x, layout)
    if auto_pad == "NOTSET":
        window.check_fits(function, x, pads)
    b = None if bias is None else g.Reshape(as_variable(g, bias), [-1])
    y = g.Conv(
        x,
        w,
        b,
        kernel_shape=list(w.shape[2:]),
        strides=window.stride,
        dilations=window.dilation,
        group=groups,
        auto_pad=auto_pad,
        pads=pads if auto_pad == "NOTSET" else None,
    )
    return layout.back(g, y)


def _check_channels(function: str, x: Variable, w: Variable, groups: int) -> None:
    if x.shape[1] not in (-1, w.shape[1] * groups):
        raise ShapeError(
            f"{function}: x has {x.shape[1]} channels, the weight is for {w.shape[1] * groups}",
            operands=[(x.name, x.tensor_type), (w.name, w.tensor_type), ("groups", groups)],
            where=here(),
            fix=f"make the weight with shape [out, {x.shape[1]} / groups, ...]",
        )


def conv1d_transpose(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    output_size: IntOrInts | None = None,
    data_format: str = "NCL",
    name: str | None = None,
) -> Variable:
    """The transpose of conv1d, plus bias; see conv2d_transpose.

    x: [n, c, l]   weight: [c, o / groups, k]   bias: [o]
    """
    y = _conv_transpose(
        "conv1d_transpose", 1, x, weight, bias, stride, padding, output_padding, groups, dilation,
        output_size, data_format,
    )  # fmt: skip
    return named(y, name)


def conv2d_transpose(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    output_size: IntOrInts | None = None,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """The transpose of conv2d: what its gradient with respect to x does, plus bias.

    x: [n, c, h, w]   weight: [c, o / groups, kh, kw]   bias: [o]   result: [n, o, h', w']
    with h' = (h - 1) stride - padding + dilation (kh - 1) + 1 + output_padding, or output_size.

    >>> w = image.program.global_block().create_var("w", [3, 16, 2, 2])
    >>> conv2d_transpose(image, w, stride=2)
    <Variable convtranspose_0 : f32[N, 16, 16, 16]>
    """
    y = _conv_transpose(
        "conv2d_transpose", 2, x, weight, bias, stride, padding, output_padding, groups, dilation,
        output_size, data_format,
    )  # fmt: skip
    return named(y, name)


def conv3d_transpose(
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    output_padding: IntOrInts = 0,
    groups: int = 1,
    dilation: IntOrInts = 1,
    output_size: IntOrInts | None = None,
    data_format: str = "NCDHW",
    name: str | None = None,
) -> Variable:
    """The transpose of conv3d, plus bias; see conv2d_transpose.

    x: [n, c, d, h, w]   weight: [c, o / groups, kd, kh, kw]   bias: [o]
    """
    y = _conv_transpose(
        "conv3d_transpose", 3, x, weight, bias, stride, padding, output_padding, groups, dilation,
        output_size, data_format,
    )  # fmt: skip
    return named(y, name)


def _conv_transpose(
    function: str,
    n: int,
    x: TensorLike,
    weight: TensorLike,
    bias: TensorLike | None,
    stride: IntOrInts,
    padding: Padding,
    output_padding: IntOrInts,
    groups: int,
    dilation: IntOrInts,
    output_size: IntOrInts | None,
    data_format: str,
) -> Variable:
    g = recorder(x, weight, bias)
    x, w = as_variable(g, x), as_variable(g, weight)
    layout = Layout.of(function, x, n, data_format)
    need_rank(w, f"{function}: weight", n + 2)
    x = layout.first(g, x)
    window = Window(
        kernel=w.shape[2:],
        stride=spatial(function, "stride", stride, n),
        dilation=spatial(function, "dilation", dilation, n),
    )
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
    b = None if bias is None else g.Reshape(as_variable(g, bias), [-1])
    y = g.ConvTranspose(
        x,
        w,
        b,
        kernel_shape=list(w.shape[2:]),
        strides=window.stride,
        dilations=window.dilation,
        group=groups,
        pads=pads,
        output_padding=extra,
    )
    return layout.back(g, y)


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
