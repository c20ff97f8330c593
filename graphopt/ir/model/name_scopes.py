"""The name scopes that ops are recorded in: each context has its own, one for each Program."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING

from graphopt.ir.types.context import Setting

if TYPE_CHECKING:
    from graphopt.ir.model.program import Program

TOP = "/"
_scopes: ContextVar[Mapping[Program, str]] = ContextVar(
    "graphopt_name_scopes", default=MappingProxyType({})
)


def name_scope_of(program: Program) -> str:
    """The scope that the Program's next op is recorded in: ``/`` or e.g. ``/encoder/layer_1/``."""
    return _scopes.get().get(program, TOP)


def in_name_scope(program: Program, scope: str) -> Setting[Mapping[Program, str]]:
    """Record ops of the Program in this scope."""
    return Setting(_scopes, {**_scopes.get(), program: scope})
