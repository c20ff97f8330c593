"""Step: a Program as a function, which is what passes change and models are written of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import TensorType
from graphopt.ir.types.where import UNKNOWN

LEFT, RIGHT = "left", "right"


@dataclass(frozen=True, eq=False)  # to compare variables would record an op
class Row:
    """A state of n rows, of which a step reads one and gives the one that takes its place.

    ``table`` and ``count`` are names of states: the rows, and how often the step has run; it uses
    row ``count`` mod n. ``row`` is the variable that is read, ``new_row`` the one that takes its
    place; ``seen`` [] is how many rows hold a gradient behind the step: min(count + 1, n). A table
    whose rows are kept as two factors is two of these, a ``part`` each: LEFT and RIGHT.
    """

    table: Variable
    count: Variable
    row: Variable
    new_row: Variable
    seen: Variable
    part: str = ""


class Step(Program):
    """What a run does, as a function of what is fed and of what is kept between runs.

    A Program assigns its state in place. A Step has a new variable for every value, each made by
    one op, and says which of them the state is next. What a variable is to the runtime stands here
    too, and in no name.

    Attributes:
        fed: the names of what is fed, in the order in which it is given.
        donated: states and rows that what takes their place may be written over, where they lie.
        rests: results that could be written to the memory of a state, before its next value is.
        slices: of a step that does many: by the name in one step, what is fed the values of all.
        stacked: of a step that does many: results that hold the values of all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fed: tuple[str, ...] = ()
        self._fetch: tuple[Variable, ...] = ()
        self._next_state: dict[Variable, Variable] = {}
        self._rows: tuple[Row, ...] = ()
        self._borrowed: dict[Variable, Variable] = {}
        self.donated: frozenset[Variable] = frozenset()
        self.rests: dict[Variable, Variable] = {}
        self.slices: dict[str, Variable] = {}
        self.stacked: tuple[Variable, ...] = ()

    @property
    def fetch(self) -> tuple[Variable, ...]:
        """The variables that a run returns, in the order they were asked for."""
        return self._fetch

    @fetch.setter
    def fetch(self, variables: Iterable[Variable]) -> None:
        self._fetch = tuple(variables)
        self._give()

    @property
    def next_state(self) -> Mapping[Variable, Variable]:
        """The value that each state has behind the run, of those that the step assigns.

        It may have another shape with as many elements: then it is the state's memory as it is.
        """
        return self._next_state

    @next_state.setter
    def next_state(self, values: Mapping[Variable, Variable]) -> None:
        self._next_state = dict(values)
        self._give()

    @property
    def rows(self) -> tuple[Row, ...]:
        """The tables of which the runtime moves single rows."""
        return self._rows

    @rows.setter
    def rows(self, rows: Iterable[Row]) -> None:
        self._rows = tuple(rows)
        self._give()

    @property
    def borrowed(self) -> Mapping[Variable, Variable]:
        """Results that are written to the memory of a state, before its next value is."""
        return self._borrowed

    @borrowed.setter
    def borrowed(self, values: Mapping[Variable, Variable]) -> None:
        self._borrowed = dict(values)
        self._give()

    def _give(self) -> None:
        """Have the block give all that somebody outside reads."""
        new_rows = [row.new_row for row in self._rows]
        self.global_block().outputs = [
            *self._fetch, *self._next_state.values(), *new_rows, *self._borrowed
        ]  # fmt: skip

    @property
    def states(self) -> list[Variable]:
        """What is kept between runs and read or assigned here."""
        return self.persistables()

    def add_state(self, name: str, tensor_type: TensorType) -> Variable:
        """A further state that the step reads."""
        block = self.global_block()
        found = Variable(name, tensor_type, block=block, where=UNKNOWN, persistable=True)
        block.add_var(found)
        return found

    def inputs(self) -> list[Variable]:
        """What is read and no op makes: feeds as they are given, then others by their first use."""
        block = self.global_block()
        found: dict[Variable, None] = {}
        for v in (*(v for op in block.ops for v in op.reads()), *block.outputs):
            if v.maker is None and not isinstance(v, Constant):
                found[v] = None
        position = {name: k for k, name in enumerate(self.fed)}
        kept = set(self.states)
        return sorted(
            found,
            key=lambda v: (
                v in kept and v.name not in position,
                position.get(v.name, len(position)),
            ),
        )

    def gives(self, variable: Variable) -> bool:
        """Whether somebody outside reads the variable."""
        return self.global_block() in variable.uses

    def in_order_of(self, inputs: Sequence[Variable]) -> None:
        """List the next state in the order of these inputs; what is not read comes last."""
        order = {v: k for k, v in enumerate(inputs)}
        ranked = sorted(self._next_state, key=lambda v: order.get(v, len(order)))
        self.next_state = {v: self._next_state[v] for v in ranked}

    def __repr__(self) -> str:
        ops = sum(len(block.ops) for block in self.blocks)
        return f"<Step {ops} ops, {len(self.states)} states, opset {self.opset}>"
