"""Value numbering: ops of one type over equal operands and attributes compute one value."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.schema import Attr
from graphopt.ir.model.tape import Operand, Tape
from graphopt.ir.model.variable import Variable

Key: TypeAlias = Hashable


def attrs_key(attrs: Mapping[str, Attr]) -> Key:
    """Equal for equal attributes, none of which is a block."""
    return tuple((name, _frozen(value)) for name, value in attrs.items())


def _frozen(value: Attr) -> Hashable:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(v) for v in value)
    if isinstance(value, float):
        return "float", value.hex()  # 0.0 == -0.0, but 1 / 0.0 is not 1 / -0.0
    return type(value).__name__, value


class SharingTape(Tape):
    """A scratch tape that records no op twice: the results of the first one stand for both.

    ``known`` has the ops that such tapes have spliced into the block. Ops that have blocks, and
    those whose results are named or given, are always recorded. Not for random ops: two of them
    would become one.
    """

    def __init__(
        self, block: Block, known: dict[Key, Operator], *, role: Role, made_by: str
    ) -> None:
        super().__init__(block, role=role, made_by=made_by, scratch=True)
        self.known = known
        self.keys: dict[Operator, Key] = {}
        self.found: dict[Key, Operator] = {}

    def emit(self, type: str, /, *operands: Operand, **options: Any) -> Any:  # noqa: ANN401 - as Tape's
        """Record one op, or give the results of the one like it; arguments are ``Tape.emit``'s."""
        given = any(options.get(name) is not None for name in ("into", "names"))
        if given or any(isinstance(value, Block) for value in options.values()):
            return super().emit(type, *operands, **options)
        values = tuple(v if isinstance(v, Variable) else _frozen(v) for v in operands)
        key = (type, values, attrs_key(options))
        op = self.found.get(key) or self.known.get(key)
        if op is None:
            made = super().emit(type, *operands, **options)
            assert self.scratch is not None
            op = self.found[key] = self.scratch[-1]
            self.keys[op] = key
            return made
        count = options.get("outputs", 1)  # the op may have been given more since
        return op.outputs[0] if count == 1 else tuple(op.outputs[:count])

    def splice(self, wanted: Iterable[Variable]) -> list[Operator]:
        """Append the scratch ops that ``wanted`` needs to the block, for others to share."""
        kept = super().splice(wanted)
        self.known.update({self.keys[op]: op for op in kept if op in self.keys})
        return kept
