"""The tables of a step: which row is read and written, and how many steps there were."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from graphopt.ir.model.current_scope import uninitialized
from graphopt.ir.model.step import LEFT, Row
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType
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
    """The tables of which a compiled Step moves rows, where the runtime keeps them.

    Args:
        rows: which they are, and which rows a step reads and writes.
        storages: where each table lies, by name.
        place: where steps run.

    Attributes:
        all: the rows.
        names: of each the input that reads it, and the state that counts the steps.
        counts: how many steps the tables have seen, by the input that steps read it from.
    """

    def __init__(self, rows: Sequence[Row], storages: Mapping[str, str], place: Place) -> None:
        self.all = list(rows)
        # Names, which a step needs without asking for attributes.
        self.names = [(row.row.name, row.count.name) for row in rows]
        self._factors: dict[str, list[TensorType]] = {}
        for row in rows:
            if row.part:
                found = row.row.tensor_type
                whole = TensorType(found.dtype, (row.table.shape[0], *(found.shape or ())))
                self._factors.setdefault(row.table.name, []).append(whole)
        self.place, self.storages = place, storages
        self._fitting: dict[str, Rows] = {}
        self.counts = {row.seen.name: self._counts(row) for row in rows}

    def _counts(self, row: Row) -> Counts:
        """The count that a row's table shares with others."""
        states = dict.fromkeys(other.count for other in self.all if other.seen is row.seen)
        return Counts([*states], row.table.shape[0], row.seen.dtype, self.place)

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
        for row, (_, count) in zip(self.all, self.names, strict=True):
            rows = self._part(row, scope) if row.part else self._rows(row.table, scope)
            rows.locate(scope.values[count])
            found.append(rows)
        return found

    def _part(self, row: Row, scope: Scope) -> Rows:
        value: object = scope.values.get(row.table.name)
        if not isinstance(value, Factored):
            raise uninitialized(row.table)
        left, right = value.parts
        return left if row.part == LEFT else right

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
        for (row, _), output, rows in zip(self.names, outputs, found, strict=True):
            binding.input(row, rows.read())
            binding.output(output, rows.target(row in over))
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
        for (_, count), rows in zip(self.names, moved, strict=True):
            rows.commit(scope.values[count])


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
