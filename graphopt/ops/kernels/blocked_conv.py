"""Convolutions, and their two gradients, on blocks of channels. Measured: docs/performance.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ops.kernels.blocked import LANES, Blocks
from graphopt.ops.kernels.conv_sizes import (
    Sizes,
    filled,
    left_cost,
    moved_cost,
    read_cost,
    sizes,
    skips,
    sure,
)
from graphopt.ops.registry.formulations import AS_IS, Machine, formulation
from graphopt.ops.registry.prices import (
    BLOCKED,
    COLUMNS,
    IMAGE,
    MOVED,
    OP,
    PLAIN,
    SCATTERED,
    TURNED,
)

# --- forward: Y = X * W + B


def _takes_blocks(op: Operator, machine: Machine) -> bool:
    """Whether the op's input can be read: in blocks, or plain where it has less than one."""
    s = sizes(op) if machine.block else None
    return s is not None and _readable(s.c, machine)


def _readable(channels: int, machine: Machine) -> bool:
    return channels < machine.block or channels % LANES == 0


def _plain_cost(op: Operator, machine: Machine) -> float:
    s = sizes(op)
    if s is None:
        return 0.0
    columns = 0 if s.k == s.stride == (1, 1) else s.columns
    return OP + s.products * PLAIN + columns * COLUMNS + left_cost(s, machine)


def _blocked_cost(op: Operator, machine: Machine) -> float:
    s = sure(op)
    m = filled(s.m, machine)
    c = s.c if s.c < machine.block else filled(s.c, machine)
    read = math.prod(s.o if skips(s, machine.block) else s.i)
    moved = read_cost(s.c, s.n * read, machine) + moved_cost(s.m, s.n * math.prod(s.o), machine)
    filters = m * c * math.prod(s.k)
    products = s.n * math.prod(s.o) * filters
    return 6 * OP + products * BLOCKED + moved + 2 * filters * MOVED


AS_IS["Conv"] = _plain_cost


@formulation("Conv", when=_takes_blocks, cost=_blocked_cost)
def blocked_conv(g: Tape, op: Operator, machine: Machine) -> Variable:
    """Y = X * W + B        X: [n, c, *i]   W: [m, c, *k]   B: [m]   Y: [n, m, *o]."""
    s, b = sure(op), Blocks(g, machine.block)
    X, W, B = op.operand("X"), op.operand("W"), op.maybe("B")
    filters = _filters(b, W)
    bias = [] if B is None else [_padded(g, B, 0, b.filled(s.m))]
    x, s = _thinned(b, X if s.c < b.size else b.reorder(X), s)
    Y = b.conv(
        x, filters, *bias,
        strides=[*s.stride], dilations=[*s.dilation], pads=[*s.head, *s.tail],
    )  # fmt: skip
    return b.restore(Y, s.m)


def _thinned(b: Blocks, x: Variable, s: Sizes) -> tuple[Variable, Sizes]:
    """What filters of one number read of x in blocks, if they leave some out; sizes to match."""
    if not skips(s, b.size):
        return x, s
    blocks, (height, width) = s.c // b.size, s.i
    order = np.arange(blocks * height * width).reshape(blocks, height, width)
    read = order[:, :: s.stride[0], :: s.stride[1]]
    taken = b.g.Gather(b.g.reshape(x, s.n, -1, b.size), read.reshape(-1), axis=1)
    return b.g.reshape(taken, s.n, s.c, *s.o), replace(s, i=s.o, stride=(1, 1))


