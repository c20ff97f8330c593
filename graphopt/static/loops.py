"""Loops of static.nn: functions recorded once, repeated while running."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphopt.errors import ArgumentError, DTypeError, ShapeError
from graphopt.ir.edit.control import BOOL, I64, slice_type
from graphopt.ir.model.control_types import merged
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import ContainerType, Dim, Inferred, TensorType
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.static.bodies import (
    Function,
    Widened,
    as_operand,
    attempt,
    close,
    listed,
    need_function,
    need_same_form,
    recorded,
    truth,
    whole,
    wrong_kind,
)
from graphopt.static.nests import Nest, leaves, packed, structure
from graphopt.tensor.manipulation import flip
from graphopt.tensor.operands import named


def while_loop(
    cond: Function,
    body: Function,
    loop_vars: Sequence[Nest],
    is_test: bool = False,
    name: str | None = None,
) -> Nest:
    """``loop_vars = body(*loop_vars)`` as long as ``cond(*loop_vars)``; the values in the end.

    ``loop_vars`` is a list or tuple of Variables, numbers, or tuples, lists and dicts of these.
    Values keep their dtypes and numbers of dims; a dim that the body changes is open inside. Both
    functions may be called again, with such a dim, while the loop is recorded. ``name`` names the
    results. ``is_test`` is accepted as in Paddle and changes nothing.

    >>> while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2), (0, x))
    (<Variable loop_0 : i64[]>, <Variable loop_1 : f32[N, 4]>)

    Raises:
        ArgumentTypeError: ``cond`` or ``body`` cannot be called, ``loop_vars`` is not a list or
            tuple, or the condition not a Variable.
        ArgumentError: no ``loop_vars``, the body returns something of another form, or a function
            records outside of itself.
        DTypeError, ShapeError: the body changes a dtype or the number of dims, or the condition is
            not one bool.
        StateError: a function assigns state.
    """
    need_function("while_loop: cond", cond)
    need_function("while_loop: body", body)
    if not isinstance(loop_vars, (list, tuple)):
        raise wrong_kind("while_loop: loop_vars must be a list or tuple", loop_vars)
    if not leaves(loop_vars):
        raise ArgumentError("while_loop: loop_vars is empty", where=here())
    g = recorder(*leaves(loop_vars))
    return whole(g.program, lambda: _while(g, cond, body, loop_vars, name))


def _while(
    g: Tape, cond: Function, body: Function, loop_vars: Sequence[Nest], name: str | None
) -> Nest:
    start = [as_operand(g, v) for v in leaves(loop_vars)]
    position, types = attempt().next_loop(start)
    going = _going(g, cond, packed(loop_vars, start))
    formals = _formals(start, types)

    def iteration(i: Variable, going: Variable, *values: Variable) -> list[Variable]:
        made = _same_form(loop_vars, body(*packed(loop_vars, values)))
        after = [as_operand(g, v, t.dtype) for v, t in zip(leaves(made), types, strict=True)]
        return [_going(g.program.recorder(), cond, packed(loop_vars, after)), *after]

    block, results = recorded(
        "while_loop", g.program, iteration, [("i", I64), ("going", BOOL), *formals]
    )
    after = results[1:]
    if not all(map(_settled, types, start, after)):
        raise Widened(position, list(map(_opened, types, start, after)))
    close("while_loop", block, results)
    made = g.emit("Loop", None, going, *start, outputs=len(start), body=block)
    return packed(loop_vars, [named(v, name) for v in listed(made)])


def _going(g: Tape, cond: Function, values: Sequence[Nest]) -> Variable:
    return truth(g, "while_loop: cond's result", cond(*values))


def _formals(
    values: Sequence[Variable], types: Sequence[TensorType]
) -> list[tuple[str, TensorType]]:
    names = ["v" if isinstance(v, Constant) else v.name for v in values]
    return list(zip(names, types, strict=True))


def _same_form(loop_vars: Sequence[Nest], made: Nest) -> Nest:
    """What a body returns; a single value need not be in a list."""
    if len(loop_vars) == 1 and structure([made]) == structure(loop_vars):
        made = [made]
    need_same_form("while_loop", ("loop_vars", loop_vars), ("body's result", made))
    return made


def _settled(inside: TensorType, start: Variable, after: Variable) -> bool:
    """Whether a loop's value fits its type inside, both at the start and behind the body.

    A dim that is not the start's has been opened: it takes any.
    """
    _check_kept("while_loop", inside, after)
    found = after.tensor_type
    if isinstance(inside, ContainerType):
        return inside == found or inside.element.shape is None
    if inside.shape is None or found.shape is None:
        return inside.shape is None
    dims = zip(inside.shape, start.tensor_type.shape or inside.shape, found.shape, strict=True)
    return all(dim == new or dim != first for dim, first, new in dims)


def _opened(inside: TensorType, start: Variable, after: Variable) -> Inferred:
    """A type that also takes what the body makes."""
    if isinstance(inside, ContainerType):
        return merged(inside, after.tensor_type)
    shapes = [t.shape for t in (inside, start.tensor_type, after.tensor_type)]
    if None in shapes:
        return Inferred(inside.dtype)
    dims = zip(*(shape or () for shape in shapes), strict=True)
    return Inferred(inside.dtype, tuple(d[0] if d[0] == d[1] == d[2] else None for d in dims))


def _check_kept(what: str, inside: TensorType, after: Variable) -> None:
    """Raise unless dtype, kind of container and number of dims are kept."""
    found = after.tensor_type
    shown = [("before", inside), (f"after: {after.name}", found)]
    containers = isinstance(inside, ContainerType), isinstance(found, ContainerType)
    if inside.dtype != found.dtype or containers[0] != containers[1]:
        fix = f"cast it: {after.name}.astype('{inside.dtype.name}'), or start from another dtype"
        raise DTypeError(f"{what}: the body changes a dtype", operands=shown, where=here(), fix=fix)
    if None not in (inside.rank, found.rank) and inside.rank != found.rank:
        raise ShapeError(
            f"{what}: the body changes a number of dims",
            operands=shown,
            where=here(),
            fix="reshape the value before the loop, or in the body",
        )


def scan(
    fn: Callable[[Nest, Nest], tuple[Nest, Nest]],
    init: Nest,
    xs: Nest = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Nest, Nest]:
    """``carry, y = fn(carry, x)`` for every x along the first dim of ``xs``; as jax.lax.scan.

    The first carry is ``init``. Returns the last carry, and the y of all steps stacked along a new
    first dim. A carry keeps its type. ``reverse`` starts with the last x, whose y comes last.
    Without ``xs`` there are ``length`` steps, and x is None.

    >>> scan(lambda total, row: (total + row, total), x[0], x)
    (<Variable scan_0 : f32[4]>, <Variable scan_1 : f32[N, 4]>)

    Raises:
        ArgumentTypeError: ``fn`` cannot be called, or does not return a pair.
        ArgumentError: ``fn`` returns something of another form or records outside of itself,
            lengths differ, or there are neither ``xs`` nor ``length``.
        DTypeError, ShapeError: ``fn`` changes the carry's type, or something in ``xs`` has no dims.
        StateError: ``fn`` assigns state.
    """
    need_function("scan: fn", fn)
    g = recorder(*leaves(init), *leaves(xs))
    return whole(g.program, lambda: _scan(g, fn, init, xs, length, reverse))


def _scan(
    g: Tape, fn: Function, init: Nest, xs: Nest, length: int | None, reverse: bool
) -> tuple[Nest, Nest]:
    start = [as_operand(g, v) for v in leaves(init)]
    scanned = _scanned(g, xs, length)
    inputs = [flip(x, 0) for x in scanned] if reverse else scanned
    count = len(start)

    def step(*values: Variable) -> tuple[Nest, Nest]:
        made = fn(packed(init, values[:count]), packed(xs, values[count:]))
        if not (isinstance(made, (list, tuple)) and len(made) == 2):
            raise wrong_kind("scan: fn must return (carry, y)", made)
        need_same_form("scan", ("init", init), ("the carry", made[0]))
        return made[0], made[1]

    formals = _formals(start, [v.tensor_type for v in start])
    slices = _formals(inputs, [slice_type(g, x) for x in inputs])
    block, (carry, y) = recorded("scan: fn", g.program, step, [*formals, *slices])
    with g.program.recording(block):
        after = [_kept(v, like) for v, like in zip(leaves(carry), start, strict=True)]
    results = [*after, *(as_operand(g, v) for v in leaves(y))]
    close("scan: fn", block, results)
    made = g.emit(
        "Scan", *start, *inputs, outputs=len(results), body=block, num_scan_inputs=len(inputs)
    )
    stacks = listed(made)[count:]
    stacks = [flip(v, 0) for v in stacks] if reverse else stacks
    return packed(init, listed(made)[:count]), packed(y, stacks)


def _scanned(g: Tape, xs: Nest, length: int | None) -> list[Variable]:
    """The values that are scanned: those in ``xs``, or without any the numbers of the steps.

    Raises:
        ArgumentError: lengths differ, or there is none.
        ShapeError: a value has no dims.
    """
    found = [as_operand(g, v) for v in leaves(xs)]
    if not found:
        if length is None:
            raise ArgumentError("scan: without xs it needs a length", where=here())
        return [g.Range(0, length, 1)]
    for v in found:
        if v.ndim == 0:
            raise ShapeError(f"scan: {v.name} has no dim to go along", where=here())
    lengths: list[Dim] = [] if length is None else [length]
    lengths += [(v.tensor_type.shape or ())[0] for v in found]
    if len({n for n in lengths if isinstance(n, int)}) > 1:
        shown = [(v.name, v.tensor_type) for v in found]
        raise ArgumentError(f"scan: the lengths {lengths} differ", operands=shown, where=here())
    return found


def _kept(value: object, start: Variable) -> Variable:
    """The next carry. It has the first one's shape, or the run fails.

    Raises:
        DTypeError, ShapeError: it has another dtype or shape.
    """
    g = start.program.recorder()
    after = as_operand(g, value, start.dtype)
    kind = start.tensor_type
    _check_kept("scan", kind, after)
    if after.tensor_type == kind:
        return after
    dims = zip(kind.shape or (), after.tensor_type.shape or (), strict=False)
    if any(d != e for d, e in dims if isinstance(d, int) and isinstance(e, int)):
        raise ShapeError(
            "scan: fn changes the carry's shape",
            operands=[("init", kind), (f"after: {after.name}", after.tensor_type)],
            where=here(),
            fix="start from the shape that it keeps",
        )
    return typed(g.Identity(after), start)
