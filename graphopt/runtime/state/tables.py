"""The tables of a step: which row is read and written, and how many steps there were."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from graphopt.ir.model.current_scope import uninitialized
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType
from graphopt.passes.memory.asgd_rows import PARTS, Table
from graphopt.runtime.ort.bindings import Binding
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.value_types import misfit
from graphopt.runtime.ort.values import Value, host_view, to_device, to_numpy
from graphopt.runtime.state.factored import Factored
from graphopt.runtime.state.resident import Resident
from graphopt.runtime.state.rows import Rows
from graphopt.runtime.state.scope import Scope
from graphopt.runtime.state.storages import rows_of


class Tables:
    """The tables whose rows a compiled Program moves.

    Args:
        tables: which they are, and which rows a step reads and writes.
        step: the Program of one step.
        storages: where each table lies, by name.
        place: where steps run.

    Attributes:
        all: each table with its variable.
        counts: how many steps the tables have seen, by the input that steps read it from.
    """

    def __init__(
        self, tables: Sequence[Table], step: Program, storages: Mapping[str, str], place: Place
    ) -> None:
        variables = step.global_block().vars
        dtypes = {t.seen: variables[t.seen].dtype for t in tables}
        self.all = [(table, variables[table.name]) for table in tables]
        self._factors: dict[str, list[TensorType]] = {}
        for table, v in self.all:
            if table.part:
                found = variables[table.row].tensor_type
                whole = TensorType(found.dtype, (v.shape[0], *(found.shape or ())))
                self._factors.setdefault(table.name, []).append(whole)
        self.place, self.storages = place, storages
        self._fitting: dict[str, Rows] = {}
        names = {t.seen: dict.fromkeys(u.count for u in tables if u.seen == t.seen) for t in tables}
        self.counts = {
            t.seen: Counts([variables[c] for c in names[t.seen]], v.shape[0], dtypes[t.seen], place)
            for t, v in self.all
        }

    def agree(self, scope: Scope) -> bool:
        """Whether tables that share a count have seen as many steps, as they have in ``scope``.

        They have not where some updates were run without the others.

        Raises:
            UninitializedError: a count has no value yet.
        """
        return all(counts.agree(scope) for counts in self.counts.values())

    def takes(self, scope: Scope) -> bool:
        """Whether the tables that are to be factors are so in ``scope``.

        Tables that are still all zero are made so.
        """
        for name, (left, right) in self._factors.items():
            value: object = scope.values.get(name)
            if isinstance(value, Factored):
                if value.types != (left, right) or value.place != self.place:
                    return False
            elif isinstance(value, Resident) and value.untouched:
                scope.values[name] = Factored(left, right, self.place)
            elif value is not None:
                return False
        return True

    def rows(self, scope: Scope) -> list[Rows]:
        """The rows of each table in ``scope``, each at its position.

        Raises:
            UninitializedError: a table has no value yet.
            FeedError: one has another type than the Program's.
        """
        found = []
        for table, v in self.all:
            rows = self._part(table, v, scope) if table.part else self._rows(v, scope)
            rows.locate(scope.values[table.count])
            found.append(rows)
        return found

    def _part(self, table: Table, v: Variable, scope: Scope) -> Rows:
        value: object = scope.values.get(v.name)
        if not isinstance(value, Factored):
            raise uninitialized(v)
        return value.parts[PARTS.index(table.part)]

    def _rows(self, v: Variable, scope: Scope) -> Rows:
        """The table's rows; a value that is still in one piece, such as a loaded one, is cut up."""
        value: object = scope.values.get(v.name)
        known = self._fitting.get(v.name)
        if known is not None and value is known:
            return known
        if value is None:
            raise uninitialized(v)
        if not isinstance(value, Rows) or not value.fits(v.tensor_type, self.place):
            array = to_numpy(value)
            if TensorType(array.dtype, array.shape) != v.tensor_type:
                raise misfit(v, TensorType(array.dtype, array.shape))
            storage = self.storages.get(v.name, "device")
            value = scope.values[v.name] = rows_of(v.tensor_type, storage, self.place, array)
        self._fitting[v.name] = value
        return value

    def bind(
        self,
        binding: Binding,
        outputs: Sequence[str],
        bound: dict[str, Value],
        scope: Scope,
        over: Collection[str],
    ) -> list[Rows]:
        """Let the next run read its rows and write others.

        Args:
            binding: the run's binding.
            outputs: the outputs that hold the new rows, one a table.
            bound: the counts that the binding reads, by input; kept up to date.
            scope: where the tables are.
            over: the rows that are written over as they are read, by the name of the input.

        Returns:
            The rows that the run moves, for ``commit``.
        """
        found = self.rows(scope)
        for (table, _), output, rows in zip(self.all, outputs, found, strict=True):
            binding.input(table.row, rows.read())
            binding.output(output, rows.target(table.row in over))
        for name, counts in self.counts.items():
            seen = counts.seen()
            if bound.get(name) is not seen:
                binding.input(name, seen)
                bound[name] = seen
        return found

    def commit(self, moved: Sequence[Rows], scope: Scope) -> None:
        """Take note that a step has succeeded.

        Args:
            moved: what ``bind`` returned.
            scope: where the tables are.
        """
        for counts in self.counts.values():
            counts.advance(1, scope)
        for (table, _), rows in zip(self.all, moved, strict=True):
            rows.commit(scope.values[table.count])


