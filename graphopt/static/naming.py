"""What the functions of static.nn share: activations by name, names of layers, dims they need."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from graphopt.errors import ArgumentError, ShapeError, did_you_mean
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.nn import functional
from graphopt.nn.functional.windows import CHANNELS_LAST
from graphopt.scoping import default_main_program, default_startup_program

P = ParamSpec("P")
R = TypeVar("R")

ACTIVATIONS: dict[str, Callable[[Variable], Variable]] = {
    "elu": functional.elu,
    "gelu": functional.gelu,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_swish": functional.hardswish,
    "leaky_relu": functional.leaky_relu,
    "log_softmax": functional.log_softmax,
    "logsigmoid": functional.log_sigmoid,
    "mish": functional.mish,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "selu": functional.selu,
    "sigmoid": functional.sigmoid,
    "silu": functional.silu,
    "softmax": functional.softmax,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "swish": functional.swish,
    "tanh": functional.tanh,
}


def activation_named(name: str | None) -> Callable[[Variable], Variable]:
    """The activation of that name; the identity for None.

    Raises:
        ArgumentError: there is no such activation.
    """
    if name is None:
        return lambda x: x
    if name not in ACTIVATIONS:
        raise ArgumentError(
            f"there is no activation {name!r}",
            where=here(),
            fix=did_you_mean(name, ACTIVATIONS) or f"use one of {', '.join(ACTIVATIONS)}",
        )
    return ACTIVATIONS[name]


def all_or_nothing(layer: Callable[P, R]) -> Callable[P, R]:
    """The function, with a promise: if it refuses what it is given, no parameter is left behind."""

    @wraps(layer)
    def whole(*args: P.args, **kwargs: P.kwargs) -> R:
        with default_main_program().all_or_nothing(), default_startup_program().all_or_nothing():
            return layer(*args, **kwargs)

    return whole


def layer_name(prefix: str, name: str | None) -> str:
    """The prefix of a layer's parameters: fc_0, or the user's name."""
    return name or default_main_program().unique_name(prefix)


def known_dim(function: str, x: Variable, axis: int) -> int:
    """A dim that a parameter's shape depends on.

    Raises:
        ArgumentError: there is no such dim.
        ShapeError: it is not known while recording.
    """
    if not 0 <= axis < x.ndim:
        raise ArgumentError(
            f"static.nn.{function}: {x.name} has no dim {axis}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix=f"reshape {x.name} first",
        )
    if x.shape[axis] == -1:
        raise ShapeError(
            f"static.nn.{function} needs to know dim {axis} of {x.name}",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="give it in static.data",
        )
    return x.shape[axis]


def channels_of(function: str, x: Variable, data_format: str) -> int:
    """The number of channels, which must be known        x: [n, c, *d] or [n, *d, c]."""
    last = x.ndim > 2 and data_format in CHANNELS_LAST.values()
    return known_dim(function, x, x.ndim - 1 if last else 1)
