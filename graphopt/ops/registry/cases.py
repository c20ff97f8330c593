"""Sample operands of a card: shapes, not arrays. The test room draws the numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from graphopt.ir.model.schema import Attr

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """An operand that is fed: its shape and how its numbers are drawn."""

    shape: Shape
    sample: Callable[[np.random.Generator, Shape], np.ndarray]
    symbolic: bool = True  # whether the test may hide its dims behind symbols


@dataclass(frozen=True)
class Case:
    """Operands by formal input (a list for a variadic one), attributes, number of results.

    An operand is a ``Draw``, or an array: a constant of the Program.
    """

    inputs: dict[str, Any]
    attrs: dict[str, Attr] = field(default_factory=dict)
    results: int = 1


def case(*, results: int = 1, attrs: dict[str, Attr] | None = None, **inputs: Any) -> Case:  # noqa: ANN401
    """A case. A tuple is the shape of a float operand; None is an omitted one.

    >>> case(A=(2, 3), B=(3, 4)).inputs["A"].shape
    (2, 3)
    """
    return Case({k: _operand(v) for k, v in inputs.items()}, attrs or {}, results)


def _operand(value: Any) -> Any:  # noqa: ANN401 - a tuple, a Draw, an array, None or a list
    if isinstance(value, tuple):
        return Draw(value, _spread)
    return [_operand(v) for v in value] if isinstance(value, list) else value


def _spread(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Floats in ±[0.2, 1.5], no two closer than the differences of a numerical derivative."""
    size = int(np.prod(shape))
    ranks = rng.permutation(size) + rng.uniform(0.25, 0.75, size)
    values = 0.2 + 1.3 * ranks / max(size, 1)
    return np.asarray((values * rng.choice([-1.0, 1.0], size)).reshape(shape))


def fixed(shape: Shape) -> Draw:
    """Floats whose dims stay known while recording (weights)."""
    return Draw(shape, _spread, symbolic=False)


def positive(shape: Shape) -> Draw:
    """Floats in [0.4, 1.6]."""
    return Draw(shape, lambda rng, s: np.asarray(1.0 + 0.4 * _spread(rng, s)))


def unit(shape: Shape) -> Draw:
    """Floats in ±[0.1, 0.9]."""
    return Draw(shape, lambda rng, s: np.asarray(0.6 * _spread(rng, s)))


def ints(shape: Shape, high: int, low: int = 0) -> Draw:
    """Fed integers in [low, high)."""
    return Draw(shape, lambda rng, s: rng.integers(low, high, s))


def bools(shape: Shape) -> Draw:
    """Fed booleans."""
    return Draw(shape, lambda rng, s: rng.integers(0, 2, s).astype(bool))


def i64(*values: int) -> np.ndarray:
    """A constant i64 vector."""
    return np.array(values, np.int64)


def scalar(value: float | int | bool) -> np.ndarray:
    """A constant of shape []; floats get the dtype of the case."""
    return np.array(value)
