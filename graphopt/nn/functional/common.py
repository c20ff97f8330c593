"""Linear maps, dropout, padding, resizing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphopt.errors import ArgumentError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import integer, number
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.operands import (
    Axes,
    TensorLike,
    as_variable,
    axes_of,
    choice,
    int_vector,
    named,
    pair,
)
from graphopt.tensor.random import stream_seed
from graphopt.tensor.reduce import norm


def cosine_similarity(x1: TensorLike, x2: TensorLike, axis: int = 1, eps: float = 1e-8) -> Variable:
    """x1 · x2 / max(‖x1‖ ‖x2‖, eps), the cosine of the angle between vectors along ``axis``.

    ``x1`` and ``x2`` broadcast to [*n]; the result is [*n less axis]. ``eps`` keeps zeros from
    giving NaN.

    >>> cosine_similarity(x, x)
    <Variable div_0 : f32[N]>
    """
    left, right = pair("Mul", x1, x2)
    g = recorder(left, right)
    product = g.ReduceSum(g.Mul(left, right), [axis], keepdims=0)
    sizes = g.Mul(norm(left, axis=axis), norm(right, axis=axis))
    return named(g.Div(product, g.Max(sizes, g.const(eps, left.dtype))), None)


def dropout(
    x: TensorLike,
    p: float = 0.5,
    axis: Axes = None,
    training: bool = True,
    mode: str = "upscale_in_train",
    name: str | None = None,
) -> Variable:
    """Zero each element with probability ``p`` while ``training``; divide the others by 1 - ``p``.

    x: [*n]. Each run draws anew. With ``axis``, an int or several, elements that differ along other
    axes alone are zeroed together. ``mode`` 'downscale_in_infer' divides nothing while training,
    and multiplies x by 1 - ``p`` otherwise, where 'upscale_in_train' leaves it as it is.

    Srivastava et al.: Dropout, 2014.

    >>> dropout(x, 0.1)
    <Variable dropout_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: ``p`` is not a number, or an axis not an int.
        ArgumentError: ``p`` is not in [0, 1], x does not have an axis, or an unknown ``mode``.
    """
    choice("dropout", "mode", mode, ["upscale_in_train", "downscale_in_infer"])
    if not 0 <= number("dropout: p", p) <= 1:
        raise ArgumentError(f"dropout: p must be in [0, 1], not {p}", where=here())
    g = recorder(x)
    x = as_variable(g, x)
    downscale = mode == "downscale_in_infer"
    if training and p == 1:
        return named(g.zeros_like(x), name)
    y = _dropped(g, x, p, axis) if training and p else x
    return named(g.Mul(y, g.const(1 - p, x.dtype)) if downscale else y, name)


def _dropped(g: Tape, x: Variable, p: float, axis: Axes) -> Variable:
    axes = axes_of(x, axis)
    ratio, training, seed = g.const(p, x.dtype), np.array(True), stream_seed(g.program)
    if axes is None:
        y: Variable = g.Dropout(x, ratio, training, seed=seed)
        return y
    dims = [g.dim_of(x, k) if k in axes else [1] for k in range(x.ndim)]
    ones = g.Expand(g.const(1.0, x.dtype), g.Concat(*dims, axis=0))  # 1 in the shared dims
    return g.Mul(x, g.Dropout(ones, ratio, training, seed=seed))


def interpolate(
    x: TensorLike,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
    align_mode: int = 0,
    data_format: str = "NCHW",
    name: str | None = None,
) -> Variable:
    """Images in another size        x: [n, c, h, w] of known h and w   result: [n, c, h', w'].

    One or three spatial dims work alike.

    Args:
        x: the images.
        size: h' and w', one int for all spatial dims or one a dim.
        scale_factor: h' / h and w' / w in place of ``size``; sizes are rounded down.
        mode: 'nearest' takes the nearest pixel, 'linear', 'bilinear' and 'trilinear' mix the pixels
            around a place by their distance from it.
        align_corners: whether the corner pixels of x and of the result lie on each other; otherwise
            the corners of their corner pixels do.
        align_mode: for the linear modes without ``align_corners``: 0 takes a pixel's value to be at
            its centre, 1 at its corner.
        data_format: 'NLC', 'NHWC' or 'NDHWC' for channels last; they are first in every other
            format.
        name: the result's name.

    >>> interpolate(image, scale_factor=2)
    <Variable gather_1 : f32[N, 3, 16, 16]>

    Raises:
        ArgumentError: a spatial dim of x is not known, ``size`` and ``scale_factor`` are both given
            or both missing, or an unknown ``mode``.
        ArgumentTypeError: a size is not an int, or a factor not a number.
    """
    choice("interpolate", "mode", mode, ["nearest", "linear", "bilinear", "trilinear"])
    g = recorder(x)
    x = as_variable(g, x)
    last = data_format.endswith("C")
    axes = [*range(1, x.ndim - 1)] if last else [*range(2, x.ndim)]
    sizes = _target_sizes(x, axes, size, scale_factor)
    y = x
    for axis, wanted in zip(axes, sizes, strict=True):
        old = x.shape[axis]
        if mode == "nearest":
            y = g.Gather(y, _nearest(old, wanted, align_corners), axis=axis)
        else:
            y = _mixed(g, y, _linear(old, wanted, align_corners, align_mode), axis)
    return named(y, name)


def _target_sizes(
    x: Variable,
    axes: Sequence[int],
    size: Sequence[int] | int | None,
    factor: float | Sequence[float] | None,
) -> list[int]:
    old = [x.shape[a] for a in axes]
    if -1 in old or (size is None) == (factor is None):
        raise ArgumentError(
            "interpolate needs an image of known size, and size or scale_factor",
            operands=[(x.name, x.tensor_type), ("size", size), ("scale_factor", factor)],
            where=here(),
        )
    if size is not None:
        sizes = size if isinstance(size, (list, tuple)) else [size] * len(old)
        return [integer("interpolate: a size", s) for s in sizes]
    factors = factor if isinstance(factor, (list, tuple)) else [factor] * len(old)
    scales = [number("interpolate: a scale_factor", f) for f in factors]
    return [math.floor(d * f) for d, f in zip(old, scales, strict=True)]


def _nearest(old: int, new: int, align_corners: bool) -> np.ndarray:
    """The pixel that each new pixel shows: [new]."""
    if align_corners and new > 1:
        pixel = np.arange(new) * ((old - 1) / (new - 1)) + 0.5
    else:
        pixel = np.arange(new) * (old / new)
    return np.asarray(np.floor(pixel), np.int64)


def _linear(old: int, new: int, align_corners: bool, align_mode: int) -> np.ndarray:
    """The matrix [new, old] that mixes the two nearest pixels."""
    k = np.arange(new)
    if align_corners:
        at = k * ((old - 1) / (new - 1)) if new > 1 else k * 0.0
    elif align_mode == 1:
        at = k * (old / new)
    else:
        at = (k + 0.5) * (old / new) - 0.5
    at = np.clip(at, 0, old - 1)
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (k, low), 1 - (at - low))
    np.add.at(matrix, (k, high), at - low)
    return matrix


def _mixed(g: Tape, x: Variable, matrix: np.ndarray, axis: int) -> Variable:
    """A matrix applied along one axis."""
    if axis == x.ndim - 1:
        return g.MatMul(x, g.const(matrix.T, x.dtype))
    perm = [*range(x.ndim)]
    perm[axis], perm[-1] = perm[-1], perm[axis]
    mixed = g.MatMul(g.Transpose(x, perm=perm), g.const(matrix.T, x.dtype))
    return g.Transpose(mixed, perm=perm)


upsample = interpolate


def linear(
    x: TensorLike, weight: TensorLike, bias: TensorLike | None = None, name: str | None = None
) -> Variable:
    """x weight + bias        x: [*n, i]   weight: [i, o]   bias: [o]   result: [*n, o].

    >>> w = x.program.global_block().create_var("w", [4, 2])
    >>> linear(x, w)
    <Variable matmul_0 : f32[N, 2]>
    """
    g = recorder(x, weight, bias)
    y = g.MatMul(as_variable(g, x), as_variable(g, weight))
    return named(y if bias is None else g.Add(y, as_variable(g, bias)), name)


MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pad(
    x: TensorLike,
    pad: Sequence[int] | int | Variable,
    mode: str = "constant",
    value: float = 0.0,
    data_format: str = "NCHW",
    pad_from_left_axis: bool = True,
    name: str | None = None,
) -> Variable:
    """Put elements around x        x: [*n].

    Args:
        x: a tensor.
        pad: numbers of elements [before, after] for each dim, from the first dim on. A shorter list
            is for the spatial dims, from the last one back: [left, right, top, bottom]. An int is
            for both sides of all spatial dims. A Variable of ints is in ONNX's order: before each
            dim, then behind each.
        mode: 'constant' puts ``value`` there, 'reflect' the mirror image without the edge,
            'replicate' the edge again, 'circular' the elements of the other side.
        value: see ``mode``.
        data_format: 'NLC', 'NHWC' or 'NDHWC' if the spatial dims are from the second to the last
            but one; in every other format they are from the third to the last.
        pad_from_left_axis: False for a whole list that begins with the last dim.
        name: the result's name.

    >>> pad(image, [1, 1, 2, 2])
    <Variable pad_0 : f32[N, 3, 12, 10]>

    Raises:
        ArgumentError: an unknown ``mode``, or a list of an odd length or longer than 2 ints a dim.
    """
    choice("pad", "mode", mode, [*MODES])
    g = recorder(x, pad)
    x = as_variable(g, x)
    fill = g.const(value, x.dtype) if mode == "constant" else None
    if isinstance(pad, Variable):
        return named(g.Pad(x, int_vector(g, pad), fill, mode=MODES[mode]), name)
    pairs = _pad_pairs(x, pad, data_format, pad_from_left_axis)
    if mode != "constant" and all(x.shape[k] != -1 for k in pairs):
        return named(_padded_by_index(g, x, pairs, mode), name)
    pads = [pairs.get(k, (0, 0))[side] for side in (0, 1) for k in range(x.ndim)]
    return named(g.Pad(x, pads, fill, mode=MODES[mode]), name)


def _pad_pairs(
    x: Variable, pad: Sequence[int] | int, data_format: str, from_left: bool
) -> dict[int, tuple[int, int]]:
    """Axis to (before, after)."""
    last = data_format.endswith("C")
    spatial = [*range(1, x.ndim - 1)] if last and x.ndim > 2 else [*range(2, x.ndim)]
    flat = [pad] * (2 * len(spatial)) if isinstance(pad, int) else list(pad)
    if len(flat) % 2 or len(flat) > 2 * x.ndim:
        raise ArgumentError(
            f"pad: {flat} does not fit {x.name}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="give [before, after] for each dim to pad",
        )
    pairs = [*zip(flat[::2], flat[1::2], strict=True)]
    if len(pairs) == x.ndim:
        axes = [*range(x.ndim)] if from_left else [*range(x.ndim)][::-1]
    else:
        axes = (spatial if len(pairs) <= len(spatial) else [*range(x.ndim)])[::-1]
    return dict(zip(axes, pairs, strict=False))


def _padded_by_index(
    g: Tape, x: Variable, pairs: dict[int, tuple[int, int]], mode: str
) -> Variable:
    """A Gather along every padded dim."""
    for axis, (before, after) in pairs.items():
        if before or after:
            rule = MODES[mode] if mode == "circular" else mode.replace("replicate", "edge")
            index = np.pad(np.arange(x.shape[axis]), (before, after), mode=rule)  # type: ignore[call-overload]
            x = g.Gather(x, index, axis=axis)
    return x
