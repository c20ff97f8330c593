"""Convolutions, and their two gradients, on blocks of channels. Measured: docs/performance.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.ir.operator import Operator
from graphopt.ir.tape import Tape
from graphopt.ir.variable import Variable
from graphopt.ops.blocked import LANES, Blocks
from graphopt.ops.formulations import AS_IS, Machine, formulation
from graphopt.ops.prices import BLOCKED, COLUMNS, IMAGE, MOVED, OP, PLAIN, SCATTERED

F32 = np.dtype("f4")


@dataclass(frozen=True)
class Sizes:
    """A convolution of two spatial dims: X [n, c, *i], W [m, c, *k], Y [n, m, *o]."""

    n: int
    c: int
    m: int
    i: tuple[int, int]
    k: tuple[int, int]
    o: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    head: tuple[int, int]
    tail: tuple[int, int]

    @property
    def products(self) -> int:
        """Multiplications."""
        return self.columns * self.m

    @property
    def columns(self) -> int:
        """The elements of all windows, laid out."""
        return self.n * self.c * math.prod(self.k) * math.prod(self.o)


def sizes(op: Operator) -> Sizes | None:
    """The sizes of a Conv or of a gradient of one; None for what has no formulation here."""
    X, W = op.operand("X"), op.operand("W")
    Y = next(op.writes()) if op.type == "Conv" else op.operand("dY")
    rank = X.ndim - 2
    auto = op.attrs.get("auto_pad", "NOTSET")
    if rank != 2 or op.attrs["group"] != 1 or X.dtype != F32 or auto not in ("NOTSET", "VALID"):
        return None
    if 0 in (*X.shape, *W.shape, *Y.shape):
        return None
    ones, none = [1] * rank, [0] * 2 * rank
    pads = (op.attrs.get("pads") if auto == "NOTSET" else None) or none
    return Sizes(
        n=X.shape[0], c=X.shape[1], m=W.shape[0],
        i=_pair(X.shape[2:]), k=_pair(W.shape[2:]), o=_pair(Y.shape[2:]),
        stride=_pair(op.attrs.get("strides") or ones),
        dilation=_pair(op.attrs.get("dilations") or ones),
        head=_pair(pads[:rank]), tail=_pair(pads[rank:]),
    )  # fmt: skip


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]


def _sure(op: Operator) -> Sizes:
    found = sizes(op)
    assert found is not None
    return found


def _filled(channels: int, machine: Machine) -> int:
    return -(-channels // machine.block) * machine.block


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
    return OP + s.products * PLAIN + columns * COLUMNS


def _blocked_cost(op: Operator, machine: Machine) -> float:
    s = _sure(op)
    m = _filled(s.m, machine)
    c = s.c if s.c < machine.block else _filled(s.c, machine)
    moved = m * math.prod(s.o) + (c * math.prod(s.i) if s.c >= machine.block else 0)
    filters = m * c * math.prod(s.k)
    products = s.n * math.prod(s.o) * filters
    return 6 * OP + products * BLOCKED + (s.n * moved + 2 * filters) * MOVED


AS_IS["Conv"] = _plain_cost


@formulation("Conv", when=_takes_blocks, cost=_blocked_cost)
def blocked_conv(g: Tape, op: Operator, machine: Machine) -> Variable:
    """Y = X * W + B        X: [n, c, *i]   W: [m, c, *k]   B: [m]   Y: [n, m, *o]."""
    s, b = _sure(op), Blocks(g, machine.block)
    X, W, B = op.operand("X"), op.operand("W"), op.maybe("B")
    filters = _filters(b, W)
    bias = [] if B is None else [_padded(g, B, 0, b.filled(s.m))]
    Y = b.conv(
        X if s.c < b.size else b.reorder(X), filters, *bias,
        strides=[*s.stride], dilations=[*s.dilation], pads=[*s.head, *s.tail],
    )  # fmt: skip
    return b.restore(Y, s.m)


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
    """

    taps: tuple[tuple[int, ...], ...]
    head: int
    tail: int
    count: int


