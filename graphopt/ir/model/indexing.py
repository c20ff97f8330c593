"""``x[index]`` with ints, slices, None, Ellipsis and integer Variables, as ONNX ops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.ir.types.where import here

if TYPE_CHECKING:
    from graphopt.ir.model.variable import Variable

INT64_MAX = np.iinfo(np.int64).max


def getitem(x: Variable, index: Any) -> Variable:  # noqa: ANN401 - whatever stands in x[…]
    """One Slice for all slices and ints, then Gather, Squeeze and Unsqueeze as needed.

    Raises:
        ArgumentError: more indices than dims, an index out of range, or two index variables.
        ArgumentTypeError: an index of another kind.
    """
    items = _without_ellipsis(x, list(index) if isinstance(index, tuple) else [index])
    used = [i for i in items if i is not None]
    _check(x, used)
    return _reshaped(_gathered(_sliced(x, used), used), items)


def _is_variable(item: object) -> bool:
    return type(item).__name__ in ("Variable", "Parameter", "Constant")


def _check(x: Variable, items: list[Any]) -> None:
    for item, dim in zip(items, x.tensor_type.shape or (), strict=False):
        if _is_int(item) and isinstance(dim, int) and not -dim <= item < dim:
            raise ArgumentError(
                f"the index {item} is out of range for a dim of {dim}",
                operands=[(x.name, x.tensor_type)],
                where=here(),
            )
        if isinstance(item, slice) and item.step == 0:
            raise ArgumentError("a slice cannot have the step 0", where=here())
        if not (isinstance(item, slice) or _is_int(item) or _is_index(item)):
            raise ArgumentTypeError(
                f"{x.name} cannot be indexed with {item!r}",
                where=here(),
                fix="use ints, slices, None, ... or one integer variable",
            )
    if sum(map(_is_variable, items)) > 1:
        raise ArgumentError(
            f"{x.name} is indexed with two variables",
            operands=[(x.name, x.tensor_type)],
            where=here(),
            fix="stack them and use go.gather_nd",
        )


def _is_index(item: Any) -> bool:  # noqa: ANN401 - an index
    return _is_variable(item) and item.dtype.kind in "iu"


def _without_ellipsis(x: Variable, items: list[Any]) -> list[Any]:
    used = sum(i is not None and i is not Ellipsis for i in items)
    if used > x.ndim:
        raise ArgumentError(
            f"{x.name} has {x.ndim} dims and is indexed with {used}",
            operands=[(x.name, x.tensor_type)],
            where=x.where,
        )
    at = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
    return [*items[:at], *[slice(None)] * (x.ndim - used), *items[at + 1 :]]


def _is_int(item: object) -> bool:
    return isinstance(item, (int, np.integer)) and not isinstance(item, bool)


def _bounds(item: Any) -> tuple[int, int, int] | None:  # noqa: ANN401 - an index
    """Start, end and step of a slice or an int; None for a full slice."""
    if _is_int(item):
        return int(item), INT64_MAX if item == -1 else int(item) + 1, 1
    if not isinstance(item, slice) or item == slice(None):
        return None
    step = 1 if item.step is None else int(item.step)
    start = item.start if item.start is not None else (0 if step > 0 else INT64_MAX)
    stop = item.stop if item.stop is not None else (INT64_MAX if step > 0 else -INT64_MAX)
    return int(start), int(stop), step


def _sliced(x: Variable, items: list[Any]) -> Variable:
    cuts = [(axis, *b) for axis, item in enumerate(items) if (b := _bounds(item)) is not None]
    if not cuts:
        return x
    axes, starts, ends, steps = (np.array(c, np.int64) for c in zip(*cuts, strict=True))
    return x.program.recorder().Slice(x, starts, ends, axes, steps)


def _gathered(x: Variable, items: list[Any]) -> Variable:
    for axis, item in enumerate(items):
        if _is_variable(item):
            return x.program.recorder().Gather(x, item, axis=axis)
    return x


def _reshaped(x: Variable, items: list[Any]) -> Variable:
    """Drop the dims that ints took, then add those that None asks for."""
    gone: list[int] = []
    new: list[int] = []
    left, there = 0, 0  # dims of x, and of the result, that are left of the item
    for item in items:
        if item is None:
            new.append(there)
            there += 1
        elif _is_int(item):
            gone.append(left)
            left += 1
        else:
            width = item.ndim if _is_variable(item) else 1
            left, there = left + width, there + width
    if gone:
        x = x.program.recorder().Squeeze(x, np.array(gone, np.int64))
    if new:
        x = x.program.recorder().Unsqueeze(x, np.array(new, np.int64))
    return x
