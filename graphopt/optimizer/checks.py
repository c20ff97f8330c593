"""Checks of hyper-parameters."""

from __future__ import annotations

from graphopt.errors import ArgumentError
from graphopt.ir.types.literals import number


def in_unit(name: str, value: float) -> float:
    """A factor in [0, 1).

    Raises:
        ArgumentTypeError: ``value`` is no number.
        ArgumentError: ``value`` is None, or out of range.
    """
    if value is None or not 0 <= number(name, value) < 1:
        raise ArgumentError(f"{name} must be in [0, 1), not {value}")
    return float(value)


def not_negative(name: str, value: float) -> float:
    """A number that is not negative.

    Raises:
        ArgumentTypeError: ``value`` is no number.
        ArgumentError: ``value`` is None or negative.
    """
    if value is None or not number(name, value) >= 0:
        raise ArgumentError(f"{name} must not be negative or None, not {value}")
    return float(value)
