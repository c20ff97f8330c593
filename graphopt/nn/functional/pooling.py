"""Pools. ``stride`` is the kernel's size unless given; padding takes conv2d's forms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, overload

from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.nn.functional.windows import IntOrInts, Layout, Padding, Window, spatial
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, named


def avg_pool1d(
    x: TensorLike,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: Padding = 0,
    exclusive: bool = True,
    ceil_mode: bool = False,
    name: str | None = None,
) -> Variable:
    """Means over windows; see avg_pool2d        x: [n, c, l]."""
    y = _avg_pool(
        "avg_pool1d", 1, x, kernel_size, stride, padding, ceil_mode, exclusive, None, "NCL"
    )
    return named(y, name)


def avg_pool2d(
    x: TensorLike,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    exclusive: bool = True,
    divisor_override: float | None = None,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """Means over windows, of their real elements only if exclusive        x: [n, c, h, w].

    >>> avg_pool2d(image, 2)
    <Variable averagepool_0 : f32[N, 3, 4, 4]>
    """
    y = _avg_pool(
        "avg_pool2d", 2, x, kernel_size, stride, padding, ceil_mode, exclusive, divisor_override,
        data_format,
    )  # fmt: skip
    return named(y, name)


def _avg_pool(
    function: str,
    n: int,
    x: TensorLike,
    kernel_size: IntOrInts,
    stride: IntOrInts | None,
    padding: Padding,
    ceil_mode: bool,
    exclusive: bool,
    divisor: float | None,
    data_format: str,
) -> Variable:
    g = recorder(x)
    pool = _Pool.of(g, function, n, x, kernel_size, stride, padding, ceil_mode, data_format)
    include = int(not exclusive or divisor is not None)
    y = g.AveragePool(
        pool.x,
        count_include_pad=include,
        kernel_shape=pool.kernel,
        strides=pool.strides,
        pads=pool.pads,
        auto_pad=pool.auto_pad,
        ceil_mode=pool.ceil_mode,
    )
    if divisor is not None:
        y = g.Mul(y, g.const(math.prod(pool.kernel) / divisor, y.dtype))
    return pool.layout.back(g, y)


@overload
def max_pool1d(
    x: TensorLike,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: Padding = 0,
    return_mask: Literal[False] = False,
    ceil_mode: bool = False,
    name: str | None = None,
) -> Variable: ...


@overload
def max_pool1d(
    x: TensorLike,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: Padding = 0,
    *,
    return_mask: Literal[True],
    ceil_mode: bool = False,
    name: str | None = None,
) -> tuple[Variable, Variable]: ...


def max_pool1d(
    x: TensorLike,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: Padding = 0,
    return_mask: bool = False,
    ceil_mode: bool = False,
    name: str | None = None,
) -> Variable | tuple[Variable, Variable]:
    """Maxima over windows; see max_pool2d        x: [n, c, l]."""
    return _max_pool(
        "max_pool1d", 1, x, kernel_size, stride, padding, return_mask, ceil_mode, "NCL", name
    )


@overload
def max_pool2d(
    x: TensorLike,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: Padding = 0,
    return_mask: Literal[False] = False,
    ceil_mode: bool = False,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable: ...


@overload
def max_pool2d(
    x: TensorLike,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: Padding = 0,
    *,
    return_mask: Literal[True],
    ceil_mode: bool = False,
    data_format: str = "NCHW",
    name: str | None = None,
) -> tuple[Variable, Variable]: ...


def max_pool2d(
    x: TensorLike,
    kernel_size: IntOrInts,
    stride: IntOrInts | None = None,
    padding: Padding = 0,
    return_mask: bool = False,
    ceil_mode: bool = False,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable | tuple[Variable, Variable]:
    """Maxima over windows; padding never wins        x: [n, c, h, w].

    ``return_mask`` adds where each maximum is in its image: i64, row times width plus column.

    >>> max_pool2d(image, 2)
    <Variable maxpool_0 : f32[N, 3, 4, 4]>
    """
    return _max_pool(
        "max_pool2d", 2, x, kernel_size, stride, padding, return_mask, ceil_mode, data_format, name
    )


def _max_pool(
    function: str,
    n: int,
    x: TensorLike,
    kernel_size: IntOrInts,
    stride: IntOrInts | None,
    padding: Padding,
    return_mask: bool,
    ceil_mode: bool,
    data_format: str,
    name: str | None,
) -> Variable | tuple[Variable, Variable]:
    g = recorder(x)
    pool = _Pool.of(g, function, n, x, kernel_size, stride, padding, ceil_mode, data_format)
    found = g.emit(
        "MaxPool",
        pool.x,
        outputs=1 + return_mask,
        kernel_shape=pool.kernel,
        strides=pool.strides,
        pads=pool.pads,
        auto_pad=pool.auto_pad,
        ceil_mode=pool.ceil_mode,
    )
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
    kernel: list[int]
    strides: list[int]
    pads: list[int] | None
    auto_pad: str
    ceil_mode: int

    @staticmethod
    def of(
        g: Tape,
        function: str,
        n: int,
        x: TensorLike,
        kernel_size: IntOrInts,
        stride: IntOrInts | None,
        padding: Padding,
        ceil_mode: bool,
        data_format: str,
    ) -> _Pool:
        x = as_variable(g, x)
        layout = Layout.of(function, x, n, data_format)
        x = layout.first(g, x)
        kernel = spatial(function, "kernel_size", kernel_size, n)
        strides = kernel if stride is None else spatial(function, "stride", stride, n)
        window = Window(kernel, strides, [1] * n)
        pads, auto_pad = window.pads(function, padding, x, layout)
        if auto_pad == "NOTSET":
            window.check_fits(function, x, pads)
        wanted = pads if auto_pad == "NOTSET" else None
        return _Pool(x, layout, kernel, strides, wanted, auto_pad, int(ceil_mode))
