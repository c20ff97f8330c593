"""Initializers: ops of the startup Program. Users find the classes as ``nn.initializer``.

Every class is called as ``initializer(variable, block)`` and assigns ``variable`` in the block of
a startup Program. Fans: a 2-D weight is [in, out]; a longer one is [out, in, *kernel].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from graphopt.errors import ArgumentError, DTypeError, ShapeError
from graphopt.ir.model.block import Block
from graphopt.ir.model.seeds import next_seed
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import as_literal, number
from graphopt.ir.types.types import BFLOAT16, to_onnx_dtype

GAINS = {
    "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "linear": 1.0, "relu": math.sqrt(2.0),
    "selu": 0.75, "sigmoid": 1.0, "tanh": 5.0 / 3.0,
}  # fmt: skip
SINGLE = np.dtype("f4")
HALVES = (np.dtype("f2"), BFLOAT16)


class Initializer:
    """Base of the initializers.

    A subclass gives ``assign``. Called with a variable it records what gives it its first value.
    """

    def __call__(self, variable: Variable, block: Block) -> None:
        """Record the first value of ``variable`` in ``block``, of a startup Program."""
        self.assign(Tape(block), variable, tuple(map(int, variable.shape)))

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Record with ``g`` the ops that assign ``w``, whose dims are ``shape``."""
        raise NotImplementedError

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({fields})"


class Constant(Initializer):
    """Every element is ``value``, a number.

    >>> import graphopt as go
    >>> go.nn.initializer.Constant(0.5)
    Constant(value=0.5)

    Raises:
        ArgumentTypeError: ``value`` is not a number.
    """

    def __init__(self, value: float = 0.0) -> None:
        as_literal(value)
        self.value = value

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Record a ConstantOfShape."""
        value = np.array([self.value]).astype(w.dtype)
        g.ConstantOfShape(np.array(shape, np.int64), value=value, into=[w])


class Assign(Initializer):
    """``value``, an array or a nested list of numbers, of the variable's shape; cast to its dtype.

    >>> import graphopt as go
    >>> w = go.create_parameter([2], attr=go.nn.initializer.Assign([0.5, 1.0]))

    Raises:
        ShapeError: when called for a variable of another shape.
    """

    def __init__(self, value: object) -> None:
        self.value = np.asarray(value)

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Record an Identity of a constant.

        Raises:
            ShapeError: the array has another shape.
        """
        if self.value.shape != shape:
            raise ShapeError(
                f"Assign: the array does not have the shape of {w.name}",
                operands=[(w.name, w.tensor_type), ("array", list(self.value.shape))],
                where=w.where,
            )
        g.Identity(g.const(self.value, w.dtype), into=[w])


