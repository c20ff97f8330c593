"""Pools: means and maxima over windows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, overload

from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.nn.functional.windows import IntOrInts, Layout, Padding, Window, spatial
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, named


def avg_pool1d(
    x: TensorLike, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
    exclusive: bool = True, ceil_mode: bool = False, name: str | None = None,
) -> Variable:  # fmt: skip
    """Means over windows of sequences        x: [n, c, l]   result: [n, c, l'].

    ``kernel_size``, ``stride``, ``padding``, ``exclusive`` and ``ceil_mode`` are those of
    ``avg_pool2d``, with one spatial dim, and so are the errors.
    """
    return _avg_pool(
        "avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, exclusive, None, "NCL", name
    )


def avg_pool2d(
    x: TensorLike, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
    ceil_mode: bool = False, exclusive: bool = True, divisor_override: float | None = None,
    data_format: str = "NCHW", name: str | None = None,
) -> Variable:  # fmt: skip
    """Means over windows of images        x: [n, c, h, w]   result: [n, c, h', w'].

    Args:
        x: the images.
        kernel_size: the window's size, one int for all spatial dims or one a dim.
        stride: elements from one window to the next; the window's size by default.
        padding: zeros around x, in the forms that ``conv2d`` takes.
        ceil_mode: whether a last window may end outside of x, so that every element is in one.
        exclusive: whether a window's mean is over its elements in x only, without the padding.
        divisor_override: what a window's sum is divided by, in place of its number of elements.
        data_format: 'NCHW', or 'NHWC' for x: [n, h, w, c] and a result alike.
        name: the result's name.

    >>> avg_pool2d(image, 2)
    <Variable averagepool_0 : f32[N, 3, 4, 4]>

    Raises:
        ShapeError: x is smaller than a window.
        ArgumentError: x has another number of dims, or ``kernel_size``, ``stride``, ``padding`` or
            ``data_format`` has none of its forms.
    """
    return _avg_pool(
        "avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, exclusive, divisor_override,
        data_format, name,
    )  # fmt: skip


def _avg_pool(
    function: str, n: int, x: TensorLike, kernel_size: IntOrInts, stride: IntOrInts | None,
    padding: Padding, ceil_mode: bool, exclusive: bool, divisor: float | None, data_format: str,
    name: str | None,
) -> Variable:  # fmt: skip
    g = recorder(x)
    pool = _Pool.of(g, function, n, x, kernel_size, stride, padding, ceil_mode, data_format)
    include = int(not exclusive or divisor is not None)
    y = g.AveragePool(pool.x, count_include_pad=include, **pool.attrs)
    if divisor is not None:
        y = g.Mul(y, g.const(math.prod(pool.attrs["kernel_shape"]) / divisor, y.dtype))
    return named(pool.layout.back(g, y), name)


@overload
def max_pool1d(
    x: TensorLike, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
    return_mask: Literal[False] = False, ceil_mode: bool = False, name: str | None = None,
) -> Variable: ...  # fmt: skip


@overload
def max_pool1d(
    x: TensorLike, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
    *, return_mask: Literal[True], ceil_mode: bool = False, name: str | None = None,
) -> tuple[Variable, Variable]: ...  # fmt: skip


def max_pool1d(
    x: TensorLike, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
    return_mask: bool = False, ceil_mode: bool = False, name: str | None = None,
) -> Variable | tuple[Variable, Variable]:  # fmt: skip
    """Maxima over windows of sequences        x: [n, c, l]   result: [n, c, l'].

    ``kernel_size``, ``stride``, ``padding`` and ``ceil_mode`` are those of ``max_pool2d``, with one
    spatial dim, and so are the errors. With ``return_mask`` the result is a pair: the maxima, and
    the index along l where each of them is, i64[n, c, l'].
    """
    return _max_pool(
        "max_pool1d", 1, x, kernel_size, stride, padding, return_mask, ceil_mode, "NCL", name
    )


@overload
def max_pool2d(
    x: TensorLike, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
    return_mask: Literal[False] = False, ceil_mode: bool = False, data_format: str = "NCHW",
    name: str | None = None,
) -> Variable: ...  # fmt: skip


@overload
def max_pool2d(
    x: TensorLike, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
    *, return_mask: Literal[True], ceil_mode: bool = False, data_format: str = "NCHW",
    name: str | None = None,
) -> tuple[Variable, Variable]: ...  # fmt: skip


def max_pool2d(
    x: TensorLike, kernel_size: IntOrInts, stride: IntOrInts | None = None, padding: Padding = 0,
    return_mask: bool = False, ceil_mode: bool = False, data_format: str = "NCHW",
    name: str | None = None,
) -> Variable | tuple[Variable, Variable]:  # fmt: skip
    """Maxima over windows of images        x: [n, c, h, w]   result: [n, c, h', w'].

    ``kernel_size``, ``stride``, ``padding``, ``ceil_mode`` and ``data_format`` are those of
    ``avg_pool2d``, and so are the errors; the padding is never a maximum. With ``return_mask`` the
    result is a pair: the maxima, and where in its image each of them is, as row times w plus
    column, i64[n, c, h', w'].

    >>> max_pool2d(image, 2)
    <Variable maxpool_0 : f32[N, 3, 4, 4]>
    """
    return _max_pool(
        "max_pool2d", 2, x, kernel_size, stride, padding, return_mask, ceil_mode, data_format, name
    )


def _max_pool(
    function: str, n: int, x: TensorLike, kernel_size: IntOrInts, stride: IntOrInts | None,
    padding: Padding, return_mask: bool, ceil_mode: bool, data_format: str, name: str | None,
) -> Variable | tuple[Variable, Variable]:  # fmt: skip
    g = recorder(x)
    pool = _Pool.of(g, function, n, x, kernel_size, stride, padding, ceil_mode, data_format)
    found = g.emit("MaxPool", pool.x, outputs=1 + return_mask, **pool.attrs)
    if not return_mask:
        return named(pool.layout.back(g, found), name)
    y, where = found
    image = g.ReduceProd(g.Shape(pool.x, start=2), keepdims=0)  # []: elements of one image
    mask = pool.layout.back(g, g.Mod(where, image))
    return named(pool.layout.back(g, y), name), mask


@dataclass(frozen=True)
class _Pool:
    """x with its channels first, and the attributes that MaxPool and AveragePool share."""

    x: Variable
    layout: Layout
    attrs: dict[str, Any]

    @staticmethod
    def of(
        g: Tape, function: str, n: int, x: TensorLike, kernel_size: IntOrInts,
        stride: IntOrInts | None, padding: Padding, ceil_mode: bool, data_format: str,
    ) -> _Pool:  # fmt: skip
        x = as_variable(g, x)
        layout = Layout.of(function, x, n, data_format)
        x = layout.first(g, x)
        kernel = spatial(function, "kernel_size", kernel_size, n)
        strides = kernel if stride is None else spatial(function, "stride", stride, n)
        window = Window(kernel, strides, [1] * n)
        pads, auto_pad = window.pads(function, padding, x, layout)
        if auto_pad == "NOTSET":
            window.check_fits(function, x, pads)
        attrs = {
            "kernel_shape": kernel,
            "strides": strides,
            "pads": pads if auto_pad == "NOTSET" else None,
            "auto_pad": auto_pad,
            "ceil_mode": int(ceil_mode),
        }
        return _Pool(x, layout, attrs)
