"""What an Executor compiles with: its place, its pipelines, and what it has compiled by now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from weakref import WeakValueDictionary

from graphopt.passes.pipelines import STEP, STEPS, Pipeline, left_out
from graphopt.runtime.front.structure import structure
from graphopt.runtime.ort.place import Place
from graphopt.runtime.plan.plan import Selected, plan
from graphopt.runtime.run.compiled import CompiledProgram
from graphopt.runtime.run.many_steps import CompiledSteps

ChangePipeline: TypeAlias = Callable[[Pipeline], Pipeline]


class Compiler:
    """Compiles what was selected of Programs; equal Steps are compiled once, while they are used.

    ``change`` gives the pipelines that are run in place of ``STEP`` and ``STEPS``.
    """

    def __init__(self, place: Place, change: ChangePipeline | None = None) -> None:
        self.place = place
        self.step = STEP if change is None else change(STEP)
        self.steps = STEPS if change is None else change(STEPS)
        self._one: WeakValueDictionary[object, CompiledProgram] = WeakValueDictionary()
        self._many: WeakValueDictionary[object, CompiledSteps] = WeakValueDictionary()

    def one(self, selected: Selected) -> CompiledProgram:
        """What runs a Step once."""
        key = structure(selected), left_out()
        found = self._one.get(key)
        if found is None:
            found = self._one[key] = self.own(selected)
        return found

    def own(self, selected: Selected) -> CompiledProgram:
        """What runs a Step once, compiled for it alone: its failures show its Program's lines."""
        return CompiledProgram(plan(selected, self.step), self.place)

    def many(self, selected: Selected) -> CompiledSteps:
        """What runs a Step many times."""
        key = structure(selected), left_out()
        found = self._many.get(key)
        if found is None:
            made = CompiledSteps(plan(selected, self.steps), self.place)
            found = self._many[key] = made
        return found