def phases(length: int, count: int, kernel: int, stride: int, dilation: int, pad: int) -> Phases:
    """The phases of a dim of this length, which ``count`` windows read.

    >>> phases(8, 4, kernel=3, stride=2, dilation=1, pad=1)
    Phases(taps=((1, 3), (2, 0)), head=0, tail=1, count=4)
    """
    steps = [
        {(q + pad - k * dilation) // stride: k for k in range(kernel)
         if (q + pad - k * dilation) % stride == 0}
        for q in range(stride)
    ]  # fmt: skip
    every = [step for found in steps for step in found] or [0]
    low, high = min(0, *every), max(every)
    taps = tuple(tuple(found.get(a, kernel) for a in range(low, high + 1)) for found in steps)
    tail = max(0, -(-length // stride) - 1 + high - (count - 1))
    return Phases(taps, -low, tail, count - low + tail - (high - low))


def _both(s: Sizes) -> list[Phases]:
    return [phases(s.i[k], s.o[k], s.k[k], s.stride[k], s.dilation[k], s.head[k]) for k in range(2)]


def _transposed_cost(op: Operator, machine: Machine) -> float:
    s = sizes(op)
    return 0.0 if s is None else s.n * IMAGE + s.products * PLAIN + s.columns * SCATTERED


def _takes_gradient(op: Operator, machine: Machine) -> bool:
    s = sizes(op) if machine.block else None
    return s is not None and _readable(s.m, machine)


def _phases_cost(op: Operator, machine: Machine) -> float:
    s = _sure(op)
    parts, c = _both(s), _filled(s.c, machine)
    m = s.m if s.m < machine.block else _filled(s.m, machine)
    filters = c * m * math.prod(len(p.taps) * len(p.taps[0]) for p in parts)
    results = c * math.prod(len(p.taps) * p.count for p in parts)
    products = s.n * filters * math.prod(p.count for p in parts)
    passes = 3 if math.prod(s.stride) > 1 else 1
    moved = s.n * (m * math.prod(s.o) + passes * results) + 3 * filters
    return 8 * OP + products * BLOCKED + moved * MOVED


AS_IS["ConvInputGradient"] = _transposed_cost


@formulation("ConvInputGradient", when=_takes_gradient, cost=_phases_cost)
def blocked_phases(g: Tape, op: Operator, machine: Machine) -> Variable:
    """dX: a convolution of dY per phase of the strides        dY: [n, m, *o]   dX: [n, c, *i]."""
    s, b = _sure(op), Blocks(g, machine.block)
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
    area, number = height * width, len(h.taps) * len(w.taps)
    index = [
        k * width + j if k < height and j < width else area
        for p in h.taps for q in w.taps for k in p for j in q
    ]  # fmt: skip
    flat = _padded(g, g.reshape(W, 0, 0, area), 2, area + (area in index))  # none of them is 0
    taken = g.Gather(flat, np.array(index), axis=2)  # [m, c, phases taps]
    if m >= size:
        taken = b.reorder(g.reshape(taken, 1, m, c * len(index), 1))  # [m / b, c, phases taps, b]
    taken = g.reshape(taken, -1, c, len(index), size if m >= size else 1)
    taken = b.reorder(_padded(g, taken, 1, -(-c // LANES) * LANES))  # and b of c behind
    m, c = m if m < size else b.filled(m), b.filled(c)
    split = g.reshape(taken, m // size if m >= size else m, c // size, number, -1)
    split = g.Transpose(split, perm=[2, 1, 0, 3])  # phases, c / b, m / b, the rest of a block
    return g.reshape(split, number * c, m, len(h.taps[0]), len(w.taps[0]))


def _interleaved(b: Blocks, x: Variable, s: Sizes, parts: Sequence[Phases]) -> Variable:
    """[n, (phases, c), *u] in blocks as [n, c, *(u, phase)] in blocks."""
    rows, cols = (len(p.taps) for p in parts)
    if rows == cols == 1:
        return x
    g, (_, channels, height, width) = b.g, x.shape
    c = channels // (rows * cols)
    split = g.reshape(x, s.n, rows, cols, c // b.size, height, width, b.size)
    split = g.Transpose(split, perm=[0, 3, 4, 1, 5, 2, 6])
    return g.reshape(split, s.n, c, height * rows, width * cols)


# --- dW: X slides under dY, the batch being the channels that are summed


def _columns_cost(op: Operator, machine: Machine) -> float:
    s = sizes(op)
    return 0.0 if s is None else 4 * OP + s.products * PLAIN + s.columns * 3 * COLUMNS


def _slides(op: Operator, machine: Machine) -> bool:
    s = sizes(op) if machine.block else None
    return s is not None and s.n % LANES == 0 and s.dilation == (1, 1)


def _sliding_cost(op: Operator, machine: Machine) -> float:
    s = _sure(op)
    n, m = _filled(s.n, machine), _filled(s.m, machine)
    products = n * m * s.c * math.prod(s.o) * math.prod(s.k)
    wide = math.prod(max(i, o) + k for i, o, k in zip(s.i, s.o, s.k, strict=True))
    moved = n * (4 * s.c * wide + 2 * m * math.prod(s.o))
    summed = n // machine.block * m * s.c * math.prod(s.k)
    return 12 * OP + products * BLOCKED + (moved + 4 * summed) * MOVED


AS_IS["ConvFilterGradient"] = _columns_cost


@formulation("ConvFilterGradient", when=_slides, cost=_sliding_cost)
def blocked_sliding(g: Tape, op: Operator, machine: Machine) -> Variable:
    """dW = X slid under dY as the filters, n being summed: two reorderings put n into blocks.

    The channels of X lie side by side in its rows: one position to the right is the next channel,
    c positions are the next column.
    """
    s, b = _sure(op), Blocks(g, machine.block)
    side = b.size if s.c % b.size == 0 else s.c
    slid = b.conv(
        _rows(b, op.operand("X"), s, side), _windows(b, op.operand("dY"), s),
        dilations=[s.stride[0], s.stride[1] * side], group=b.filled(s.n) // b.size,
    )  # fmt: skip
    return _collected(b, slid, s, side)


def _rows(b: Blocks, X: Variable, s: Sizes, side: int) -> Variable:
    """X with its padding as [c / side, n / b, h, (w, side), b of n]."""
    g, (height, width) = b.g, s.i
    if side == b.size:
        inner = b.reorder(X)  # [n, c / side, h, w, side]
    else:
        inner = X if side == 1 else g.Transpose(X, perm=[0, 2, 3, 1])
    outer, n = s.c // side, b.filled(s.n)
    x = b.reorder(g.reshape(inner, 1, s.n, outer * height, width * side))
    if outer > 1 and n > b.size:
        split = g.reshape(x, n // b.size, outer, -1)
        x = g.Transpose(split, perm=[1, 0, 2])
    x = g.reshape(x, outer, n, height, width * side)
    tail = [max(0, (s.o[k] - 1) * s.stride[k] + s.k[k] - s.i[k] - s.head[k]) for k in range(2)]
    return b.surrounded(x, [s.head[0], s.head[1] * side, tail[0], tail[1] * side])


def _windows(b: Blocks, dY: Variable, s: Sizes) -> Variable:
    """dY as filters: [n / b, m / b, *o, b of n, b of m]."""
    g, (height, width) = b.g, s.o
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
    split = g.reshape(x, outer, -1, m // b.size, height, width, side, b.size)
    total = g.ReduceSum(split, [1], keepdims=0)
    dW = g.reshape(g.Transpose(total, perm=[1, 5, 0, 4, 2, 3]), m, s.c, height, width)
    if dW.shape == (s.m, s.c, *s.k):
        return dW
    cut: Variable = g.Slice(dW, [0, 0, 0], [s.m, *s.k], [0, 2, 3])
    return cut
