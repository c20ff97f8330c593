"""What a run is asked for: the fetched variables, and which updates are to run."""

from __future__ import annotations

from dataclasses import dataclass, field

from graphopt.errors import (
    ArgumentError,
    ArgumentTypeError,
    UnknownVariableError,
    did_you_mean,
)
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Constant, Parameter, Variable


@dataclass
class Request:
    """What a run is asked for.

    Attributes:
        fetch: the variables whose values are to be returned.
        roots: the update ops that were fetched.
        updates: which states the run may change: 'all' in an ordinary run, those of 'roots' where
            update ops were fetched, 'none' where only (parameter, gradient) pairs were.
    """

    fetch: list[Variable] = field(default_factory=list)
    roots: list[Operator] = field(default_factory=list)
    updates: str = "all"


def as_request(program: Program, fetch_list: object) -> Request:
    """What a ``fetch_list`` asks for.

    Args:
        program: the Program that is to run.
        fetch_list: a Variable, a name, an update op, what ``minimize`` returned, or lists of these.

    Raises:
        ArgumentTypeError: an element of another kind, or an op that does not update.
        ArgumentError: an op of another Program.
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
    """Whether ``item`` is what ``minimize`` returned: (optimize_ops, params_grads)."""
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and is_operators(item[0])
        and isinstance(item[1], (list, tuple))
    )


def is_operators(item: object) -> bool:
    """Whether ``item`` is a list of ops that is not empty."""
    return isinstance(item, (list, tuple)) and bool(item) and isinstance(item[0], Operator)


def is_param_grad(item: object) -> bool:
    """Whether ``item`` is a (parameter, gradient) pair."""
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
    """The variable of a Program that is fetched.

    Args:
        program: the Program that is to run.
        item: its name; or a Variable of this Program, of what it is a clone of, or of a clone.

    Raises:
        UnknownVariableError: there is none, it is another Program's, or is made inside control
            flow.
    """
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
