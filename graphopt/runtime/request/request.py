"""What a run is asked for: feeds checked against their variables, fetches made plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from graphopt.errors import (
    ArgumentError,
    ArgumentTypeError,
    FeedError,
    UnknownVariableError,
    did_you_mean,
)
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Constant, Parameter, Variable
from graphopt.ir.types.literals import STRINGS
from graphopt.ir.types.types import ContainerType, TensorType, fits

Feed: TypeAlias = Mapping[str, Any]


@dataclass
class Request:
    """The fetched variables, and which state the run may change.

    ``roots`` are the update ops that were fetched; ``updates`` is 'all' for an ordinary run,
    'roots' where optimizer ops were given, 'none' where only (parameter, gradient) pairs were.
    """

    fetch: list[Variable] = field(default_factory=list)
    roots: list[Operator] = field(default_factory=list)
    updates: str = "all"


def as_request(program: Program, fetch_list: object) -> Request:
    """Flatten a fetch_list: Variables, names, nested lists of them, and what ``minimize`` returned.

    Raises:
        ArgumentTypeError: an element of another kind, or an op that does not update.
        UnknownVariableError: a name, or another Program's variable, is not in this Program.
    """
    request = Request()
    if fetch_list is None:
        return request
    items = fetch_list if isinstance(fetch_list, (list, tuple)) else [fetch_list]
    if is_minimize_result(items) or is_param_grad(items):
        items = [items]
    for item in items:
        _add(program, request, item)
    if request.roots:
        request.updates = "roots"
    return request


def is_minimize_result(item: object) -> bool:
    """Whether this is (optimize_ops, params_grads)."""
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and is_operators(item[0])
        and isinstance(item[1], (list, tuple))
    )


def is_operators(item: object) -> bool:
    """Whether this is a non-empty list of ops."""
    return isinstance(item, (list, tuple)) and bool(item) and isinstance(item[0], Operator)


def is_param_grad(item: object) -> bool:
    """Whether this is a (parameter, gradient) pair."""
    return (
        isinstance(item, (list, tuple))
        and len(item) == 2
        and isinstance(item[0], Parameter)
        and isinstance(item[1], Variable)
        and item[1].name.startswith(item[0].grad_name)
    )


def _add(program: Program, request: Request, item: object) -> None:
    if is_minimize_result(item):
        assert isinstance(item, tuple)
        _add(program, request, item[0])
        return
    if isinstance(item, Operator):
        request.roots.append(_update_op(program, item))
        return
    if isinstance(item, (Variable, str)):
        request.fetch.append(find_variable(program, item))
        return
    if not isinstance(item, (list, tuple)):
        raise ArgumentTypeError(
            f"fetch_list cannot hold a {type(item).__name__}",
            fix="fetch Variables, names, or what minimize returned",
        )
    if is_param_grad(item) and request.updates == "all":
        request.updates = "none"
    for part in item:
        _add(program, request, part)


def _update_op(program: Program, op: Operator) -> Operator:
    if op.block is None or op.block.program is not program:
        raise ArgumentError(
            f"{op!r} is not an op of this Program",
            where=op.where,
            fix="fetch what minimize returned for the Program that is run",
        )
    if not any(v.persistable for v in op.writes()):
        raise ArgumentTypeError(
            f"{op.type} in fetch_list does not update anything",
            where=op.where,
            fix="fetch the Variable it makes",
        )
    return op


def find_variable(program: Program, item: Variable | str) -> Variable:
    """The Program's variable of this name; a Variable must be the Program's, or a clone's twin."""
    if isinstance(item, Variable) and item.program.family is not program.family:
        raise UnknownVariableError(
            f"{item.name} belongs to another Program",
            operands=[(item.name, item.tensor_type)],
            where=item.where,
            fix="fetch a variable of the Program that is run",
        )
    if isinstance(item, Constant):
        return item
    name = item if isinstance(item, str) else item.name
    if name in program.global_block().vars:
        return program.global_block().vars[name]
    for v in program.list_vars():
        if v.name == name:
            raise UnknownVariableError(
                f"{name} is made inside a body of control flow, where it cannot be fetched",
                operands=[(name, v.tensor_type)],
                where=v.where,
                fix=f"return {name} from the body, and fetch what the control flow gives",
            )
    known = [v.name for v in program.list_vars()]
    raise UnknownVariableError(
        f"the Program has no variable {name!r} to fetch",
        where=None if isinstance(item, str) else item.where,
        fix=did_you_mean(name, known) or f"it has {', '.join(known[:8])}, …",
    )


def as_feed(program: Program, feed: object) -> dict[str, np.ndarray]:
    """Arrays by variable name, each of its variable's dtype and of a shape that fits.

    Lists and Python numbers take the variable's dtype; arrays must have it.

    Raises:
        ArgumentTypeError: the feed is not a dict.
        FeedError: an unknown name, a wrong dtype or a wrong shape.
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
    """The same for the feeds of many steps: each array has a first dim more, the steps."""
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
    """A fed value as an array of the variable's type; a container's as it is."""
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
    """Dims that share a symbol must be fed equal."""
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
