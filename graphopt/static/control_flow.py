"""paddle.static.nn's control flow: functions recorded once, chosen or repeated while running.

The functions may use layers, parameters and variables made outside. What they make inside leaves
them as their result only. Everything is differentiable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce

import numpy as np

from graphopt.errors import ArgumentError, DTypeError, ShapeError
from graphopt.ir.model.control_types import merged
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.static.bodies import (
    Function,
    as_operand,
    close,
    listed,
    need_function,
    need_same_form,
    recorded,
    truth,
    whole,
    wrong_kind,
)
from graphopt.static.loops import scan, while_loop
from graphopt.static.nests import Nest, leaves, packed
from graphopt.tensor.operands import named


def cond(
    pred: Variable,
    true_fn: Function | None = None,
    false_fn: Function | None = None,
    name: str | None = None,
    return_names: Sequence[str] | None = None,
) -> Nest:
    """What ``true_fn()`` or ``false_fn()`` returns, as ``pred`` says while running.

    Both return None, a Variable or number, or tuples, lists and dicts of these, of the same form
    and dtypes; dims may differ. A function that is left out returns None. ``name`` names the
    results, ``return_names`` names them in errors.

    >>> cond(x.sum() > 0, lambda: x * 2, lambda: x - 1)
    <Variable if_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: ``pred`` is no Variable, a function cannot be called, or a result is
            neither a Variable nor a number.
        ArgumentError: the results differ in form, or the functions record outside of themselves.
        DTypeError: ``pred`` is no bool, or two results have different dtypes.
        ShapeError: ``pred`` has more than one element.
        StateError: a function assigns state.
    """
    need_function("cond: true_fn", true_fn, optional=True)
    need_function("cond: false_fn", false_fn, optional=True)
    g = recorder(pred)
    functions = (true_fn or _nothing, false_fn or _nothing)
    return whole(g.program, lambda: _cond(g, pred, functions, name, return_names or ()))


def _nothing() -> None:
    """What a function that was left out does."""


def _cond(
    g: Tape,
    pred: Variable,
    functions: tuple[Function, Function],
    name: str | None,
    names: Sequence[str],
) -> Nest:
    condition = truth(g, "cond: pred", pred)
    then, left = recorded("cond: true_fn", g.program, functions[0])
    orelse, right = recorded("cond: false_fn", g.program, functions[1])
    need_same_form("cond", ("true_fn's result", left), ("false_fn's result", right))
    pairs = [
        _agreed(g, names[k] if k < len(names) else f"result {k}", a, b)
        for k, (a, b) in enumerate(zip(leaves(left), leaves(right), strict=True))
    ]
    close("cond: true_fn", then, [a for a, _ in pairs])
    close("cond: false_fn", orelse, [b for _, b in pairs])
    if not pairs:
        return left
    made = g.emit("If", condition, outputs=len(pairs), then_branch=then, else_branch=orelse)
    return packed(left, [named(v, name) for v in listed(made)])


def _agreed(g: Tape, label: str, a: object, b: object) -> tuple[Variable, Variable]:
    """A result of both branches; a number takes the other's dtype."""
    dtype = next((v.dtype for v in (a, b) if isinstance(v, Variable)), None)
    if dtype is None and {type(a), type(b)} == {int, float}:
        dtype = np.dtype("f4")
    left, right = as_operand(g, a, dtype), as_operand(g, b, dtype)
    try:
        merged(left.tensor_type, right.tensor_type)
    except ShapeError as error:
        sides = zip(("true_fn", "false_fn"), (left, right), strict=True)
        raise DTypeError(
            f"cond: {label} has different dtypes in the two branches",
            operands=[(f"{side}: {v.name}", v.tensor_type) for side, v in sides],
            where=here(),
            fix=f"cast one of them: {right.name}.astype('{left.dtype.name}')",
        ) from error
    return left, right


