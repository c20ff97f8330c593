"""``static.save`` and ``static.load``: everything that a training needs to go on, in one file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError, StateError
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.onnxio.tensors import load_tensors, save_tensors
from graphopt.optimizer.lr import LRScheduler
from graphopt.optimizer.rate import LearningRate
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.state.scope import Scope

SUFFIX = ".safetensors"
SCHEDULERS = "schedulers"


def save(program: Program, model_path: str | Path, scope: Scope | None = None) -> None:
    """Write ``program``'s state to <model_path>.safetensors, in one piece.

    That is every persistable variable's value in ``scope``, the current one by default, and the
    state of the learning-rate schedulers. The file is written beside ``model_path`` and renamed
    over it: there is never half a checkpoint.

    Raises:
        ArgumentTypeError: the path is neither a str nor a Path.
        ArgumentError: the path is empty or names a folder.
        UninitializedError: a variable has no value yet.
    """
    path = checkpoint_path(model_path)
    values = program.state_dict(scope=scope)
    schedules = {name: schedule.state_dict() for name, schedule in _schedulers(program)}
    save_tensors(path, values, {SCHEDULERS: schedules})


def load(
    program: Program,
    model_path: str | Path,
    executor: Executor | None = None,
    var_list: Sequence[Variable] | None = None,
    scope: Scope | None = None,
) -> None:
    """Give ``program`` the state of a file that ``save`` wrote: all of it, or on an error nothing.

    Args:
        program: the Program whose persistable variables and schedulers are set.
        model_path: what ``save`` was given.
        executor: accepted as in Paddle; changes nothing.
        var_list: set these variables alone, and no scheduler. Without it the file and the Program
            must have the same persistable variables.
        scope: where the values go; the current one by default.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: the file is truncated or of another kind.
        StateError: names are missing or too many, or shapes or dtypes differ; all are listed.
        ArgumentTypeError: the path is neither a str nor a Path.
        ArgumentError: the path is empty or names a folder.
    """
    values, extra = load_tensors(checkpoint_path(model_path))
    wanted = [v.name for v in (program.persistables() if var_list is None else var_list)]
    _check_names(wanted, values, exact=var_list is None)
    program.set_state_dict({name: values[name] for name in wanted}, scope)
    if var_list is None:
        for name, schedule in _schedulers(program):
            if name in extra.get(SCHEDULERS, {}):
                schedule.set_state_dict(extra[SCHEDULERS][name])


def load_program_state(model_path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a file that ``save`` wrote to ``model_path``, by name.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: the file is truncated or of another kind.
        ArgumentTypeError: the path is neither a str nor a Path.
        ArgumentError: the path is empty or names a folder.
    """
    return load_tensors(checkpoint_path(model_path))[0]


def set_program_state(
    program: Program, state_dict: Mapping[str, np.ndarray], scope: Scope | None = None
) -> None:
    """Set the values in ``state_dict`` whose names are persistable variables of ``program``.

    The values go to ``scope``, the current one by default; other names are passed over.

    Raises:
        StateError: a value has another shape or dtype than its variable; nothing is changed.
    """
    names = {v.name for v in program.persistables()}
    program.set_state_dict({k: v for k, v in state_dict.items() if k in names}, scope)


def checkpoint_path(model_path: str | Path) -> Path:
    """The file behind a path prefix.

    Raises:
        ArgumentTypeError: the path is neither a str nor a Path.
        ArgumentError: the path is empty or names a folder.
    """
    if not isinstance(model_path, (str, Path)):
        raise ArgumentTypeError(f"a path is wanted, not a {type(model_path).__name__}")
    text = str(model_path)
    if not text or text.endswith("/"):
        raise ArgumentError(f"{text!r} is not a path of a file", fix="e.g. 'checkpoints/step100'")
    return Path(text.removesuffix(SUFFIX) + SUFFIX)


def _schedulers(program: Program) -> list[tuple[str, LRScheduler]]:
    return [
        (name, rate.scheduler)
        for name, rate in program.rates.items()
        if isinstance(rate, LearningRate) and rate.scheduler is not None
    ]


def _check_names(wanted: Iterable[str], found: Iterable[str], *, exact: bool) -> None:
    missing = sorted(set(wanted) - set(found))
    extra = sorted(set(found) - set(wanted)) if exact else []
    if not missing and not extra:
        return
    raise StateError(
        "the file does not hold this Program's state; nothing is changed",
        operands=[
            (what, ", ".join(names))
            for what, names in (("missing in the file", missing), ("not in the Program", extra))
            if names
        ],
        fix="load into the Program that was saved, or choose variables with var_list",
    )
