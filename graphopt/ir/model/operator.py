"""Operator: an ONNX op or a composite, its operands, its results and where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, TypeAlias

from graphopt.errors import ArgumentError, did_you_mean
from graphopt.ir.model.schema import Attr, OpDef, is_block
from graphopt.ir.types.where import Where

if TYPE_CHECKING:
    from graphopt.ir.model.block import Block
    from graphopt.ir.model.variable import Variable

Values: TypeAlias = "tuple[Variable | None, ...]"


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
    While the op stands in its Program, its operands list it among their uses, and its results know
    it as their maker.
    """

    __slots__ = (
        "_inputs",
        "_made",
        "_outputs",
        "_read",
        "_stands",
        "attrs",
        "block",
        "definition",
        "made_by",
        "origin",
        "role",
        "scope",
        "where",
    )

    def __init__(
        self,
        definition: OpDef,
        inputs: Sequence[Variable | None],
        outputs: Sequence[Variable | None],
        attrs: dict[str, Attr],
        role: Role,
        where: Where,
        made_by: str = "",
    ) -> None:
        self.definition = definition
        self._stands = False
        self._take_inputs(inputs)
        self._take_outputs(outputs)
        self.attrs = attrs
        self.role = role
        self.where = where
        self.made_by = made_by
        self.scope = ""
        self.block: Block | None = None
        self.origin: Operator | None = None  # what a gradient rule's view of an op is a view of

    @property
    def inputs(self) -> Values:
        """The operands in the schema's order; None is an omitted one."""
        return self._inputs

    @inputs.setter
    def inputs(self, values: Sequence[Variable | None]) -> None:
        if not self._stands:
            self._take_inputs(values)
            return
        self._note("inputs")
        self._unlink_inputs()
        self._take_inputs(values)
        self._link_inputs()

    @property
    def outputs(self) -> Values:
        """The results in the schema's order; None is one that is left out."""
        return self._outputs

    @outputs.setter
    def outputs(self, values: Sequence[Variable | None]) -> None:
        if not self._stands:
            self._take_outputs(values)
            return
        self._note("outputs")
        self._unlink_outputs()
        self._take_outputs(values)
        self._link_outputs()

    def _take_inputs(self, values: Sequence[Variable | None]) -> None:
        self._inputs: Values = tuple(values)
        self._read = tuple([v for v in self._inputs if v is not None])

    def _take_outputs(self, values: Sequence[Variable | None]) -> None:
        self._outputs: Values = tuple(values)
        self._made = tuple([v for v in self._outputs if v is not None])

    def _note(self, field: str) -> None:
        journal = None if self.block is None else self.block.program.journal
        if journal is not None:
            journal.field(self, field)

    @property
    def stands(self) -> bool:
        """Whether the op is one of its Program's."""
        return self._stands

    def place(self) -> None:
        """The op stands in its Program from now on, with all blocks that it has."""
        if self._stands:
            return
        self._stands = True
        self._link_inputs()
        self._link_outputs()
        assert self.block is not None, "an op stands in a block"
        for block in self.blocks():
            block.enter(self.block)

    def lift(self) -> None:
        """The op is none of its Program's any more."""
        if not self._stands:
            return
        self._stands = False
        self._unlink_inputs()
        self._unlink_outputs()
        for block in self.blocks():
            block.leave()

    def _link_inputs(self) -> None:
        for v in self._read:
            v.uses[self] = v.uses.get(self, 0) + 1

    def _unlink_inputs(self) -> None:
        for v in self._read:
            v.uses.pop(self, None)

    def _link_outputs(self) -> None:
        for v in self._made:
            if not v.persistable:
                v.maker = self

    def _unlink_outputs(self) -> None:
        for v in self._made:
            if v.maker is self:
                v.maker = None

    def over(
        self, inputs: Sequence[Variable | None], outputs: Sequence[Variable | None] | None = None
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
        return iter(self._read)

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
        return iter(self._made)

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
