"""Random tensors. Each run of a Program draws anew; its seeds and ``random_step`` fix what.

See ``docs/decisions/0010-random-numbers.md``.
"""

from __future__ import annotations

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError, DTypeError
from graphopt.initializer import Constant
from graphopt.ir.model.operator import Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.schema import Attr
from graphopt.ir.model.seeds import COUNTER, next_seed
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import integer, number
from graphopt.ir.types.types import FLOATS, DTypeLike, TensorType, as_dtype, to_onnx_dtype
from graphopt.ir.types.where import here
from graphopt.parameters import create_state
from graphopt.passes.draws.streams import advances
from graphopt.scoping import default_startup_program, recorder
from graphopt.tensor.operands import (
    ShapeLike,
    TensorLike,
    as_variable,
    dims_of,
    int_vector,
    named,
    with_dims,
)


def stream_seed(program: Program, own: int = 0) -> int:
    """The seed of the next random op of a Program; the first one makes the Program count its runs.

    ``own`` is a seed that the user gave, or 0. The count is the state ``random_step``: 0 after
    startup, one more after each run that draws.
    """
    startup = default_startup_program()
    block = program.global_block()
    if program is not startup and not any(advances(op) for op in block.ops):
        step = block.vars.get(COUNTER)
        if step is None or not step.persistable:
            i64 = TensorType(np.dtype("i8"), ())
            step = create_state(program, startup, COUNTER, i64, Constant(0))
        tape = Tape(block, role=Role.SCHEDULE, scratch=True)
        tape.emit("Add", step, 1, into=[step])
        assert tape.scratch is not None
        tape.scratch[0].scope = "/"
        block.insert(0, tape.scratch[0])
    return next_seed(program, own)


def uniform(
    shape: ShapeLike,
    dtype: DTypeLike | None = None,
    min: float = 0,
    max: float = 1.0,
    seed: int = 0,
    name: str | None = None,
) -> Variable:
    """Uniform in [``min``, ``max``), of the given ``shape``; f32 unless ``dtype`` says.

    A ``seed`` other than 0 fixes what is drawn, whatever seed the Program has.

    >>> uniform([2, 3])
    <Variable randomuniform_0 : f32[2, 3]>

    Raises:
        ArgumentTypeError: ``shape`` is not a list, tuple or Variable of ints; a bound is no number.
        ArgumentError: a dim is negative.
        DTypeError: ``dtype`` is no float.
    """
    min, max = number("uniform: min", min), number("uniform: max", max)
    g, found = _recorder("uniform", shape), _float("uniform", dtype)
    return named(_uniform(g, shape, min, max, found, seed), name)


def _recorder(function: str, shape: object) -> Tape:
    if not isinstance(shape, (list, tuple, Variable)):
        raise ArgumentTypeError(
            f"{function}: the shape is a list of ints, not {shape!r}",
            where=here(),
            fix="e.g. [2, 3]",
        )
    return recorder(*(shape if isinstance(shape, (list, tuple)) else [shape]))


def _float(function: str, dtype: DTypeLike | None) -> np.dtype:
    found = as_dtype("float32" if dtype is None else dtype)
    if found not in FLOATS:
        raise DTypeError(
            f"{function} draws floats, not {found.name}", where=here(), fix="use randint"
        )
    return found


def _uniform(
    g: Tape, shape: ShapeLike, low: float, high: float, dtype: np.dtype, seed: int = 0
) -> Variable:
    drawn = {"dtype": to_onnx_dtype(dtype), "low": low, "high": high}
    return _drawn(g, "RandomUniform", shape, seed, drawn)


def _drawn(g: Tape, type: str, shape: ShapeLike, seed: int, attrs: dict[str, Attr]) -> Variable:
    """A random op of known dims, or the one that takes its shape from an operand."""
    dims = dims_of(shape)
    if dims is not None and any(d is not None and d < 0 for d in dims):
        raise ArgumentError(f"a random tensor cannot have the shape {shape}", where=here())
    found = stream_seed(g.program, seed)
    if dims is not None and None not in dims:
        y: Variable = g.emit(type, shape=dims, seed=found, **attrs)
        return y
    blank = with_dims(g.ConstantOfShape(int_vector(g, shape)), dims)
    return with_dims(g.emit(f"{type}Like", blank, seed=found, **attrs), dims)


def rand(shape: ShapeLike, dtype: DTypeLike | None = None, name: str | None = None) -> Variable:
    """Uniform in [0, 1), of the given ``shape``; f32 unless ``dtype`` says.

    >>> rand([2, 3])
    <Variable randomuniform_0 : f32[2, 3]>

    Raises:
        ArgumentTypeError: ``shape`` is not a list, tuple or Variable of ints.
        ArgumentError: a dim is negative.
        DTypeError: ``dtype`` is no float.
    """
    g, found = _recorder("rand", shape), _float("rand", dtype)
    return named(_uniform(g, shape, 0.0, 1.0, found), name)


def randn(shape: ShapeLike, dtype: DTypeLike | None = None, name: str | None = None) -> Variable:
    """Gaussian with mean 0 and deviation 1, of the given ``shape``; f32 unless ``dtype`` says.

    >>> randn([2, 3])
    <Variable randomnormal_0 : f32[2, 3]>

    Raises:
        ArgumentTypeError: ``shape`` is not a list, tuple or Variable of ints.
        ArgumentError: a dim is negative.
        DTypeError: ``dtype`` is no float.
    """
    g, found = _recorder("randn", shape), _float("randn", dtype)
    return named(_normal(g, shape, 0.0, 1.0, found), name)


