"""What a run is fed: values checked against their variables, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphopt.errors import (
    ArgumentTypeError,
    FeedError,
    did_you_mean,
)
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.literals import STRINGS
from graphopt.ir.types.types import ContainerType, TensorType, fits

Feed: TypeAlias = Mapping[str, Any]


def as_feed(program: Program, feed: object) -> dict[str, np.ndarray]:
    """The arrays of a feed by name, each of its variable's dtype and of a shape that fits.

    Args:
        program: whose variables are fed.
        feed: a dict from names to values, such a dict in a list, or None. Lists and Python numbers
            take the variable's dtype; arrays must have it.

    Raises:
        ArgumentTypeError: the feed is not a dict.
        FeedError: an unknown name, a wrong dtype or shape, or dims that share a symbol and differ.
    """
    if feed is None:
        return {}
    if isinstance(feed, Sequence) and len(feed) == 1:
        feed = feed[0]
    if not isinstance(feed, Mapping):
        raise ArgumentTypeError(
            f"feed must be a dict from names to arrays, not {type(feed).__name__}"
        )
    variables = program.global_block().vars
    arrays = {}
    for name, value in feed.items():
        if name not in variables:
            fed = [v.name for v in variables.values() if v.is_data]
            raise FeedError(
                f"the Program has no variable {name!r} to feed",
                fix=did_you_mean(str(name), fed) or f"it takes {', '.join(fed) or 'no feeds'}",
            )
        arrays[name] = as_array(variables[name], value)
    check_symbols(program, arrays)
    return arrays


def as_steps(program: Program, feed: object) -> dict[str, np.ndarray]:
    """The arrays of a feed for many steps: each has a first dim more than its variable, the steps.

    Args:
        program: whose variables are fed.
        feed: a dict from names to arrays, or to lists of what each step is fed.

    Raises:
        ArgumentTypeError: the feed is not a dict.
        FeedError: the first step's values do not fit, as in ``as_feed``.
    """
    if not isinstance(feed, Mapping):
        raise ArgumentTypeError(
            f"feed must be a dict from names to arrays, not {type(feed).__name__}"
        )
    arrays = {name: value if isinstance(value, np.ndarray) else np.asarray(
        value, getattr(program.global_block().vars.get(name), "dtype", None))
        for name, value in feed.items()}  # fmt: skip
    as_feed(program, {name: array[0] for name, array in arrays.items()})
    return arrays


def as_array(variable: Variable, value: object) -> Any:  # noqa: ANN401 - an array, or a list
    """A fed value as an array of its variable's type; of a sequence or an optional as it is fed.

    Args:
        variable: what is fed.
        value: an array, a list or a number.

    Raises:
        FeedError: the value has another dtype, or a shape that the variable cannot have.
    """
    if isinstance(variable.tensor_type, ContainerType):
        return _as_container(variable, variable.tensor_type, value)
    array = value if isinstance(value, np.ndarray) else _converted(variable, value)
    if array.dtype.kind in STRINGS and variable.dtype.kind in STRINGS:
        array = array.astype(object)
    if array.dtype != variable.dtype:
        fix = f"feed {variable.name}.astype('{variable.dtype.name}')"
        raise _misfit(variable, array, "the wrong dtype", fix)
    if not fits(array.shape, variable.tensor_type.shape):
        fix = f"feed an array of type {variable.tensor_type}"
        raise _misfit(variable, array, "a shape it cannot take", fix)
    return array


def _as_container(variable: Variable, kind: ContainerType, value: object) -> Any:  # noqa: ANN401
    """A sequence is fed as a list of arrays, an optional as what it holds, or None."""
    if kind.kind == "optional":
        if value is None or not isinstance(kind.element, ContainerType):
            return None if value is None else np.asarray(value, kind.dtype)
        return _as_container(variable, kind.element, value)
    if kind.kind == "map" and isinstance(value, Mapping):
        return value
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise FeedError(
            f"{variable.name} is fed a {type(value).__name__}, not a {kind.kind}",
            operands=[("declared", variable.tensor_type)],
            where=variable.where,
            fix="feed a list of arrays",
        )
    if isinstance(kind.element, ContainerType):
        return [_as_container(variable, kind.element, v) for v in value]
    return [np.asarray(v, kind.dtype) for v in value]


def _converted(variable: Variable, value: object) -> np.ndarray:
    if isinstance(value, np.generic):
        return np.asarray(value)
    try:
        return np.asarray(value, variable.dtype)
    except (TypeError, ValueError) as error:
        raise FeedError(
            f"{variable.name} cannot be fed a {type(value).__name__}: {error}",
            operands=[(variable.name, variable.tensor_type)],
            where=variable.where,
            fix="feed a numpy array",
        ) from error


def _misfit(variable: Variable, array: np.ndarray, what: str, fix: str) -> FeedError:
    return FeedError(
        f"{variable.name} is fed {what}",
        operands=[
            ("declared", variable.tensor_type),
            ("fed", TensorType(array.dtype, array.shape)),
        ],
        where=variable.where,
        fix=fix,
    )


def check_symbols(program: Program, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse feeds in which a symbol stands for two sizes.

    Args:
        program: whose variables are fed.
        arrays: the fed arrays by name.

    Raises:
        FeedError: dims that share a symbol differ.
    """
    bound: dict[str, tuple[int, str]] = {}
    for name, array in arrays.items():
        declared = program.global_block().vars[name].tensor_type
        shape = array.shape if declared.shape else ()
        for dim, size in zip(declared.shape or (), shape, strict=False):
            if isinstance(dim, str) and bound.setdefault(dim, (size, name))[0] != size:
                raise _unequal(program, dim, bound[dim][1], name, arrays)


def _unequal(
    program: Program, dim: str, one: str, other: str, arrays: Mapping[str, np.ndarray]
) -> FeedError:
    variables = program.global_block().vars
    fed = [(variables[n], f"fed {list(arrays[n].shape)}") for n in (one, other)]
    return FeedError(
        f"{one} and {other} are fed different sizes of the dim {dim}",
        operands=[(f"{v.name} : {v.tensor_type}", shape) for v, shape in fed],
        where=program.equal_dims.get(dim, variables[other].where),
        fix=f"feed {one} and {other} with equal sizes (declare a dim that broadcasts as 1)",
    )
