"""Nests: tuples, lists and dicts of leaves, however deep. None is a nest without leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

Nest: TypeAlias = Any


def leaves(nest: Nest) -> list[Any]:
    """The leaves; those of a dict by its keys in order.

    >>> leaves({"b": [3, (4,)], "a": 2, "c": None})
    [2, 3, 4]
    """
    if nest is None:
        return []
    if isinstance(nest, (list, tuple, dict)):
        return [leaf for part in _parts(nest) for leaf in leaves(part)]
    return [nest]


def _parts(nest: list[Nest] | tuple[Nest, ...] | dict[Any, Nest]) -> Iterable[Nest]:
    return [nest[key] for key in sorted(nest, key=str)] if isinstance(nest, dict) else nest


def packed(nest: Nest, values: Iterable[Any]) -> Nest:
    """A nest of the form of ``nest`` whose leaves are ``values``, in the order of ``leaves``.

    >>> packed({"b": [3, (4,)], "a": 2, "c": None}, "xyz")
    {'b': ['y', ('z',)], 'a': 'x', 'c': None}
    """
    return _packed(nest, iter(values))


def _packed(nest: Nest, values: Iterator[Any]) -> Nest:
    if nest is None:
        return None
    if isinstance(nest, dict):
        made = {key: _packed(nest[key], values) for key in sorted(nest, key=str)}
        return {key: made[key] for key in nest}
    if isinstance(nest, (list, tuple)):
        parts = [_packed(part, values) for part in nest]
        build: Callable[..., Nest] = type(nest)
        return build(*parts) if hasattr(nest, "_fields") else build(parts)
    return next(values)


def structure(nest: Nest) -> str:
    """The nest's form: equal for nests that differ in their leaves alone.

    >>> structure({"b": [3, (4,)], "a": 2, "c": None})
    '{a: *, b: [*, [*]], c: None}'
    """
    if nest is None:
        return "None"
    if isinstance(nest, dict):
        return f"{{{', '.join(f'{k}: {structure(nest[k])}' for k in sorted(nest, key=str))}}}"
    if isinstance(nest, (list, tuple)):
        return f"[{', '.join(map(structure, nest))}]"
    return "*"