def _normal(g: Tape, shape: ShapeLike, mean: float, std: float, dtype: np.dtype) -> Variable:
    drawn = {"dtype": to_onnx_dtype(dtype), "mean": mean, "scale": std}
    return _drawn(g, "RandomNormal", shape, 0, drawn)


standard_normal = randn


def normal(
    mean: float | Variable = 0.0,
    std: float | Variable = 1.0,
    shape: ShapeLike | None = None,
    name: str | None = None,
) -> Variable:
    """Gaussian with ``mean`` and standard deviation ``std``, numbers or Variables that broadcast.

    ``shape`` is that of the result if both are numbers, which is then f32; else the first Variable
    says shape and dtype.

    >>> normal(x, 0.1), normal(0.0, 0.1, shape=[2, 3])
    (<Variable add_0 : f32[N, 4]>, <Variable randomnormal_0 : f32[2, 3]>)

    Raises:
        ArgumentTypeError: ``shape`` is not a list, tuple or Variable of ints.
        ArgumentError: both are numbers and there is no ``shape``; a dim is negative.
    """
    like = next((v for v in (mean, std) if isinstance(v, Variable)), None)
    if like is None and shape is None:
        raise ArgumentError("normal: numbers alone have no shape", where=here(), fix="shape=[2, 3]")
    if like is None:
        assert shape is not None
        g = _recorder("normal", shape)
        return named(_normal(g, shape, mean, std, np.dtype("f4")), name)  # type: ignore[arg-type]
    g = recorder(mean, std)
    z = g.RandomNormalLike(like, seed=stream_seed(g.program))
    return named(g.Add(g.Mul(z, std), mean), name)


def randint(
    low: int = 0,
    high: int | None = None,
    shape: ShapeLike = (1,),
    dtype: DTypeLike | None = None,
    name: str | None = None,
) -> Variable:
    """Integers in [``low``, ``high``), of the given ``shape``; i64 unless ``dtype`` says.

    With one bound they are in [0, ``low``).

    >>> randint(10, shape=[2, 3])
    <Variable cast_0 : i64[2, 3]>

    Raises:
        ArgumentTypeError: a bound is no int; ``shape`` is not a list, tuple or Variable of ints.
        ArgumentError: there is no integer between the bounds; a dim is negative.
    """
    low, high = (0, low) if high is None else (low, high)
    low, high = integer("randint: low", low), integer("randint: high", high)
    if low >= high:
        raise ArgumentError(f"randint: there is no integer in [{low}, {high})", where=here())
    g = _recorder("randint", shape)
    u = _uniform(g, shape, float(low), float(high), np.dtype("f8"))
    return named(g.Cast(g.Floor(u), to=to_onnx_dtype(as_dtype(dtype or "int64"))), name)


def randperm(n: int, dtype: DTypeLike = "int64", name: str | None = None) -> Variable:
    """The integers below ``n`` in random order        result: [n], i64 unless ``dtype`` says.

    >>> randperm(5)
    <Variable topk_1 : i64[5]>

    Raises:
        ArgumentTypeError: ``n`` is not an int.
        ArgumentError: ``n`` is not positive.
    """
    if n < 1:
        raise ArgumentError(f"randperm: n must be positive, not {n}", where=here())
    g = recorder()
    _, order = g.TopK(_uniform(g, [n], 0.0, 1.0, np.dtype("f8")), [n], outputs=2)
    return named(g.cast(order, as_dtype(dtype)), name)


def bernoulli(x: TensorLike, p: float | None = None, name: str | None = None) -> Variable:
    """1 with probability ``x`` (or ``p`` for all, if given), else 0        x: [*n], in [0, 1].

    >>> bernoulli(x)
    <Variable bernoulli_0 : f32[N, 4]>
    """
    g = recorder(x)
    x = as_variable(g, x)
    chance = x if p is None else g.Add(g.zeros_like(x), p)
    return named(g.Bernoulli(chance, seed=stream_seed(g.program)), name)


def multinomial(
    x: TensorLike, num_samples: int = 1, replacement: bool = False, name: str | None = None
) -> Variable:
    """Indices drawn with probabilities in proportion to ``x``        x: [*b, k], not negative.

    result: i64[*b, num_samples]
    Without ``replacement`` no index comes twice in a row: they are those of the largest
    log x - log(-log u), u uniform (Gumbel's trick).

    >>> multinomial(x, 2)
    <Variable topk_1 : i64[N, 2]>

    Raises:
        ArgumentError: ``num_samples`` is more than k, without ``replacement``.
    """
    g = recorder(x)
    x = as_variable(g, x)
    if not replacement:
        if x.shape[-1] != -1 and num_samples > x.shape[-1]:
            raise ArgumentError(
                f"multinomial: {num_samples} samples of {x.shape[-1]} classes need replacement",
                operands=[(x.name, x.tensor_type)],
                where=here(),
            )
        _, found = g.TopK(_gumbel_scores(g, x), [num_samples], outputs=2)
        return named(found, name)
    draws = [g.dim_of(x, k) for k in range(x.ndim - 1)]
    rows = g.Expand(g.Unsqueeze(x, [-2]), g.dims(*draws, num_samples, 1))  # [*b, samples, k]
    return named(g.ArgMax(_gumbel_scores(g, rows), axis=-1, keepdims=0), name)


def _gumbel_scores(g: Tape, x: Variable) -> Variable:
    """Scores that are largest at i with a probability in proportion to x[i] (Gumbel's trick)."""
    u = g.RandomUniformLike(x, low=2.0**-25, high=1.0, seed=stream_seed(g.program))
    scores: Variable = g.Sub(g.Log(x), g.Log(g.Neg(g.Log(u))))
    return scores
