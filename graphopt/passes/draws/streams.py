"""Random ops made plain: integer ops of the seed, the step and the index of each element.

onnxruntime's random kernels keep a generator that no checkpoint holds. Here element (i, j) of a
draw, laid out as a matrix, is x t mod 2^32 with x = m a(i) + b(j) and t = m' a'(i) + b'(j): the
a and b are hashes of the index, the odd keys m and m' hash the op's seed and the step. Three
passes over memory, of ops that every provider has: CUDA has neither BitShift nor BitwiseXor.
Integers are exact, so all devices draw the same bits. High bits are better than low ones.

Inside a Loop or Scan the number of the iteration is hashed too; the branches of an If draw as if
they were outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import shake_256
from typing import Any, TypeAlias

import numpy as np

from graphopt.ir.model.block import Block
from graphopt.ir.model.dropout import drops
from graphopt.ir.model.name_scopes import in_name_scope
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.seeds import COUNTER
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Operand, Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import Shape, TensorType, to_onnx_dtype
from graphopt.ir.types.where import at
from graphopt.passes.engine.base import Pass

SINGLE, DOUBLE = np.dtype("f4"), np.dtype("f8")
WORD, LONG = np.dtype("u4"), np.dtype("u8")
ULP = 2.0**-32
BAKED = 1024  # hashes of at most so many indices are constants of the Program
GUESS = 64  # what a dim that is not known counts when a matrix is to be near square
ROUNDS = 2
NUMPY = {"Add": np.add, "Mul": np.multiply, "Div": np.floor_divide}
Number: TypeAlias = Variable | np.ndarray
Keys: TypeAlias = Iterator[Number]


@dataclass(frozen=True)
class Streams(Pass):
    """Replace seeded random ops by integer ops, drawing anew with every step of ``counter``.

    Without a counter only a Step that is given nothing is changed, such as a startup Program's: it
    draws the same numbers in every run. Others keep their ops.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... state w : f32[2, 1]
    ... v : f32[2, 1] = RandomUniform(shape=[2, 1], seed=7.0)
    ... -> w <- v
    ... ''')
    >>> print(Streams().run(s).text(where=False))
    step : opset 21, 9 ops, 0 feeds, 0 params
      state w : f32[2, 1]
      -- forward
      add_0 : u32[1, 2, 1] = Add(u32([[[4217589899], [3787154727]]]), u32([[[3672320206]]]))
      add_1 : u32[1, 2, 1] = Add(u32([[[86009626], [2004400050]]]), u32([[[3455554011]]]))
      mul_0 : u32[1, 2, 1] = Mul(add_0, add_1)
      reshape_0 : u32[2, 1] = Reshape(mul_0, [2, 1], allowzero=1)
      cast_0 : f32[2, 1] = Cast(reshape_0, to=f32)
      mul_1 : f32[2, 1] = Mul(cast_0, 2.3283064e-10)
      add_2 : f32[2, 1] = Add(mul_1, 0.0)
      min_0 : f32[2, 1] = Min(add_2, 0.99999994)
      v : f32[2, 1] = Cast(min_0, to=f32)
      -> w <- v
    """

    counter: str = ""

    def needed(self, step: Step) -> bool:
        """Whether something draws, and it is known how it is to draw anew."""
        drawing = any(is_stream(op) for op in step.global_block().ops)
        return drawing and bool(self.counter or reads_nothing(step))

    def change(self, step: Step) -> None:
        """Write random ops as integer ops."""
        _Rewriter(step, self.counter).run()


def is_stream(op: Operator) -> bool:
    """Whether ``Streams`` replaces the op, or one inside its blocks."""
    return draws(op) or any(is_stream(inner) for block in drawing_blocks(op) for inner in block.ops)


def drawing_blocks(op: Operator) -> list[Block]:
    """The blocks in which ``Streams`` looks for random ops."""
    return op.blocks() if op.type in ("If", "Loop", "Scan") else []


def draws(op: Operator) -> bool:
    """Whether the op itself is random, with a seed (a Dropout: always training)."""
    if op.type not in RULES or "seed" not in op.attrs:
        return False
    if op.type != "Dropout":
        return True
    ratio = op.maybe("ratio")
    return drops(op) is True and (ratio is None or isinstance(ratio, Constant))


def reads_nothing(step: Step) -> bool:
    """Whether the Step gives state values that depend on its seeds alone."""
    return bool(step.next_state) and not step.inputs()


def advances(op: Operator) -> bool:
    """Whether the op is ``random_step <- random_step + 1``."""
    return all(any(v.name == COUNTER for v in side()) for side in (op.reads, op.writes))


def combine(g: Tape, type: str, a: Number, b: Number | int) -> Number:
    """An Add, Mul or Div of unsigned integers mod 2^n: at once where both are known."""
    if isinstance(b, int):
        rank = a.ndim  # onnxruntime is slow where a scalar of lower rank meets a last dim of 1
        b = np.array(b, a.dtype).reshape([1] * rank)
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.asarray(NUMPY[type](a, b))
    found: Variable = g.emit(type, a, b)
    return found


class _Rewriter:
    """One run of ``Streams`` over a Step."""

    def __init__(self, step: Step, counter: str) -> None:
        self.program = step
        self.counter = counter
        self.g = Tape(step.global_block(), made_by="streams")
        self.hashed: dict[tuple[Extent, int], Number] = {}

    def run(self) -> None:
        with self.program.global_block().rewriting() as ops:
            with at(next(op for op in ops if is_stream(op)).where):
                step = self._step()
                keys = self._keys(step, ops)
            self._append(ops, step, keys)

    def _append(self, ops: Sequence[Operator], step: Number, keys: Keys) -> None:
        """Append ops to the tape's block, random ones made plain; ``step`` hashes the iteration."""
        for op in ops:
            self.g.role = op.role
            with at(op.where), in_name_scope(self.program, op.scope):
                if draws(op):
                    RULES[op.type][1](self, op, keys)
                    continue
                if is_stream(op):
                    self._inside(op, step, keys)
            self.g.block.append(op)

    def _inside(self, op: Operator, step: Number, keys: Keys) -> None:
        """Make the random ops of the op's blocks plain."""
        outer, hashed = self.g, dict(self.hashed)
        if op.type == "Scan":
            _count_iterations(self.g, op)
        for block in op.blocks():
            self.g = Tape(block, role=op.role, made_by="streams")
            with block.rewriting() as ops:
                if op.type == "If":
                    self._append(ops, step, keys)
                else:
                    inner = self._iteration(step, block.inputs[0])
                    self._append(ops, inner, self._keys(inner, ops))
            self.hashed = dict(hashed)  # what a block makes is not there outside of it
        self.g = outer

    def combine(self, type: str, a: Number, b: Number | int) -> Number:
        """See ``combine``."""
        return combine(self.g, type, a, b)

    def _keys(self, step: Number, ops: Sequence[Operator]) -> Keys:
        """Two odd numbers for every stream, another two in every step        each: u32[2, 1, 1]."""
        streams = [name for op in ops for name in _streams_of(op)]
        if not streams:
            return iter(())
        factors = np.stack([_odd_factors(name) for name in streams], axis=1)  # [2, n, 1]
        high = self.combine("Div", self.combine("Mul", step, factors), 2**33)
        keys = self.combine("Add", self.combine("Mul", self._cast(high, WORD), 2), 1)
        return iter(self._split(keys, 1))

    def _step(self) -> Number:
        """A hash of the step        result: u64[1, 1, 1]."""
        z: Number = np.frombuffer(shake_256(b"startup").digest(8), "<u8").reshape(1, 1, 1)
        if self.counter:
            z = self._spread(self._counter())
        return self._mixed(z, 0xBF58476D1CE4E5B9, 2**32)

    def _iteration(self, step: Number, i: Variable) -> Number:
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

    def into(self, result: Variable | None, type: str, *operands: Operand, **attrs: Any) -> None:  # noqa: ANN401
        """Record the op that makes a result of the random op; the result keeps its type."""
        if result is not None:
            known = result.tensor_type
            self.g.emit(type, *operands, into=[result], **attrs)
            result.tensor_type = known

    def finish(self, op: Operator, drawn: Variable) -> None:
        """Make the op's result of what was drawn, in its dtype."""
        result = next(op.writes())
        self.into(result, "Cast", drawn, to=to_onnx_dtype(result.dtype))


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


def shaped_like(op: Operator) -> Variable:
    """The variable whose shape the op's result has: the operand, else the result itself."""
    return [*op.reads(), *op.writes()][0]


SPREAD, START = (0x9E3779B1, 0x85EBCA77), (0x27D4EB2F, 0xC2B2AE3D)


def _pair(first: int, second: int) -> np.ndarray:
    return np.array([first, second], WORD).reshape(2, 1, 1)


def stream_names(op: Operator) -> list[str]:
    """One name for each number that an element needs."""
    seed = float(op.attrs["seed"])
    return [f"{op.type} {seed:.17g} {k}" for k in range(RULES[op.type][0])]


def _streams_of(op: Operator) -> Iterator[str]:
    """The streams of an op, or of those in an If's branches: what one iteration draws."""
    if draws(op):
        yield from stream_names(op)
    for block in op.blocks() if op.type == "If" else ():
        for inner in block.ops:
            yield from _streams_of(inner)


def _count_iterations(g: Tape, op: Operator) -> None:
    """Give a Scan a further state, the first: the number of the iteration."""
    block: Block = op.attrs["body"]
    i64 = TensorType(np.dtype("i8"), ())
    i = block.add_input("i", i64)
    block.inputs = [i, *block.inputs[:-1]]
    block.outputs = [Tape(block, role=op.role, made_by="streams").Add(i, 1), *block.outputs]
    last = Variable(g.program.unused_name("iterations"), i64, block=g.block, where=op.where)
    g.block.add_var(last)
    op.inputs, op.outputs = [g.const(0), *op.inputs], [last, *op.outputs]


def _odd_factors(stream: str) -> np.ndarray:
    digest = np.frombuffer(shake_256(stream.encode()).digest(16), "<u8")
    return np.asarray(digest | np.uint64(1)).reshape(2, 1)


def _uniform_in(r: _Rewriter, bits: Variable, low: float, high: float, dtype: np.dtype) -> Variable:
    """Uniform in [low, high), exactly so in ``dtype``."""
    work = DOUBLE if dtype == DOUBLE else SINGLE
    scaled = r.g.Add(r.g.Mul(r.g.cast(bits, work), (high - low) * ULP), low)
    found: Variable = r.g.Min(scaled, np.asarray(max(below(high, dtype), low), work))
    return found


def below(high: float, dtype: np.dtype) -> float:
    """The largest number of a dtype that is less than ``high``.

    >>> below(1.0, np.dtype("f8")), below(0.1, np.dtype("f2"))
    (0.9999999999999999, 0.09997...)
    """
    bound = np.asarray(high, dtype)
    if float(bound) >= high:
        bound = np.nextafter(bound, np.asarray(-np.inf, dtype))
    return float(bound)


def dropout(r: _Rewriter, op: Operator, keys: Keys) -> None:
    """Y = mask X / (1 - ratio), mask: whether a number is at least ratio        X, Y: [*n]."""
    x, ratio = op.operand("data"), op.maybe("ratio")
    p = float(ratio.value) if isinstance(ratio, Constant) else 0.5
    threshold = np.array(min(round(p / ULP), 2**32 - 1), WORD)
    bits, mask = r.bits(next(keys), x), op.result("mask")
    if mask is None:
        mask = r.g.GreaterOrEqual(bits, threshold)
    else:
        r.into(mask, "GreaterOrEqual", bits, threshold)
    scaled = r.g.Mul(x, r.g.full(1 / (1 - p) if p < 1 else 0.0, x))
    r.into(op.result("output"), "Mul", scaled, r.g.cast(mask, x.dtype))


def uniform(r: _Rewriter, op: Operator, keys: Keys) -> None:
    """Uniform in [low, high)."""
    dtype = next(op.writes()).dtype
    bits = r.bits(next(keys), shaped_like(op))
    r.finish(op, _uniform_in(r, bits, op.attrs["low"], op.attrs["high"], dtype))


def normal(r: _Rewriter, op: Operator, keys: Keys) -> None:
    """√(-2 ln u) cos(2π v) scale + mean, in float32. Box, Muller, 1958."""
    like = shaped_like(op)
    u = r.g.Add(r.g.Mul(r.g.cast(r.bits(next(keys), like), SINGLE), ULP), ULP / 2)  # (0, 1]
    radius = r.g.Sqrt(r.g.Mul(r.g.Log(u), -2.0))
    angle = r.g.Mul(r.g.cast(r.bits(next(keys), like), SINGLE), 2 * math.pi * ULP)
    z = r.g.Mul(radius, r.g.Cos(angle))
    r.finish(op, r.g.Add(r.g.Mul(z, op.attrs["scale"]), op.attrs["mean"]))


def bernoulli(r: _Rewriter, op: Operator, keys: Keys) -> None:
    """1 with the probability that the operand states, else 0."""
    p = op.operand("input")
    work = DOUBLE if p.dtype == DOUBLE else SINGLE
    u = _uniform_in(r, r.bits(next(keys), p), 0.0, 1.0, work)
    r.finish(op, r.g.Less(u, r.g.cast(p, work)))


Rule: TypeAlias = Callable[[_Rewriter, Operator, Keys], None]
# The numbers that an element needs, and the rule.
RULES: dict[str, tuple[int, Rule]] = {
    "Bernoulli": (1, bernoulli),
    "Dropout": (1, dropout),
    "RandomNormal": (2, normal),
    "RandomNormalLike": (2, normal),
    "RandomUniform": (1, uniform),
    "RandomUniformLike": (1, uniform),
}