class Counts:
    """How many steps some tables have seen: states that share one value while they are equal.

    Args:
        states: the states that count, each i64[1].
        n: the number of rows of each table.
        dtype: of the number that steps read.
        place: where steps run.

    Attributes:
        steps: the count.
    """

    def __init__(self, states: Sequence[Variable], n: int, dtype: np.dtype, place: Place) -> None:
        self.states, self.n, self.dtype, self.place = states, n, dtype, place
        self.names = [v.name for v in states]
        self.steps = 0
        self._same: tuple[Value, ...] = ()
        self._view: np.ndarray | None = None
        self._shown = 0
        self._seen: Value = None
        self._seen_view: np.ndarray | None = None

    def agree(self, scope: Scope) -> bool:
        """Whether the states are equal in ``scope``; then they share one value from now on.

        Raises:
            UninitializedError: one has no value yet.
        """
        found = tuple(map(scope.values.get, self.names))
        if found == self._same:
            return True
        for v, value in zip(self.states, found, strict=True):
            if value is None:
                raise uninitialized(v)
        steps = {int(to_numpy(value)[0]) for value in {id(x): x for x in found}.values()}
        if len(steps) > 1:
            return False
        self.steps = steps.pop()
        self._hold(scope)
        return True

    def _hold(self, scope: Scope) -> None:
        value = to_device(np.array([self.steps]), self.place)
        self._same, self._view = (value,) * len(self.names), host_view(value)
        for name in self.names:
            scope.values[name] = value
            scope.spares.pop(name, None)

    def seen(self) -> Value:
        """What the next step reads: the rows it may count on, min(steps + 1, n), a scalar."""
        rows = min(self.steps + 1, self.n)
        if rows != self._shown:
            if self._seen_view is None:
                self._seen = to_device(np.array(rows, self.dtype), self.place)
                self._seen_view = host_view(self._seen)
            else:
                self._seen_view[...] = rows
            self._shown = rows
        return self._seen

    def upcoming(self, steps: int) -> np.ndarray:
        """What each of the next ``steps`` steps reads: [steps]."""
        counted = np.arange(self.steps + 1, self.steps + steps + 1)
        return np.minimum(counted, self.n).astype(self.dtype)

    def advance(self, steps: int, scope: Scope) -> None:
        """Take note that ``steps`` steps have succeeded, in ``scope``."""
        self.steps += steps
        if self._view is None:
            self._hold(scope)
        else:
            self._view[0] = self.steps
