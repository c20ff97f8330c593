"""The walk that takes tables of forms: what all passes of this wing share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from graphopt.ir.model.step import Step
from graphopt.passes.engine.dead import drop_dead
from graphopt.passes.engine.patterns import RewriteRule
from graphopt.passes.simplify.rewrite import Rewriter

Forms: TypeAlias = Mapping[str, Sequence[RewriteRule]]  # by the type of op


def take(step: Step, *tables: Forms) -> None:
    """Take the forms of each table, in a walk of its own."""
    for forms in tables:
        walk = Rewriter(step, forms)
        walk.run()
        if walk.changed:
            drop_dead(step)
