"""The gradient of a MaxPool whose windows lie side by side, and its formulation by products."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ops.registry.cases import case
from graphopt.ops.registry.formulations import AS_IS, Machine, formulation
from graphopt.ops.registry.prices import INDEXED, OP, PASS, PLAIN
from graphopt.ops.registry.registry import formula

FLOAT_MAX = float(np.finfo(np.float32).max)


@formula(
    "MaxPoolGradient",
    like="X",
    cases=[
        case(dY=(1, 2, 2, 2), X=(1, 2, 4, 6), Y=(1, 2, 2, 2), attrs={"kernel_shape": [2, 3]},
             Indices=np.array([[[[7, 4], [12, 23]], [[25, 28], [37, 47]]]])),
    ],
)  # fmt: skip
def max_pool_gradient(
    g: Tape, dY: Variable, X: Variable, Y: Variable, Indices: Variable, *, kernel_shape: list[int]
) -> Variable:
    """dX = dY at the position of each maximum, else 0.

    X: [n, c, *i]   Y, dY: [n, c, *o]   Indices: i64[n, c, *o] in X, read row by row
    """
    zeros, where = g.zeros_like(g.reshape(X, -1)), g.reshape(Indices, -1, 1)
    return g.reshape_like(g.ScatterND(zeros, where, g.reshape(dY, -1)), X)


def _is_tiled(op: Operator, machine: Machine) -> bool:
    """Whether two-dimensional windows cover X whole."""
    X, Y, kernel = op.operand("X"), op.operand("Y"), op.attrs["kernel_shape"]
    if len(kernel) != 2 or X.dtype != np.float32 or 0 in X.shape:
        return False
    return all(i == o * k for i, o, k in zip(X.shape[2:], Y.shape[2:], kernel, strict=True))


def _indexed_cost(op: Operator, machine: Machine) -> float:
    return OP + math.prod(op.operand("X").shape) * INDEXED


def _products_cost(op: Operator, machine: Machine) -> float:
    X, height = op.operand("X"), op.attrs["kernel_shape"][0]
    size, width = math.prod(X.shape), height * X.shape[3]
    per_element: float = 6 * PASS + (width + 2 * X.shape[3]) * PLAIN
    return 12 * OP + size * per_element


AS_IS["MaxPoolGradient"] = _indexed_cost


@formulation("MaxPoolGradient", when=_is_tiled, cost=_products_cost)
def by_products(g: Tape, op: Operator, machine: Machine) -> Variable:
    """dX = dY where X equals Y first in its window. Y and dY are spread over X by products.

    The positions of the maxima, which are slow to find, are not needed then. A window that holds
    both inf and the largest float may take either for its maximum; an infinite dY gives NaN.
    """
    X, Y, dY = op.operand("X"), op.operand("Y"), op.operand("dY")
    spread, first = tables(op.attrs["kernel_shape"], X.shape[3])
    over = g.const(spread)
    rows = g.reshape(g.Clip(X, -FLOAT_MAX, FLOAT_MAX), -1, spread.shape[1])  # [n c o, k w]
    maxima = g.reshape(g.Clip(Y, -FLOAT_MAX, FLOAT_MAX), -1, spread.shape[0])  # [n c o, o]
    equal = g.cast(g.GreaterOrEqual(rows, g.MatMul(maxima, over)), X.dtype)
    chosen = g.Relu(g.MatMul(equal, g.const(first)))  # [n c o, k w], 1 at the first maximum
    dX = g.Mul(chosen, g.MatMul(g.reshape(dY, -1, spread.shape[0]), over))
    return g.reshape_like(dX, X)


def tables(kernel: list[int], width: int) -> tuple[np.ndarray, np.ndarray]:
    """For the rows that a row of windows reads: what spreads a number, and what finds the first.

    Spread is 1 from each window to its elements. First is 1 from each element to itself, -1 to
    those behind it in its window: the sum of equal elements is 1 at the first of them only.

    >>> spread, first = tables([1, 2], 4)
    >>> spread.astype(int).tolist()
    [[1, 1, 0, 0], [0, 0, 1, 1]]
    >>> first.astype(int).tolist()
    [[1, -1, 0, 0], [0, 1, 0, 0], [0, 0, 1, -1], [0, 0, 0, 1]]
    """
    window = np.tile(np.arange(width) // kernel[1], kernel[0])  # of each element, row by row
    spread = np.arange(width // kernel[1])[:, None] == window
    behind = np.triu(window[:, None] == window, 1)
    return spread.astype(np.float32), np.eye(len(window), dtype=np.float32) - behind
