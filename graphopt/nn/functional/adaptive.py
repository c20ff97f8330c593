"""Pools over a number of cells, whatever the size of x.

Along a dim of l elements the k-th of m cells holds the elements from k l / m, rounded down, to
(k + 1) l / m, rounded up: cells are nearly equal, and neighbours may share an element.
"""

from __future__ import annotations

import math
from typing import Literal, overload

import numpy as np

from graphopt.errors import ArgumentError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.nn.functional.windows import CHANNELS_FIRST, IntOrInts, Layout, spatial
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, named


def adaptive_avg_pool1d(x: TensorLike, output_size: int, name: str | None = None) -> Variable:
    """Means over ``output_size`` nearly equal cells of each sequence.

    x: [n, c, l]   result: [n, c, output_size]. The errors are those of ``adaptive_avg_pool2d``.
    """
    return named(_means("adaptive_avg_pool1d", 1, x, output_size, "NCL"), name)


def adaptive_avg_pool2d(
    x: TensorLike, output_size: IntOrInts, data_format: str = "NCHW", name: str | None = None
) -> Variable:
    """Means over nearly equal cells of each image        x: [n, c, h, w]   result: [n, c, h', w'].

    ``output_size`` is h' and w', or one int for both. ``data_format`` is 'NCHW', or 'NHWC' for
    x: [n, h, w, c] and a result alike.

    >>> adaptive_avg_pool2d(image, 1)
    <Variable globalaveragepool_0 : f32[N, 3, 1, 1]>

    Raises:
        ArgumentError: x has another number of dims, h or w is not known while ``output_size`` is
            not 1, or ``output_size`` or ``data_format`` has none of its forms.
    """
    return named(_means("adaptive_avg_pool2d", 2, x, output_size, data_format), name)


def _means(
    function: str, n: int, x: TensorLike, output_size: IntOrInts, data_format: str
) -> Variable:
    g = recorder(x)
    x = as_variable(g, x)
    layout = Layout.of(function, x, n, data_format)
    x = layout.first(g, x)
    sizes = spatial(function, "output_size", output_size, n)
    if sizes == [1] * n:
        return layout.back(g, g.GlobalAveragePool(x))
    _need_sizes(function, x)
    y = g.MatMul(x, g.const(_mixing(x.shape[-1], sizes[-1]).T, x.dtype))  # [n, c, *, w']
    if n == 2:
        y = g.MatMul(g.const(_mixing(x.shape[2], sizes[0]), x.dtype), y)  # [n, c, h', w']
    return layout.back(g, y)


def _need_sizes(function: str, x: Variable) -> None:
    if -1 in x.shape[2:]:
        raise ArgumentError(
            f"{function} needs known spatial dims, or output_size 1",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="give the sizes in static.data",
        )


