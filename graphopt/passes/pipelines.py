"""All that runs between a user's Program and a model, in order, each entry with its reason.

The runtime, the files' writers, the tests and docs/pipeline.md read it from here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from graphopt.errors import ArgumentError, GraphoptError, did_you_mean
from graphopt.ir.model.program import Program
from graphopt.ir.model.step import Step
from graphopt.ir.text.verify import verify
from graphopt.ops.registry.formulations import MEASURED, Machine
from graphopt.passes.draws.streams import Streams
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.dead import DeadCode
from graphopt.passes.kernels.forms import Fuse
from graphopt.passes.kernels.formulate import Formulate
from graphopt.passes.kernels.join_slices import JoinSlices
from graphopt.passes.kernels.scale_filters import ScaleFilters
from graphopt.passes.kernels.stay_blocked import StayBlocked
from graphopt.passes.memory.asgd_rows import History
from graphopt.passes.memory.group_updates import GroupUpdates
from graphopt.passes.memory.order import Schedule
from graphopt.passes.memory.overwrite import Donate, InPlace
from graphopt.passes.memory.step_in_blocks import StepInBlocks
from graphopt.passes.select.decompose import Decompose
from graphopt.passes.select.inline import Inline
from graphopt.passes.select.specialise import Specialise
from graphopt.passes.simplify.cse import CommonSubexpressions
from graphopt.passes.simplify.fold import Fold
from graphopt.passes.simplify.rewrite import Simplify
from graphopt.passes.steps.scan import Repeat

DUMP, WITHOUT = "GRAPHOPT_DUMP", "GRAPHOPT_WITHOUT"


@dataclass(frozen=True)
class Setting:
    """What the passes of one compile are told, beside the Step.

    Attributes:
        counter: the name of the state that counts runs which draw; '' where there is none.
        unknown: the types of ops that the place lacks.
        shapes: those of the feeds that are known.
        machine: what was measured of the kernels that the step is to run on.
        by_rows: whether the runtime moves single rows of ASGD's tables.
        factors: whether rows may be kept as the factors of a gradient.
        apart: whether tables count their steps apart.
        varying: states that are fed step by step.
        turn: the number of rows that a run of many steps carries from turn to turn; 0 for none.
    """

    counter: str = ""
    unknown: frozenset[str] = frozenset()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    machine: Machine = MEASURED
    by_rows: bool = True
    factors: bool = True
    apart: bool = False
    varying: tuple[str, ...] = ()
    turn: int = 0


Build: TypeAlias = Callable[[Setting], Pass | None]
Observer: TypeAlias = Callable[[Pass, Step], None]


@dataclass(frozen=True)
class Entry:
    """One place in a pipeline.

    ``build`` gives the pass that a setting asks for, None for none; ``reason`` says why it is
    there. A pass that is ``needed`` makes what the runtime could not run otherwise.
    """

    name: str
    build: Build
    reason: str
    needed: bool = False


@dataclass(frozen=True)
class Pipeline:
    """Passes in order.

    ``GRAPHOPT_DUMP=dir`` writes the Step's text after each pass, into a new folder a compile;
    ``GRAPHOPT_WITHOUT="Fuse Fold"`` leaves passes out, by name.

    >>> print(FILE)
    file
      Streams               random ops become integer ops of seed, step and index, ...
      Decompose             what the place lacks is written in ops that it has
    """

    name: str
    entries: tuple[Entry, ...]

    def run(
        self, step: Step, setting: Setting | None = None, observer: Observer | None = None
    ) -> Step:
        """Change the Step by every pass, in place, then verify it; a failure names the pass.

        ``observer`` sees each pass, and the Step before it.

        Raises:
            ArgumentError: ``GRAPHOPT_WITHOUT`` names no pass.
        """
        dump = Dump.begin(self.name, step)
        done: list[str] = []
        for made in self.passes(setting or Setting()):
            if observer is not None:
                observer(made, step)
            try:
                step = made.apply(step)
            except GraphoptError as error:
                behind = " -> ".join(done) or "nothing"
                error.add_note(f"in pass {len(done) + 1} of {self.name}: {made!r}, after {behind}")
                raise
            done.append(repr(made))
            dump.write(type(made).__name__, step)
        verify(step)
        return step

    def since(self, name: str) -> Pipeline:
        """The first pass of this name, and those behind it."""
        at = self.names().index(name)
        return replace(self, entries=self.entries[at:])

    def passes(self, setting: Setting) -> Iterator[Pass]:
        """The passes that the setting asks for, in order."""
        without = left_out()
        for entry in self.entries:
            made = None if entry.name in without else entry.build(setting)
            if made is not None:
                yield made

    def names(self) -> list[str]:
        """The names of the entries, in order."""
        return [entry.name for entry in self.entries]

    def without(self, *names: str) -> Pipeline:
        """The pipeline with passes of these names left out; it need not have all of them.

        Raises:
            ArgumentError: there is no pass of a name.
        """
        self._check(names)
        return replace(self, entries=tuple(e for e in self.entries if e.name not in names))

    def replacing(self, name: str, new: Pass) -> Pipeline:
        """The pipeline with ``new`` in the place of every pass of this name.

        Raises:
            ArgumentError: there is no pass of this name.
        """
        self._check([name])
        own = _own(new)
        return replace(self, entries=tuple(own if e.name == name else e for e in self.entries))

    def adding(self, new: Pass, *, before: str = "", after: str = "") -> Pipeline:
        """The pipeline with a pass more: before the first, or behind the last, of a name.

        Raises:
            ArgumentError: not one place is named, or the pipeline has no pass of this name.
        """
        if bool(before) == bool(after):
            raise ArgumentError("adding needs one place: before=… or after=…", fix="after='Fold'")
        places = [k for k, name in enumerate(self.names()) if name == (before or after)]
        if not places:
            raise self._unknown(before or after, self.names())
        at = places[0] if before else places[-1] + 1
        return replace(self, entries=(*self.entries[:at], _own(new), *self.entries[at:]))

    def _check(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in KNOWN and name not in self.names():
                raise self._unknown(name, KNOWN)

    def _unknown(self, name: str, known: Collection[str]) -> ArgumentError:
        return ArgumentError(
            f"the pipeline {self.name!r} has no pass {name!r}",
            fix=did_you_mean(name, known) or f"there are {', '.join(sorted(known))}",
        )

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  {e.name:<21} {e.reason}" for e in self.entries)])


def _own(new: Pass) -> Entry:
    return Entry(type(new).__name__, lambda setting: new, "added by the user")


def _in_blocks(machine: Machine) -> StepInBlocks | None:
    return StepInBlocks(machine.block) if machine.in_place and machine.block else None


SELECT = (
    Entry("Streams", lambda s: Streams(s.counter),
          "random ops become integer ops of seed, step and index, which resume and export", True),
    Entry("Decompose", lambda s: Decompose(s.unknown),
          "what the place lacks is written in ops that it has", True),
)  # fmt: skip
OPTIMISE = (
    Entry("Specialise", lambda s: Specialise(dict(s.shapes)),
          "known shapes: what is computed from them becomes constant below"),
    Entry("ScaleFilters", lambda s: ScaleFilters(),
          "factors per channel go to filters, before these are written for a kernel"),
    Entry("Formulate", lambda s: Formulate(s.machine.priced, s.machine.block),
          "ops with several ways to be worked out: the cheapest here, by measured prices"),
    Entry("Fold", lambda s: Fold(), "what depends on constants and known shapes alone"),
    Entry("CommonSubexpressions", lambda s: CommonSubexpressions(),
          "forward and backward compute much alike; before rules that ask who else reads"),
    Entry("Simplify", lambda s: Simplify(), "identities, until none holds any more"),
    Entry("Fuse", lambda s: Fuse() if s.machine.fused else None,
          "forms that these kernels are quickest at; nobody has measured others'"),
    Entry("JoinSlices", lambda s: JoinSlices() if s.machine.joined else None,
          "slices that share out a tensor: one kernel"),
    Entry("CommonSubexpressions", lambda s: CommonSubexpressions(),
          "what the forms above have written twice"),
    Entry("StayBlocked", lambda s: StayBlocked(),
          "reorderings between convolutions move until they cancel"),
    Entry("DeadCode", lambda s: DeadCode(), "what nobody reads by now, in bodies too"),
)  # fmt: skip
ROWS = (
    Entry("History", lambda s: History(s.factors, s.apart) if s.by_rows else None,
          "a step reads and writes one row of ASGD's table, not all of it"),
    Entry("GroupUpdates", lambda s: GroupUpdates(),
          "updates of many small vectors are one: kernels of few elements cost their calls"),
)  # fmt: skip
MEMORY = (
    Entry("InPlace", lambda s: InPlace() if s.machine.in_place else None,
          "updates wait for the last reads of what they replace"),
    Entry("StepInBlocks", lambda s: _in_blocks(s.machine),
          "w - rate v in one pass over memory, by a kernel that adds to w"),
    Entry("Schedule", lambda s: Schedule() if s.machine.in_place else None,
          "each update right behind its gradients, while they are in the cache"),
    Entry("Donate", lambda s: Donate() if s.machine.in_place else None,
          "what is surely read by then is written over: no second buffer"),
)  # fmt: skip
MANY = (
    Entry("Inline", lambda s: Inline(),
          "the ops of updates, some of which need no state that changes, leave the loop", True),
    Entry("Repeat", lambda s: Repeat(s.varying, s.turn), "many steps are one Scan", True),
)  # fmt: skip

FILE = Pipeline("file", SELECT)
STEP = Pipeline("step", (*SELECT, *OPTIMISE, *ROWS, *MEMORY))
STEPS = Pipeline("steps", (*SELECT, *OPTIMISE, *ROWS, *MANY))
KNOWN = frozenset(e.name for e in (*STEP.entries, *STEPS.entries) if not e.needed)


def left_out() -> frozenset[str]:
    """The passes that ``GRAPHOPT_WITHOUT`` names, to see what each is good for.

    Raises:
        ArgumentError: one is no pass.
    """
    named = frozenset(os.environ.get(WITHOUT, "").replace(",", " ").split())
    for name in sorted(named - KNOWN):
        raise ArgumentError(
            f"{WITHOUT} names {name!r}, which is no pass that can be left out",
            fix=did_you_mean(name, KNOWN) or f"there are {', '.join(sorted(KNOWN))}",
        )
    return named


@dataclass
class Dump:
    """The folder that one compile is written to, if any."""

    folder: Path | None
    number: int = 0

    @classmethod
    def begin(cls, name: str, step: Step) -> Dump:
        """A new folder in ``GRAPHOPT_DUMP``, with the Step as it is before the first pass."""
        directory = os.environ.get(DUMP)
        dump = cls(_new_folder(Path(directory), name) if directory else None)
        dump.write("selected", step)
        return dump

    def write(self, name: str, step: Program) -> None:
        """Write the Step's text to the next file."""
        if self.folder is not None:
            path = self.folder / f"{self.number:02d}-{name}.txt"
            path.write_text(step.text() + "\n")
            self.number += 1


def _new_folder(directory: Path, name: str) -> Path:
    number = 0
    while True:
        folder = directory / f"{number:04d}-{name}"
        try:
            if not any(directory.glob(f"{number:04d}-*")):
                folder.mkdir(parents=True)
                return folder
        except FileExistsError:  # another process was quicker
            pass
        number += 1