class Normal(Initializer):
    """Gaussian with the given ``mean`` and standard deviation ``std``.

    A ``seed`` other than 0 fixes what is drawn, whatever seed the Program has.

    Raises:
        ArgumentTypeError: ``mean`` or ``std`` is not a number.
        DTypeError: when called for a variable that is not of floats.
    """

    def __init__(self, mean: float = 0.0, std: float = 1.0, *, seed: int = 0) -> None:
        self.mean, self.std = number("Normal: mean", mean), number("Normal: std", std)
        self.seed = seed

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Record a RandomNormal."""
        seed = next_seed(g.program, self.seed)
        drawn = partial(g.RandomNormal, mean=self.mean, scale=self.std)
        _draw(g, w, partial(drawn, shape=[*shape], seed=seed))


class Uniform(Initializer):
    """Uniform in [``low``, ``high``).

    A ``seed`` other than 0 fixes what is drawn, whatever seed the Program has.

    Raises:
        ArgumentTypeError: a bound is not a number.
        ArgumentError: ``low`` is above ``high``.
        DTypeError: when called for a variable that is not of floats.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, *, seed: int = 0) -> None:
        self.low, self.high = number("Uniform: low", low), number("Uniform: high", high)
        self.seed = seed
        if self.low > self.high:
            raise ArgumentError(f"Uniform: low {low} is above high {high}")

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Record a RandomUniform."""
        seed = next_seed(g.program, self.seed)
        drawn = partial(g.RandomUniform, low=self.low, high=self.high)
        _draw(g, w, partial(drawn, shape=[*shape], seed=seed))


def _draw(g: Tape, w: Variable, random_op: Callable[..., Variable]) -> None:
    """Assign w; a half is drawn as float32, as onnxruntime draws no halves.

    Raises:
        DTypeError: w is not of floats.
    """
    _check_float(w)
    if w.dtype in HALVES:
        g.Cast(random_op(dtype=to_onnx_dtype(SINGLE)), to=to_onnx_dtype(w.dtype), into=[w])
    else:
        random_op(dtype=to_onnx_dtype(w.dtype), into=[w])


def _check_float(w: Variable) -> None:
    if not w.tensor_type.is_float:
        raise DTypeError(
            f"only floats can be drawn at random, {w.name} has another dtype",
            operands=[(w.name, w.tensor_type)],
            where=w.where,
            fix="initialize it by Constant or Assign",
        )


class TruncatedNormal(Initializer):
    """Gaussian with ``mean`` and standard deviation ``std``, drawn between two bounds only.

    The bounds are mean + ``a`` std and mean + ``b`` std. A ``seed`` other than 0 fixes what is
    drawn, whatever seed the Program has. Drawn in float32 by inverting the distribution function: z
    = √2 erf⁻¹(u) with u uniform.

    Raises:
        ArgumentError: ``a`` is not below ``b``.
        DTypeError: when called for a variable that is not of floats.
    """

    def __init__(
        self, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, *, seed: int = 0
    ) -> None:
        if a >= b:
            raise ArgumentError(f"TruncatedNormal: a {a} must be below b {b}")
        self.mean, self.std, self.a, self.b, self.seed = mean, std, a, b, seed

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Record a RandomUniform, then the inverse error function."""
        _check_float(w)
        low, high = (math.erf(bound / math.sqrt(2)) for bound in (self.a, self.b))
        u = g.RandomUniform(
            low=low,
            high=high,
            shape=list(shape),
            dtype=to_onnx_dtype(SINGLE),
            seed=next_seed(g.program, self.seed),
        )
        z = g.Clip(g.Mul(_erf_inverse(g, u), math.sqrt(2)), self.a, self.b)
        g.Cast(g.Add(g.Mul(z, self.std), self.mean), to=to_onnx_dtype(w.dtype), into=[w])


def _erf_inverse(g: Tape, x: Variable) -> Variable:
    """erf⁻¹(x) for |x| < 1: Winitzki's formula, then three Newton steps on erf(y) = x."""
    a = 0.147
    log = g.Log(g.Clip(g.Sub(1.0, g.Mul(x, x)), 1e-12, 1.0))
    t = g.Add(g.Mul(log, 0.5), 2 / (math.pi * a))
    y = g.Mul(g.Sign(x), g.Sqrt(g.Sub(g.Sqrt(g.Sub(g.Mul(t, t), g.Div(log, a))), t)))
    for _ in range(3):
        slope = g.Mul(g.Exp(g.Neg(g.Mul(y, y))), 2 / math.sqrt(math.pi))
        y = g.Sub(y, g.Div(g.Sub(g.Erf(y), x), slope))
    return y


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Fan-in and fan-out of a weight of these dims.

    A 2-D ``shape`` is [in, out], a longer one [out, in, *kernel]; of a vector both are its length.

    >>> fans((64, 10)), fans((16, 3, 5, 5))
    ((64, 10), (75, 400))
    """
    if len(shape) < 2:
        size = shape[0] if shape else 1
        return size, size
    if len(shape) == 2:
        return shape[0], shape[1]
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


class _Xavier(Initializer):
    def __init__(
        self, fan_in: float | None = None, fan_out: float | None = None, gain: float = 1.0,
        *, seed: int = 0,
    ) -> None:  # fmt: skip
        self.fan_in, self.fan_out, self.gain, self.seed = fan_in, fan_out, gain, seed

    def std(self, shape: tuple[int, ...]) -> float:
        """The standard deviation for a weight of dims ``shape``: gain √(2 / (fan_in + fan_out))."""
        found_in, found_out = fans(shape)
        fan_in = found_in if self.fan_in is None else self.fan_in
        fan_out = found_out if self.fan_out is None else self.fan_out
        return self.gain * math.sqrt(2.0 / (fan_in + fan_out))


class XavierUniform(_Xavier):
    """Uniform in (-a, a) with a = gain √(6 / (fan_in + fan_out)).

    ``fan_in`` and ``fan_out`` are by default those of the weight, see ``fans``; ``gain`` is a
    factor. A ``seed`` other than 0 fixes what is drawn, whatever seed the Program has.

    Glorot, Bengio: Understanding the Difficulty of Training Deep Feedforward Neural Networks, 2010.

    Raises:
        DTypeError: when called for a variable that is not of floats.
    """

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Record a RandomUniform."""
        limit = math.sqrt(3.0) * self.std(shape)
        Uniform(-limit, limit, seed=self.seed).assign(g, w, shape)