def case(
    pred_fn_pairs: Sequence[tuple[Variable, Function]],
    default: Function | None = None,
    name: str | None = None,
) -> Nest:
    """What the function beside the first true predicate returns; else what ``default()`` does.

    ``pred_fn_pairs`` is a list of (predicate, function). Without ``default`` the last function is
    taken when no predicate is true. ``name`` names the results.

    >>> case([(x.sum() > 1, lambda: x), (x.sum() > 0, lambda: x * 2)], default=lambda: -x)
    <Variable if_1 : f32[N, 4]>

    Raises:
        ArgumentTypeError: not a list of (Variable, function) pairs.
        ArgumentError: the list is empty.
        DTypeError, ShapeError, StateError: as ``cond``, and so are the other errors of the
            functions.
    """
    if not isinstance(pred_fn_pairs, (list, tuple)):
        raise wrong_kind("case: pred_fn_pairs must be a list or tuple", pred_fn_pairs)
    for pair in pred_fn_pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], Variable)):
            raise wrong_kind("case: pred_fn_pairs must hold (Variable, function) tuples", pair)
        need_function("case: the second of a pair", pair[1])
    if not pred_fn_pairs:
        raise ArgumentError("case: pred_fn_pairs is empty", where=here())
    need_function("case: default", default, optional=True)
    pairs = list(pred_fn_pairs)
    return _first(pairs, default or pairs.pop()[1], name)


def _first(
    pairs: Sequence[tuple[Variable, Function]], otherwise: Function, name: str | None
) -> Nest:
    """What belongs to the first true predicate, found by halving: files cannot hold deep nests."""
    if len(pairs) < 2:
        return cond(*pairs[0], otherwise, name) if pairs else otherwise()
    half = len(pairs) // 2
    left, right = pairs[:half], pairs[half:]
    g = recorder(left[0][0])
    any_left = reduce(g.Or, [truth(g, "case: pred", pred) for pred, _ in left])
    in_left = partial(_first, left[:-1], left[-1][1], name)
    return cond(any_left, in_left, partial(_first, right, otherwise, name), name)


def switch_case(
    branch_index: Variable,
    branch_fns: Mapping[int, Function] | Sequence[Function | tuple[int, Function]],
    default: Function | None = None,
    name: str | None = None,
) -> Nest:
    """What the function of index ``branch_index`` returns; else what ``default()`` does.

    ``branch_fns`` is a dict from ints to functions, a list of (int, function), or a list of
    functions, numbered from 0. Without ``default`` the one of the largest index is taken. ``name``
    names the results.

    >>> switch_case(label[0], {1: lambda: x, 3: lambda: x * 3})
    <Variable if_0 : f32[N, 4]>

    Raises:
        ArgumentTypeError: ``branch_index`` is no Variable of ints, or a function cannot be called.
        ArgumentError: an index comes twice, or there is no function.
        DTypeError, ShapeError, StateError: as ``cond``, and so are the other errors of the
            functions.
    """
    if not isinstance(branch_index, Variable) or branch_index.dtype.kind not in "iu":
        raise wrong_kind("switch_case: branch_index must be a Variable of one int", branch_index)
    g = recorder(branch_index)
    functions = _numbered(branch_fns)
    pairs = [(g.Equal(branch_index, k), functions[k]) for k in sorted(functions)]
    return case(pairs, default, name)


def _numbered(branch_fns: object) -> dict[int, Function]:
    """The functions by index."""
    if not isinstance(branch_fns, (Mapping, list, tuple)):
        raise wrong_kind("switch_case: branch_fns must be a dict, list or tuple", branch_fns)
    items = list(branch_fns.items() if isinstance(branch_fns, Mapping) else branch_fns)
    if not any(isinstance(item, tuple) for item in items):
        items = list(enumerate(items))
    functions: dict[int, Function] = {}
    for item in items:
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], int)):
            raise wrong_kind("switch_case: branch_fns must hold (int, function) tuples", item)
        need_function(f"switch_case: branch {item[0]}", item[1])
        if item[0] in functions:
            raise ArgumentError(f"switch_case: the index {item[0]} comes twice", where=here())
        functions[item[0]] = item[1]
    return functions


__all__ = ["case", "cond", "scan", "switch_case", "while_loop"]
