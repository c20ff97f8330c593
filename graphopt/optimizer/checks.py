"""Checks of hyper-parameters."""

from __future__ import annotations

from graphopt.errors import ArgumentError, ArgumentTypeError


def in_unit(name: str, value: float) -> float:
    """A factor in [0, 1).

    Raises:
        ArgumentError: it is not.
    """
    if value is None or not 0 <= value < 1:
        raise ArgumentError(f"{name} must be in [0, 1), not {value}")
    return float(value)


def not_negative(name: str, value: float) -> float:
    """A number that is not negative.

    Raises:
        ArgumentError: it is None or negative.
    """
    if value is None or value < 0:
        raise ArgumentError(f"{name} must not be negative or None, not {value}")
    return float(value)


def number(name: str, value: object) -> float:
    """An int or float.

    Raises:
        ArgumentTypeError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ArgumentTypeError(f"{name} must be a number, not {type(value).__name__}")
    return float(value)
