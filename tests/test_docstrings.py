"""Docstrings of the public names: every parameter is named, and no docstring leans on another.

The public names are what a user reaches from ``graphopt``: modules by their ``__all__``, and the
functions, classes and public methods in them. Whether prose is good no test can say; these say
where it is missing.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import graphopt
from graphopt import errors

PACKAGE = Path(graphopt.__file__).parent


class Documented(NamedTuple):
    """A public function, class or method: what it is called, its parameters and its prose."""

    name: str
    room: str
    parameters: list[str]
    prose: str


def public_names() -> Iterator[Documented]:
    """Every public function, class and method that graphopt defines, once."""
    found: dict[Any, str] = {}
    collect(graphopt, "graphopt", found)
    for thing, name in list(found.items()):
        if inspect.isclass(thing):
            yield documented(constructor(thing), name, class_prose(thing), thing.__module__)
            yield from methods(thing, name, found)
        else:
            yield documented(thing, name, inspect.getdoc(thing) or "", thing.__module__)


def collect(thing: object, name: str, found: dict[Any, str]) -> None:
    """Note the functions and classes below a public name, by the first name they have."""
    if isinstance(thing, ModuleType):
        if thing.__name__.startswith("graphopt"):
            for key in exported(thing):
                collect(getattr(thing, key), f"{name}.{key}", found)
    elif (inspect.isclass(thing) or inspect.isfunction(plain(thing))) and is_ours(plain(thing)):
        found.setdefault(plain(thing), name)


def exported(module: ModuleType) -> list[str]:
    """A module's ``__all__``, else the public names that it defines itself."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = ((key, getattr(value, "__module__", "")) for key, value in vars(module).items())
    return [key for key, where in own if where == module.__name__ and not key.startswith("_")]


def is_ours(thing: Any) -> bool:
    return str(thing.__module__).startswith("graphopt")


def constructor(cls: Any) -> object:
    """The constructor that a class is to explain: not that of a public base, which does."""
    maker: Any = next(base for base in cls.__mro__ if "__init__" in vars(base))
    return maker.__init__ if maker is cls or maker.__name__.startswith("_") else None


def methods(cls: type, name: str, found: dict[Any, str]) -> Iterator[Documented]:
    """The public methods of a class, ``__call__`` among them, that are not found yet."""
    for key in dir(cls):
        function = plain(inspect.getattr_static(cls, key))
        if key.startswith("_") and key != "__call__":
            continue
        if inspect.isfunction(function) and is_ours(function) and function not in found:
            found[function] = f"{name}.{key}"
            yield documented(function, found[function], method_prose(cls, key), cls.__module__)


def plain(method: Any) -> Any:
    """The function of a class method, static method or bound method."""
    return getattr(method, "__func__", method)


def documented(function: object, name: str, prose: str, module: str) -> Documented:
    """``name`` need not be repeated where a package above says what it does to all results."""
    shared = {"name"} if any("``name``" in doc for doc in packages_docs(module)) else set()
    ours = inspect.isfunction(function) and is_ours(function)
    parameters = inspect.signature(function).parameters if ours else ()  # type: ignore[arg-type]
    room = [*module.split("."), "graphopt"][1]
    asked = [p for p in parameters if p not in ("self", "cls", *shared)]
    return Documented(name, room, asked, without_examples(prose))


def packages_docs(module: str) -> list[str]:
    """The docstrings of the packages that a module is in."""
    parts = module.split(".")[:-1]
    names = (".".join(parts[:k]) for k in range(1, len(parts) + 1))
    return [sys.modules[name].__doc__ or "" for name in names]


def class_prose(cls: type) -> str:
    """What a class says, and its constructor."""
    init = vars(cls).get("__init__")
    return f"{cls.__doc__ or ''}\n{init.__doc__ or '' if init else ''}"


def method_prose(cls: type, key: str) -> str:
    """What a method says, and the methods it overrides: they mean their parameters alike."""
    own = (vars(base).get(key) for base in cls.__mro__ if is_ours(base))
    return "\n".join(getattr(method, "__doc__", None) or "" for method in own)


def without_examples(prose: str) -> str:
    return "\n".join(
        line for line in prose.splitlines() if not line.strip().startswith((">>>", "..."))
    )


def docstrings() -> Iterator[tuple[str, str]]:
    """Every docstring of graphopt, public or not, and where it is."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                line = getattr(node, "lineno", 1)
                yield f"{path.relative_to(PACKAGE)}:{line}", text


PUBLIC = list(public_names())
RAISES = re.compile(r"^Raises:\n((?:(?: .*)?(?:\n|$))+)", re.MULTILINE)
ERRORS = re.compile(r"^ {4}(\w+(?:, \w+)*): ", re.MULTILINE)


@pytest.mark.parametrize("room", sorted({d.room for d in PUBLIC}))
def test_every_parameter_is_named(room):
    missing = [
        f"{d.name}: {parameter}"
        for d in PUBLIC
        for parameter in d.parameters
        if d.room == room and not re.search(rf"\b{parameter}\b", d.prose)
    ]
    assert not missing, f"{len(missing)} parameters are not named: {missing}"


@pytest.mark.parametrize("room", sorted({d.room for d in PUBLIC}))
def test_every_public_name_has_a_docstring(room):
    assert not [d.name for d in PUBLIC if d.room == room and not d.prose.strip()]


def test_the_walk_finds_the_public_names():
    names = {d.name for d in PUBLIC}
    assert {"graphopt.add", "graphopt.optimizer.lr.StepDecay", "graphopt.nn.Linear"} <= names
    assert {"graphopt.onnx.backend.run_node", "graphopt.static.Executor.run"} <= names
    assert len(PUBLIC) > 600


def test_no_docstring_leans_on_the_one_above():
    leaning = [where for where, text in docstrings() if text.startswith("The same")]
    assert not leaning, f"say what it does: {leaning}"


def test_errors_under_raises_exist():
    unknown = [
        f"{where}: {name}"
        for where, text in docstrings()
        for section in RAISES.findall(text)
        for listed in ERRORS.findall(section)
        for name in listed.split(", ")
        if not hasattr(errors, name) and not hasattr(builtins, name)
    ]
    assert not unknown
