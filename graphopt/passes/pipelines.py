"""The passes that make a training step quicker, in order."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from graphopt.ops.registry.formulations import MEASURED, Machine
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.change import Changes
from graphopt.passes.engine.dead import DeadCode
from graphopt.passes.kernels.forms import Fuse
from graphopt.passes.kernels.formulate import Formulate
from graphopt.passes.kernels.join_slices import JoinSlices
from graphopt.passes.kernels.scale_filters import ScaleFilters
from graphopt.passes.kernels.stay_blocked import StayBlocked
from graphopt.passes.select.feed_cut import Cut
from graphopt.passes.select.specialise import Specialise
from graphopt.passes.simplify.cse import CommonSubexpressions
from graphopt.passes.simplify.fold import Fold
from graphopt.passes.simplify.rewrite import Simplify


def optimisations(
    shapes: Mapping[str, tuple[int, ...]],
    keep: Collection[str],
    feed: Collection[str] = (),
    without: Collection[str] = frozenset(),
    machine: Machine = MEASURED,
) -> tuple[Pass, ...]:
    """The passes, for a Program that is pruned and has no random ops with seeds any more.

    ``shapes`` are those of the feeds that are known, ``keep`` the names that are fetched, ``feed``
    all names that are fed. ``without`` leaves out passes by their class's name. ``machine`` is what
    formulations are chosen for.

    >>> for step in optimisations({"x": (8, 4)}, ["loss"], without={"Specialise"}):
    ...     print(step)
    Cut(feed=('x',))
    ScaleFilters(keep=('loss',))
    Formulate(priced=True, block=0)
    Fold(keep=('loss',), max_bytes=65536)
    CommonSubexpressions(keep=('loss',))
    Simplify(keep=('loss',))
    Fuse(keep=('loss',))
    JoinSlices()
    CommonSubexpressions(keep=('loss',))
    StayBlocked(keep=('loss',))
    DeadCode(keep=('loss',))
    """
    return at_once(shapes, keep, feed, without, machine).steps


def at_once(
    shapes: Mapping[str, tuple[int, ...]],
    keep: Collection[str],
    feed: Collection[str] = (),
    without: Collection[str] = frozenset(),
    machine: Machine = MEASURED,
) -> Changes:
    """``optimisations`` as one pass, which copies and verifies the Program once."""
    names = tuple(keep)
    passes = (
        Cut(tuple(sorted({*feed, *shapes}))),
        Specialise(dict(shapes)),
        ScaleFilters(names),
        Formulate(machine.priced, machine.block),
        Fold(names),
        CommonSubexpressions(names),
        Simplify(names),
        Fuse(names),
        JoinSlices(),
        CommonSubexpressions(names),
        StayBlocked(names),
        DeadCode(names),
    )
    forms = {"Fuse": machine.fused, "JoinSlices": machine.joined}
    left_out = {*without, *(name for name, is_measured in forms.items() if not is_measured)}
    return Changes(tuple(p for p in passes if type(p).__name__ not in left_out))