def _cells(size: int, count: int) -> list[range]:
    """The elements of each cell."""
    return [range(k * size // count, -(-(k + 1) * size // count)) for k in range(count)]


def _mixing(size: int, count: int) -> np.ndarray:
    """The matrix of means: [count, size]."""
    matrix = np.zeros((count, size))
    for row, cell in zip(matrix, _cells(size, count), strict=True):
        row[cell.start : cell.stop] = 1 / len(cell)
    return matrix


@overload
def adaptive_max_pool1d(
    x: TensorLike, output_size: int, return_mask: Literal[False] = False,
    name: str | None = None,
) -> Variable: ...  # fmt: skip


@overload
def adaptive_max_pool1d(
    x: TensorLike, output_size: int, return_mask: Literal[True], name: str | None = None
) -> tuple[Variable, Variable]: ...


def adaptive_max_pool1d(
    x: TensorLike, output_size: int, return_mask: bool = False, name: str | None = None
) -> Variable | tuple[Variable, Variable]:
    """Maxima over ``output_size`` nearly equal cells of each sequence.

    x: [n, c, l]   result: [n, c, output_size]. With ``return_mask`` the result is a pair: the
    maxima, and the index along l where each of them is, i64[n, c, output_size]. The errors are
    those of ``adaptive_max_pool2d``.
    """
    return _maxima("adaptive_max_pool1d", 1, x, output_size, return_mask, name)


@overload
def adaptive_max_pool2d(
    x: TensorLike, output_size: IntOrInts, return_mask: Literal[False] = False,
    name: str | None = None,
) -> Variable: ...  # fmt: skip


@overload
def adaptive_max_pool2d(
    x: TensorLike, output_size: IntOrInts, return_mask: Literal[True], name: str | None = None
) -> tuple[Variable, Variable]: ...


def adaptive_max_pool2d(
    x: TensorLike, output_size: IntOrInts, return_mask: bool = False, name: str | None = None
) -> Variable | tuple[Variable, Variable]:
    """Maxima over nearly equal cells of each image        x: [n, c, h, w]   result: [n, c, h', w'].

    ``output_size`` is h' and w', or one int for both. With ``return_mask`` the result is a pair:
    the maxima, and where in its image each of them is, as row times w plus column,
    i64[n, c, h', w'].

    >>> adaptive_max_pool2d(image, 4), adaptive_max_pool2d(image, 3)
    (<Variable maxpool_0 : f32[N, 3, 4, 4]>, <Variable squeeze_0 : f32[N, 3, 3, 3]>)

    Raises:
        ArgumentError: x has another number of dims, h or w is not known though it has to be (but
            for maxima over whole images), or ``output_size`` has none of its forms.
    """
    return _maxima("adaptive_max_pool2d", 2, x, output_size, return_mask, name)


def _maxima(
    function: str, n: int, x: TensorLike, output_size: IntOrInts, return_mask: bool,
    name: str | None,
) -> Variable | tuple[Variable, Variable]:  # fmt: skip
    g = recorder(x)
    x = as_variable(g, x)
    Layout.of(function, x, n, CHANNELS_FIRST[n])
    sizes = spatial(function, "output_size", output_size, n)
    if sizes == [1] * n and not return_mask:
        return named(g.GlobalMaxPool(x), name)
    _need_sizes(function, x)
    even = not any(d % s for d, s in zip(x.shape[2:], sizes, strict=True))
    if even and not return_mask:
        kernel = [d // s for d, s in zip(x.shape[2:], sizes, strict=True)]
        return named(g.MaxPool(x, kernel_shape=kernel, strides=kernel), name)
    y, mask = _maxima_of_cells(g, x, sizes)
    return (named(y, name), mask) if return_mask else named(y, name)


def _maxima_of_cells(g: Tape, x: Variable, sizes: list[int]) -> tuple[Variable, Variable]:
    """Maxima, the first of equals in each cell, and where in the image they are."""
    places = _places(x.shape[2:], sizes)  # [*sizes, longest cell]
    image = g.reshape(x, 0, 0, math.prod(x.shape[2:]))  # [n, c, h w]
    cells = g.Gather(image, places, axis=2)  # [n, c, *sizes, longest cell]
    best = g.ArgMax(cells, axis=-1, keepdims=1)
    y = g.Squeeze(g.GatherElements(cells, best, axis=-1), [-1])
    everywhere = g.Expand(g.const(places), g.Shape(cells))
    return y, g.Squeeze(g.GatherElements(everywhere, best, axis=-1), [-1])


def _places(image: tuple[int, ...], sizes: list[int]) -> np.ndarray:
    """The elements of each cell in a flattened image, the last one again in short cells."""
    found = np.arange(math.prod(image)).reshape(image)
    for axis, (size, count) in enumerate(zip(image, sizes, strict=True)):
        cells = _cells(size, count)
        longest = max(len(cell) for cell in cells)
        index = [[cell[min(k, len(cell) - 1)] for k in range(longest)] for cell in cells]
        found = np.moveaxis(np.take(found, index, axis=axis), axis + 1, -1)
    return found.reshape(*sizes, -1)
