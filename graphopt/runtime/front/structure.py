"""What a selected Step is, whoever recorded it: Steps of equal structure compile once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256

import numpy as np

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import is_block
from graphopt.ir.model.variable import Constant, Variable
from graphopt.runtime.plan.plan import Selected


def structure(selected: Selected) -> bytes:
    """A digest that is equal where compiling would give the same.

    Of ops, types, constants, the names of feeds and state, and all that passes are told. What
    results are called, and on which lines ops were recorded, is not in it.
    """
    step, digest = selected.step, sha256()
    names = _Numbers()
    for part in (
        *_declared(step.global_block(), names),
        *_block(step.global_block(), names),
        [names.of(v) for v in step.fetch],
        [(names.of(v), names.of(new)) for v, new in step.next_state.items()],
        (step.fed, step.opset, sorted(step.domains.items()), sorted(step.tables.items())),
        (selected.setting, sorted(selected.zeros)),
    ):
        digest.update(repr(part).encode())
    return digest.digest()


class _Numbers:
    """Variables by when they come first; constants by what they are."""

    def __init__(self) -> None:
        self._known: dict[Variable, int] = {}

    def of(self, v: Variable | None) -> object:
        if isinstance(v, Constant):
            return v.content
        return None if v is None else self._known.setdefault(v, len(self._known))

    def all(self, variables: Iterable[Variable | None]) -> list[object]:
        return [self.of(v) for v in variables]


def _declared(block: Block, names: _Numbers) -> Iterator[object]:
    for v in block.vars.values():
        if v.maker is None:
            yield names.of(v), v.name, str(v.tensor_type), type(v).__name__, v.persistable


def _block(block: Block, names: _Numbers) -> Iterator[object]:
    yield [(names.of(v), str(v.tensor_type)) for v in block.inputs]
    for op in block.ops:
        yield _op(op, names)
        for inner in op.blocks():
            yield from _block(inner, names)
    yield names.all(block.outputs)


def _op(op: Operator, names: _Numbers) -> object:
    attrs = [
        (name, _frozen(value))
        for name, value in op.attrs.items()
        if not is_block(op.definition, name)
    ]
    types = [None if v is None else str(v.tensor_type) for v in op.outputs]
    definition = op.definition.type, op.definition.since
    return (
        definition,
        names.all(op.inputs),
        names.all(op.outputs),
        types,
        attrs,
        op.role,
        op.made_by,
    )


def _frozen(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return value