def _filters(b: Blocks, W: Variable) -> Variable:
    """W [m, c, h, w] as [m / b, c / b, h, w, b of c, b of m], or [m / b, c, h, w, b of m].

    A reordering is many times as quick as a Transpose.
    """
    g, (m, c, height, width) = b.g, W.shape
    if c >= b.size:
        W = b.reorder(g.reshape(W, m, c, height * width, 1))  # [m, c / b, h w, b of c]
        c = W.shape[1]
    W = _padded(g, W, 0, -(-m // LANES) * LANES)
    W = b.reorder(g.reshape(W, 1, W.shape[0], c * height * width, 1))
    return g.reshape(W, b.filled(m), c, height, width)


def _padded(g: Tape, x: Variable, axis: int, length: int) -> Variable:
    """Zeros behind x along one axis."""
    if x.shape[axis] == length:
        return x
    y: Variable = g.Pad(x, [0, length - x.shape[axis]], None, [axis])
    return y


# --- dX: each phase of a stride is a convolution of its own; their filters are taken together


@dataclass(frozen=True)
class Phases:
    """One spatial dim of dX. dX[stride u + q] = sum over a of dY[u + a - head] W[taps[q][a]].

    ``taps`` are positions in the kernel, its length where there is none; u is below ``count``.
    ``live`` are the phases q that have any: the others are zeros.
    """

    live: tuple[int, ...]
    taps: tuple[tuple[int, ...], ...]
    head: int
    tail: int
    count: int


def phases(length: int, count: int, kernel: int, stride: int, dilation: int, pad: int) -> Phases:
    """The phases of a dim of this length, which ``count`` windows read.

    >>> phases(8, 4, kernel=3, stride=2, dilation=1, pad=1)
    Phases(live=(0, 1), taps=((1, 3), (2, 0)), head=0, tail=1, count=4)
    """
    steps = [
        {(q + pad - k * dilation) // stride: k for k in range(kernel)
         if (q + pad - k * dilation) % stride == 0}
        for q in range(stride)
    ]  # fmt: skip
    every = [step for found in steps for step in found] or [0]
    low, high = min(0, *every), max(every)
    live = tuple(q for q, found in enumerate(steps) if found)
    taps = tuple(tuple(found.get(a, kernel) for a in range(low, high + 1)) for found in steps)
    tail = max(0, -(-length // stride) - 1 + high - (count - 1))
    return Phases(live, taps, -low, tail, count - low + tail - (high - low))


def _both(s: Sizes) -> list[Phases]:
    return [phases(s.i[k], s.o[k], s.k[k], s.stride[k], s.dilation[k], s.head[k]) for k in range(2)]


def _transposed_cost(op: Operator, machine: Machine) -> float:
    s = sizes(op)
    if s is None:
        return 0.0
    return s.n * IMAGE + s.products * PLAIN + s.columns * SCATTERED + left_cost(s, machine)


def _takes_gradient(op: Operator, machine: Machine) -> bool:
    s = sizes(op) if machine.block else None
    return s is not None and _readable(s.m, machine)


def _phases_cost(op: Operator, machine: Machine) -> float:
    s = sure(op)
    parts, c = _both(s), filled(s.c, machine)
    m = s.m if s.m < machine.block else filled(s.m, machine)
    filters = c * m * math.prod(len(p.live) * len(p.taps[0]) for p in parts)
    products = s.n * filters * math.prod(p.count for p in parts)
    results = s.n * c * math.prod(s.i) if math.prod(s.stride) > 1 else 0
    moved = moved_cost(s.c, s.n * math.prod(s.i), machine)
    moved += read_cost(s.m, s.n * math.prod(s.o), machine)
    return 8 * OP + products * BLOCKED + moved + (2 * results + 3 * filters) * MOVED


AS_IS["ConvInputGradient"] = _transposed_cost


@formulation("ConvInputGradient", when=_takes_gradient, cost=_phases_cost)
def blocked_phases(g: Tape, op: Operator, machine: Machine) -> Variable:
    """dX: a convolution of dY per phase of the strides        dY: [n, m, *o]   dX: [n, c, *i]."""
    s, b = sure(op), Blocks(g, machine.block)
    dY, parts = op.operand("dY"), _both(s)
    h, w = parts
    made = b.conv(
        dY if s.m < b.size else b.reorder(dY), _phase_filters(b, op.operand("W"), parts),
        pads=[h.head, w.head, h.tail, w.tail],
    )  # fmt: skip
    dX = b.restore(_interleaved(b, made, s, parts), s.c)
    if dX.shape[2:] == s.i:
        return dX
    cut: Variable = g.Slice(dX, [0, 0], [*s.i], [2, 3])
    return cut


def _phase_filters(b: Blocks, W: Variable, parts: Sequence[Phases]) -> Variable:
    """Filters from m to (phases, c) channels, in blocks."""
    g, size = b.g, b.size
    (m, c, height, width), (h, w) = W.shape, parts
    area, number = height * width, len(h.live) * len(w.live)
    index = [
        k * width + j if k < height and j < width else area
        for p in h.live for q in w.live for k in h.taps[p] for j in w.taps[q]
    ]  # fmt: skip
    if m >= size:
        W = b.reorder(g.reshape(W, 1, m, c * area, 1))  # [m / b, c, area, b]
    flat = g.reshape(W, -1, c, area, size if m >= size else 1)
    flat = _padded(g, flat, 2, area + (area in index))  # none of them is 0
    taken = g.Gather(flat, np.array(index), axis=2)  # [m / b, c, phases taps, b]
    taken = b.reorder(_padded(g, taken, 1, -(-c // LANES) * LANES))  # and b of c behind
    m, c = m if m < size else b.filled(m), b.filled(c)
    split = g.reshape(taken, m // size if m >= size else m, c // size, number, -1)
    split = g.Transpose(split, perm=[2, 1, 0, 3])  # phases, c / b, m / b, the rest of a block
    return g.reshape(split, number * c, m, len(h.taps[0]), len(w.taps[0]))


def _interleaved(b: Blocks, x: Variable, s: Sizes, parts: Sequence[Phases]) -> Variable:
    """[n, (live phases, c), *u] in blocks as [n, c, *(u, phase)] in blocks."""
    rows, cols = (len(p.taps) for p in parts)
    if rows == cols == 1:
        return x
    g, (_, channels, height, width) = b.g, x.shape
    h, w = (p.live for p in parts)
    c, zero = channels // (len(h) * len(w)), channels // b.size * height * width
    order = np.full((rows, cols, c // b.size, height, width), zero)
    order[np.ix_(h, w)] = np.arange(zero).reshape(len(h), len(w), *order.shape[2:])
    index = order.transpose(2, 3, 0, 4, 1).reshape(-1)
    split = g.reshape(x, s.n, zero, b.size)
    if len(h) * len(w) < rows * cols:
        split = g.Concat(split, np.zeros((s.n, 1, b.size), np.float32), axis=1)
    taken = g.Gather(split, index, axis=1)  # by all threads, where a Transpose takes one
    return g.reshape(taken, s.n, c, height * rows, width * cols)


# --- dW: X slides under dY, the batch being the channels that are summed


def _columns_cost(op: Operator, machine: Machine) -> float:
    s = sizes(op)
    if s is None:
        return 0.0
    turned = s.n * (s.c * math.prod(s.i) + s.m * math.prod(s.o))
    laid = s.columns * 3 * COLUMNS + turned * TURNED
    return 4 * OP + s.products * PLAIN + laid + left_cost(s, machine)


def _slides(op: Operator, machine: Machine) -> bool:
    s = sizes(op) if machine.block else None
    return s is not None and s.n % LANES == 0 and s.dilation == (1, 1)


def _sliding_cost(op: Operator, machine: Machine) -> float:
    s = sure(op)
    if skips(s, machine.block):
        s = replace(s, i=s.o)
    n, m = filled(s.n, machine), filled(s.m, machine)
    products = n * m * s.c * math.prod(s.o) * math.prod(s.k)
    wide = math.prod(max(i, o) + k for i, o, k in zip(s.i, s.o, s.k, strict=True))
    padded = any((*s.head, *s.tail))
    moved = n * ((2 + padded) * s.c * wide + 2 * m * math.prod(s.o))
    summed = n // machine.block * m * s.c * math.prod(s.k)
    return 12 * OP + products * BLOCKED + (moved + 4 * summed) * MOVED


AS_IS["ConvFilterGradient"] = _columns_cost


@formulation("ConvFilterGradient", when=_slides, cost=_sliding_cost)
def blocked_sliding(g: Tape, op: Operator, machine: Machine) -> Variable:
    """dW = X slid under dY as the filters, n being summed: two reorderings put n into blocks.

    The channels of X lie side by side in its rows: one position to the right is the next channel,
    c positions are the next column.
    """
    s, b = sure(op), Blocks(g, machine.block)
    side = b.size if s.c % b.size == 0 else s.c
    x = op.operand("X")
    if side == b.size:
        x, s = _thinned(b, b.reorder(x), s)
    slid = b.conv(
        _rows(b, x, s, side), _windows(b, op.operand("dY"), s),
        dilations=[s.stride[0], s.stride[1] * side], group=b.filled(s.n) // b.size,
    )  # fmt: skip
    return _collected(b, slid, s, side)


def _rows(b: Blocks, X: Variable, s: Sizes, side: int) -> Variable:
    """X, in blocks of ``side``, with its padding as [c / side, n / b, h, (w, side), b of n]."""
    g, (height, width) = b.g, s.i
    outer, n = s.c // side, b.filled(s.n)
    if side in (1, b.size):
        x = b.reorder(g.reshape(X, 1, s.n, outer * height, width * side))
    else:
        x = b.reorder(g.reshape(X, 1, s.n, s.c * height, width))  # [n / b, c, h, w, b]
        x = g.Transpose(g.reshape(x, -1, s.c, height * width, b.size), perm=[0, 2, 1, 3])
    if outer > 1 and n > b.size:
        split = g.reshape(x, n // b.size, outer, -1)
        x = g.Transpose(split, perm=[1, 0, 2])
    x = g.reshape(x, outer, n, height, width * side)
    tail = [max(0, (s.o[k] - 1) * s.stride[k] + s.k[k] - s.i[k] - s.head[k]) for k in range(2)]
    return b.surrounded(x, [s.head[0], s.head[1] * side, tail[0], tail[1] * side])


def _windows(b: Blocks, dY: Variable, s: Sizes) -> Variable:
    """dY as filters: [n / b, m / b, *o, b of n, b of m]."""
    g, (height, width) = b.g, s.o
    if s.m % b.size == 0 and s.n % b.size == 0:
        y = b.exchanged(b.reorder(dY), b.size, s.m // b.size * height * width)
        return g.reshape(y, s.n // b.size * s.m, b.size, height, width)
    m = -(-s.m // LANES) * LANES
    if m > s.m:  # a Concat is quicker than a Pad
        zeros = g.const(np.zeros((s.n, m - s.m, height, width), np.float32))
        dY = g.Concat(dY, zeros, axis=1)
    groups = b.filled(s.n) // b.size
    y = b.reorder(g.reshape(dY, 1, s.n, m * height, width))
    y = b.reorder(g.reshape(y, groups, m, height * width, b.size))
    return g.reshape(y, groups * b.filled(m), b.size, height, width)


def _collected(b: Blocks, x: Variable, s: Sizes, side: int) -> Variable:
    """dW from [c / side, n / b, m / b, h, (w, side), b of m]."""
    g, m, outer = b.g, b.filled(s.m), s.c // side
    height, width = x.shape[2], x.shape[3] // side
    total = g.reshape(x, outer, -1, m, height * width * side)
    if total.shape[1] > 1:
        total = g.ReduceSum(total, [1], keepdims=0)
    dW = b.restore(g.reshape(total, outer, m, height * width, side), m)  # [c / side, m, h, w, side]
    if side == b.size:
        dW = b.restore(g.reshape(dW, outer * m, side, height, width), side)
    elif side > 1:
        dW = g.Transpose(g.reshape(dW, outer * m, height * width, side), perm=[0, 2, 1])
    if outer > 1:
        dW = g.Transpose(g.reshape(dW, outer, m, -1), perm=[1, 0, 2])
    dW = g.reshape(dW, m, s.c, height, width)
    if dW.shape == (s.m, s.c, *s.k):
        return dW
    cut: Variable = g.Slice(dW, [0, 0, 0], [s.m, *s.k], [0, 2, 3])
    return cut
