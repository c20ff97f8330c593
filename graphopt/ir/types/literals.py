"""Python numbers and arrays that become constants, or are fed: converted, but never changed."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.ir.types.types import FLOATS, dtype_text
from graphopt.ir.types.where import here

STRINGS = "OUS"


def as_literal(value: object) -> np.ndarray:
    """A number, a bool or a nested list of them as an array; an array as it is.

    Raises:
        ArgumentTypeError: what is no number.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise _no_number(value) from error
    if array.dtype.kind not in "biuf":
        raise _no_number(value)
    return array


def number(name: str, value: object) -> float:
    """An argument that is one number.

    Raises:
        ArgumentTypeError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentTypeError(
            f"{name} must be a number, not {type(value).__name__}", where=here()
        )
    return float(value)


def integer(name: str, value: object) -> int:
    """An argument that is one int.

    Raises:
        ArgumentTypeError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        kind = type(value).__name__
        raise ArgumentTypeError(f"{name} must be an int, not {kind}", where=here())
    return int(value)


def _no_number(value: object) -> ArgumentTypeError:
    return ArgumentTypeError(
        f"a {type(value).__name__} cannot be used as a number: {value!r}",
        where=here(),
        fix="pass a number, a list of numbers of one shape, an array or a Variable",
    )


def converted(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array as another dtype, rounded to floats but never to other integers.

    Raises:
        ArgumentTypeError: strings for numbers, or numbers for strings.
        ArgumentError: an integer dtype does not have the value.
    """
    if array.dtype == dtype:
        return array
    if (array.dtype.kind in STRINGS) != (dtype.kind in STRINGS):
        raise _no_number(array.tolist())
    if dtype in FLOATS or dtype.kind in "cb" or array.dtype.kind in STRINGS:
        return array.astype(dtype)
    with np.errstate(invalid="ignore"):
        found = array.astype(dtype)
    if not np.array_equal(found, array):
        raise ArgumentError(
            f"{array.tolist()!r} is not {dtype_text(dtype)}",
            where=here(),
            fix=f"use values that {dtype_text(dtype)} has, or cast the variable first",
        )
    return found