class XavierNormal(_Xavier):
    """Gaussian with mean 0 and standard deviation gain √(2 / (fan_in + fan_out)).

    ``fan_in`` and ``fan_out`` are by default those of the weight, see ``fans``; ``gain`` is a
    factor. A ``seed`` other than 0 fixes what is drawn, whatever seed the Program has.

    Glorot, Bengio: Understanding the Difficulty of Training Deep Feedforward Neural Networks, 2010.

    Raises:
        DTypeError: when called for a variable that is not of floats.
    """

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Record a RandomNormal."""
        Normal(0.0, self.std(shape), seed=self.seed).assign(g, w, shape)


class _Kaiming(Initializer):
    def __init__(
        self,
        fan_in: float | None = None,
        negative_slope: float = 0.0,
        nonlinearity: str = "relu",
        mode: str = "fan_in",
        *,
        seed: int = 0,
    ) -> None:
        if nonlinearity not in (*GAINS, "leaky_relu"):
            raise ArgumentError(
                f"no gain is known for {nonlinearity!r}",
                fix=f"use one of {sorted([*GAINS, 'leaky_relu'])}",
            )
        if mode not in ("fan_in", "fan_out"):
            raise ArgumentError(f"mode must be 'fan_in' or 'fan_out', not {mode!r}")
        self.fan_in, self.negative_slope, self.nonlinearity = fan_in, negative_slope, nonlinearity
        self.mode, self.seed = mode, seed

    def std(self, shape: tuple[int, ...]) -> float:
        """The standard deviation for a weight of dims ``shape``: gain / √fan."""
        found_in, found_out = fans(shape)
        fan = found_out if self.mode == "fan_out" else (self.fan_in or found_in)
        gain = GAINS.get(self.nonlinearity) or math.sqrt(2.0 / (1.0 + self.negative_slope**2))
        return gain / math.sqrt(fan)


class KaimingUniform(_Kaiming):
    """Uniform in (-a, a) with a = gain √(3 / fan).

    fan is ``fan_in``, by default that of the weight (see ``fans``), or its fan-out with
    ``mode="fan_out"``. The gain is that of ``nonlinearity``, e.g. √2 of "relu"; ``negative_slope``
    is that of "leaky_relu". A ``seed`` other than 0 fixes what is drawn, whatever seed the Program
    has.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers, 2015.

    Raises:
        ArgumentError: no gain is known for ``nonlinearity``; there is no such ``mode``.
        DTypeError: when called for a variable that is not of floats.
    """

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Record a RandomUniform."""
        limit = math.sqrt(3.0) * self.std(shape)
        Uniform(-limit, limit, seed=self.seed).assign(g, w, shape)


class KaimingNormal(_Kaiming):
    """Gaussian with mean 0 and standard deviation gain / √fan.

    fan is ``fan_in``, by default that of the weight (see ``fans``), or its fan-out with
    ``mode="fan_out"``. The gain is that of ``nonlinearity``, e.g. √2 of "relu"; ``negative_slope``
    is that of "leaky_relu". A ``seed`` other than 0 fixes what is drawn, whatever seed the Program
    has.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers, 2015.

    Raises:
        ArgumentError: no gain is known for ``nonlinearity``; there is no such ``mode``.
        DTypeError: when called for a variable that is not of floats.
    """

    def assign(self, g: Tape, w: Variable, shape: tuple[int, ...]) -> None:
        """Record a RandomNormal."""
        Normal(0.0, self.std(shape), seed=self.seed).assign(g, w, shape)
