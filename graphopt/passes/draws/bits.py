"""Uniform bits of a key, a step and the index of each element, by integer ops.

onnxruntime's random kernels keep a generator that no checkpoint holds. Here element (i, j) of a
draw, laid out as a matrix, is x t mod 2^32 with x = m a(i) + b(j) and t = m' a'(i) + b'(j): the
a and b are hashes of the index, the odd keys m and m' hash the op's seed and the step. Three
passes over memory, of ops that every provider has: CUDA has neither BitShift nor BitwiseXor.
Integers are exact, so all devices draw the same bits. High bits are better than low ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import shake_256
from typing import TypeAlias

import numpy as np

from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import Shape, TensorType

WORD, LONG = np.dtype("u4"), np.dtype("u8")
BAKED = 1024  # hashes of at most so many indices are constants of the Program
GUESS = 64  # what a dim that is not known counts when a matrix is to be near square
ROUNDS = 2
SPREAD, START = (0x9E3779B1, 0x85EBCA77), (0x27D4EB2F, 0xC2B2AE3D)
NUMPY = {"Add": np.add, "Mul": np.multiply, "Div": np.floor_divide}
Number: TypeAlias = Variable | np.ndarray
Keys: TypeAlias = Iterator[Number]


class Bits:
    """Draws bits onto the tape ``g``; hashes of indices are recorded once."""

    def __init__(self, step: Step, counter: str) -> None:
        self.program = step
        self.counter = counter
        self.g = Tape(step.global_block(), made_by="streams")
        self.hashed: dict[tuple[Extent, int], Number] = {}

    def combine(self, type: str, a: Number, b: Number | int) -> Number:
        """See ``combine``."""
        return combine(self.g, type, a, b)

    def keys(self, step: Number, streams: Sequence[str]) -> Keys:
        """Two odd numbers for every stream, another two in every step        each: u32[2, 1, 1]."""
        if not streams:
            return iter(())
        factors = np.stack([_odd_factors(name) for name in streams], axis=1)  # [2, n, 1]
        high = self.combine("Div", self.combine("Mul", step, factors), 2**33)
        keys = self.combine("Add", self.combine("Mul", self._cast(high, WORD), 2), 1)
        return iter(self._split(keys, 1))

    def step(self) -> Number:
        """A hash of the step        result: u64[1, 1, 1]."""
        z: Number = np.frombuffer(shake_256(b"startup").digest(8), "<u8").reshape(1, 1, 1)
        if self.counter:
            z = self._spread(self._counter())
        return self._mixed(z, 0xBF58476D1CE4E5B9, 2**32)

    def iteration(self, step: Number, i: Variable) -> Number:
        """A hash of the step and the number of the iteration        i: i64[]."""
        return self._mixed(self.combine("Add", self._spread(i), step), 0x94D049BB133111EB, 2**32)

    def _spread(self, number: Variable) -> Number:
        """A number as one that has high bits too        number: i64[]   result: u64[1, 1, 1]."""
        z: Number = self.g.Reshape(self._cast(number, LONG), [1, 1, 1])
        z = self.combine("Mul", z, 0x9E3779B97F4A7C15)
        return self.combine("Add", z, 0xD1B54A32D192ED03)

    def _counter(self) -> Variable:
        block = self.program.global_block()
        if self.counter not in block.vars:
            self.program.add_state(self.counter, TensorType(np.dtype("i8"), ()))
        return block.vars[self.counter]

    def _mixed(self, z: Number, odd: int, half: int) -> Number:
        """A square carries low bits up, a division by 2^(n/2) high bits down."""
        for _ in range(ROUNDS):
            square = self.combine("Mul", z, self.combine("Add", z, odd))
            z = self.combine("Add", square, self.combine("Div", square, half))
        return z

    def _cast(self, x: Number, dtype: np.dtype) -> Number:
        return x.astype(dtype) if isinstance(x, np.ndarray) else self.g.cast(x, dtype)

    def _split(self, x: Number, axis: int) -> Sequence[Number]:
        """The slices of length 1 along an axis."""
        count = x.shape[axis]
        if isinstance(x, np.ndarray):
            return np.split(x, count, axis)
        return [x] if count == 1 else self.g.Split(x, axis=axis, num_outputs=count, outputs=count)

    def _hashes(self, extent: Extent, axis: int) -> Number:
        """Two hashes of each index        result: u32[2, n, 1] of rows, u32[2, 1, n] of columns.

        Rows: a odd, a' twice an odd number; columns: b' odd. So t is odd: x t takes every value.
        """
        if (extent, axis) not in self.hashed:
            scale, offset = ((2, 4), (1, 2)) if axis == 1 else ((1, 2), (0, 1))
            indices = self._indices(extent, [1, -1, 1] if axis == 1 else [1, 1, -1])
            h = self.combine("Add", self.combine("Mul", indices, _pair(*SPREAD)), _pair(*START))
            h = self.combine("Mul", self._mixed(h, 0x2C1B3C6D, 2**16), _pair(*scale))
            self.hashed[extent, axis] = self.combine("Add", h, _pair(*offset))
        return self.hashed[extent, axis]

    def _indices(self, extent: Extent, shape: list[int]) -> Number:
        count = extent.count(self.g)
        if isinstance(count, int) and count <= BAKED:
            return np.arange(count, dtype=WORD).reshape(shape)
        found: Variable = self.g.Reshape(self._cast(self.g.Range(0, count, 1), WORD), shape)
        return found

    def bits(self, key: Number, like: Variable) -> Variable:
        """A uniform number for each element of ``like``        like: [*n]   result: u32[*n]."""
        rows, columns = layout(like)
        left, right = self._split(self.combine("Mul", self._hashes(rows, 1), key), 0)
        top, bottom = self._split(self._hashes(columns, 2), 0)
        product = self.g.Mul(self.g.Add(left, top), self.g.Add(right, bottom))
        return typed(self.g.Reshape(product, self.g.shape_of(like), allowzero=1), like)


@dataclass(frozen=True)
class Extent:
    """Some dims of a variable, or a factor of its size, as one index."""

    dims: Shape
    of: Variable = field(compare=False)
    start: int = field(default=0, compare=False)

    def count(self, g: Tape) -> int | Variable:
        """How many indices there are."""
        known = [d for d in self.dims if isinstance(d, int)]
        if len(known) == len(self.dims):
            return math.prod(known)
        if self.of.tensor_type.shape is None:
            size: Variable = g.Size(self.of)
            return size
        sizes = g.Shape(self.of, start=self.start, end=self.start + len(self.dims))
        product: Variable = g.ReduceProd(sizes, keepdims=0)
        return product


def layout(like: Variable) -> tuple[Extent, Extent]:
    """Rows and columns of a matrix, near square, with as many elements as ``like``."""
    shape = like.tensor_type.shape
    if shape is None:
        return Extent((like.name,), like), Extent((), like)
    if like.tensor_type.is_static:
        size = math.prod(like.shape)
        columns = next((d for d in range(math.isqrt(size), 1, -1) if size % d == 0), 1)
        return Extent((size // columns,), like), Extent((columns,), like)
    sizes = [d if isinstance(d, int) else GUESS for d in shape]
    k = min(range(1, len(sizes) + 1), key=lambda k: math.prod(sizes[:k]) + math.prod(sizes[k:]))
    return Extent(shape[:k], like), Extent(shape[k:], like, k)


def combine(g: Tape, type: str, a: Number, b: Number | int) -> Number:
    """An Add, Mul or Div of unsigned integers mod 2^n: at once where both are known."""
    if isinstance(b, int):
        rank = a.ndim  # onnxruntime is slow where a scalar of lower rank meets a last dim of 1
        b = np.array(b, a.dtype).reshape([1] * rank)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.asarray(NUMPY[type](a, b))
    found: Variable = g.emit(type, a, b)
    return found


def _pair(first: int, second: int) -> np.ndarray:
    return np.array([first, second], WORD).reshape(2, 1, 1)


def _odd_factors(stream: str) -> np.ndarray:
    digest = np.frombuffer(shake_256(stream.encode()).digest(16), "<u8")
    return np.asarray(digest | np.uint64(1)).reshape(2, 1)
