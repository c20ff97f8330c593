"""Operator: an ONNX op or a composite, its operands, its results and where it came from."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING

from graphopt.errors import ArgumentError, did_you_mean
from graphopt.ir.model.schema import Attr, OpDef, is_block
from graphopt.ir.types.where import Where

if TYPE_CHECKING:
    from graphopt.ir.model.block import Block
    from graphopt.ir.model.variable import Variable


class Role(StrEnum):
    """What an op is for."""

    FORWARD = "forward"
    BACKWARD = "backward"
    CLIP = "clip"
    REGULARIZE = "regularize"
    SCHEDULE = "schedule"
    UPDATE = "update"


class Operator:
    """One op. ``inputs`` and ``outputs`` are in the schema's order; None is an omitted one.

    An output that is persistable is assigned: from here on the variable has the new value.
    """

    __slots__ = (
        "attrs",
        "block",
        "definition",
        "inputs",
        "made_by",
        "origin",
        "outputs",
        "role",
        "scope",
        "where",
    )

    def __init__(
        self,
        definition: OpDef,
        inputs: list[Variable | None],
        outputs: list[Variable | None],
        attrs: dict[str, Attr],
        role: Role,
        where: Where,
        made_by: str = "",
    ) -> None:
        self.definition = definition
        self.inputs = inputs
        self.outputs = outputs
        self.attrs = attrs
        self.role = role
        self.where = where
        self.made_by = made_by
        self.scope = ""
        self.block: Block | None = None
        self.origin: Operator | None = None  # what a gradient rule's view of an op is a view of

    def over(
        self, inputs: list[Variable | None], outputs: list[Variable | None] | None = None
    ) -> Operator:
        """A view of this op with other operands (and results), for gradient rules; in no block."""
        view = Operator(
            self.definition,
            inputs,
            self.outputs if outputs is None else outputs,
            dict(self.attrs),
            self.role,
            self.where,
            self.made_by,
        )
        view.scope, view.origin = self.scope, self.origin or self
        return view

    @property
    def type(self) -> str:
        """The op's name, such as MatMul, ASGD or ai.onnx.ml::Scaler."""
        return self.definition.type

    @property
    def idx(self) -> int:
        """The op's position in its block."""
        return -1 if self.block is None else self.block.ops.index(self)

    def operands(self) -> Iterator[Variable]:
        """The operands that are there."""
        return iter([v for v in self.inputs if v is not None])

    def blocks(self) -> list[Block]:
        """The blocks of a control-flow op."""
        if not self.definition.has_blocks:
            return []
        return [self.attrs[name] for name in self.attrs if is_block(self.definition, name)]

    def reads(self) -> Iterator[Variable]:
        """The operands that are there, and what the op's blocks read of the blocks around them."""
        captured = [block.captures() for block in self.blocks()]
        return chain(self.operands(), *captured) if captured else self.operands()

    def writes(self) -> Iterator[Variable]:
        """The results that are there."""
        return iter([v for v in self.outputs if v is not None])

    def operand(self, slot: str) -> Variable:
        """The operand of a formal input that is not variadic and not omitted."""
        found = self.maybe(slot)
        assert found is not None, f"{self.type} has no operand {slot}"
        return found

    def maybe(self, slot: str) -> Variable | None:
        """The operand of a formal input that is not variadic, or None if omitted."""
        found: list[Variable | None] = self.definition.slots(self.inputs).get(slot, [])
        return found[0] if found else None

    def result(self, slot: str) -> Variable | None:
        """The result of a formal output that is not variadic, or None if omitted."""
        found: list[Variable | None] = self.definition.result_slots(self.outputs).get(slot, [])
        return found[0] if found else None

    # The names below are paddle.static's.

    @property
    def input_names(self) -> list[str]:
        """The formal inputs."""
        return [f.name for f in self.definition.inputs]

    @property
    def output_names(self) -> list[str]:
        """The formal outputs."""
        return [f.name for f in self.definition.outputs]

    @property
    def input_arg_names(self) -> list[str]:
        """The names of the operands."""
        return [v.name for v in self.operands()]

    @property
    def output_arg_names(self) -> list[str]:
        """The names of the results."""
        return [v.name for v in self.writes()]

    def input(self, slot: str) -> list[str]:
        """The names of a formal input's operands."""
        return [v.name for v in self._slot(self.definition.slots(self.inputs), slot)]

    def output(self, slot: str) -> list[str]:
        """The names of a formal output's results."""
        return [v.name for v in self._slot(self.definition.result_slots(self.outputs), slot)]

    def _slot(self, slots: dict[str, list[Variable | None]], slot: str) -> list[Variable]:
        if slot not in slots:
            raise ArgumentError(
                f"{self.type} has no slot {slot!r}", fix=did_you_mean(slot, slots) or str([*slots])
            )
        return [v for v in slots[slot] if v is not None]

    @property
    def attr_names(self) -> list[str]:
        """The names of the attributes that have a value."""
        return list(self.attrs)

    def has_attr(self, name: str) -> bool:
        """Whether the attribute has a value (given, or the schema's default)."""
        return name in self.attrs

    def attr(self, name: str) -> Attr:
        """An attribute's value."""
        if name not in self.attrs:
            raise ArgumentError(
                f"{self.type} has no attribute {name!r}",
                fix=did_you_mean(name, self.attrs) or f"it has {self.attr_names}",
            )
        return self.attrs[name]

    def all_attrs(self) -> dict[str, Attr]:
        """All attributes."""
        return dict(self.attrs)

    def __repr__(self) -> str:
        reads = ", ".join("_" if v is None else v.name for v in self.inputs)
        writes = ", ".join("_" if v is None else v.name for v in self.outputs)
        return f"<Operator {writes} = {self.type}({reads})>"
