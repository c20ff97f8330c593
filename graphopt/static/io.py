"""Saving and loading: inference models, and training steps that run without graphopt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.ir.model.current_scope import uninitialized
from graphopt.ir.model.program import Program, RateSource
from graphopt.ir.model.seeds import COUNTER
from graphopt.ir.model.variable import Variable
from graphopt.onnxio.files import save_model
from graphopt.onnxio.interface import complete, under_own_names
from graphopt.onnxio.read import read
from graphopt.onnxio.source import open_model
from graphopt.onnxio.training import state_model, step_model
from graphopt.onnxio.weights import Trainable, state_kinds
from graphopt.onnxio.weights import choose as choose_trainable
from graphopt.onnxio.write import inlined
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.plan.plan import Plan, plan_file
from graphopt.runtime.request.fetches import as_request
from graphopt.runtime.state.scope import Scope, global_scope
from graphopt.static.schedules import embed_schedules

OneOrMore = Variable | Sequence[Variable]


def save_inference_model(
    path_prefix: str | Path,
    feed_vars: OneOrMore,
    fetch_vars: OneOrMore,
    executor: Executor,
    program: Program | None = None,
) -> None:
    """Write <path_prefix>.onnx: from the feeds to the fetches, in test mode, weights inside.

    Args:
        path_prefix: the path without its ending.
        feed_vars: the inputs of the model, a Variable or a list of Variables.
        fetch_vars: its outputs, alike.
        executor: accepted as in Paddle; changes nothing. Weights come from the current scope.
        program: where feeds and fetches are; the Program of the first fetch by default.

    Raises:
        ArgumentTypeError: the feeds or fetches are not Variables.
        ArgumentError: a fetch needs a feed that is not listed, there is no feed or no fetch, or the
            path is empty or names a folder.
        UninitializedError: a weight has no value in the current scope.
    """
    plan = _inference_plan(feed_vars, fetch_vars, program)
    lowered = plan.lower()
    model = inlined(lowered.model)
    complete(model, _variables(feed_vars, "feed_vars"), lowered.fetched)
    under_own_names(model, dict(zip(lowered.fetched, plan.step.fetch, strict=True)))
    held = [v for v in plan.inputs if v.persistable]
    state_kinds(model, held)
    save_model(_path(path_prefix, ".onnx"), model, _state_values(plan, global_scope(), {}))


def _inference_plan(feed_vars: OneOrMore, fetch_vars: OneOrMore, program: Program | None) -> Plan:
    feeds, fetches = _variables(feed_vars, "feed_vars"), _variables(fetch_vars, "fetch_vars")
    source = fetches[0].program if program is None else program
    test = source.clone(for_test=True)
    request = as_request(test, fetches)
    request.updates = "none"  # a counter, say, is a fixed number in the file
    plan = plan_file(test, request, [v.name for v in feeds])
    _check_feeds(plan, feeds)
    return plan


def normalize_program(program: Program, feed_vars: OneOrMore, fetch_vars: OneOrMore) -> Program:
    """The part of ``program`` in test mode that leads from ``feed_vars`` to ``fetch_vars``.

    Raises:
        ArgumentTypeError: ``program`` is not a Program, or the feeds or fetches are not Variables.
        ArgumentError: a fetch needs a feed that is not listed, or there is no feed or no fetch.
    """
    if not isinstance(program, Program):
        raise ArgumentTypeError(f"a Program is wanted, not a {type(program).__name__}")
    return _inference_plan(feed_vars, fetch_vars, program).step


def load_inference_model(
    path_prefix: str | Path | bytes | onnx.ModelProto,
    executor: Executor,
    trainable: Trainable = True,
) -> tuple[Program, list[str], list[Variable]]:
    """Read any ONNX model as (program, feed names, fetch variables); weights go to the scope.

    Args:
        path_prefix: the path of a file, or that without .onnx, or a model as bytes or a ModelProto;
            of opset 7 to the newest. Float weights become Parameters.
        executor: accepted as in Paddle; changes nothing. Weights go to the current scope.
        trainable: which Parameters train: True or False for all, a list of names, a regular
            expression that is searched in names, or a function from a Parameter to a bool.

    Raises:
        FileNotFoundError: there is no such file.
        FileError: it is not a model that can be read.
        ArgumentError: ``trainable`` chooses a name that is not there.
    """
    found = read(open_model(_existing(path_prefix)))
    choose_trainable(trainable, found.program.all_parameters())
    scope = global_scope()
    for name, value in found.values.items():
        scope.take(name, value)
    return found.program, found.feed_names, found.fetch_vars


def _existing(model: str | Path | bytes | onnx.ModelProto) -> Path | bytes | onnx.ModelProto:
    if isinstance(model, (bytes, onnx.ModelProto)):
        return model
    return Path(model) if Path(model).is_file() else _path(model, ".onnx")


def save_training_model(
    path_prefix: str | Path,
    feed_vars: OneOrMore,
    fetch_vars: OneOrMore,
    executor: Executor,
    program: Program | None = None,
    steps_per_epoch: int = 1,
) -> None:
    """Write <path_prefix>.train.onnx, one training step, and <path_prefix>.state.onnx, its state.

    The step's inputs are the feeds, then every state tensor; its outputs are the fetches, then
    every next state; ``metadata_props["graphopt.state"]`` pairs them, as JSON. The state file has
    no inputs: run it once to start. Both are plain ``ai.onnx`` graphs, so training goes on wherever
    onnxruntime runs, without graphopt.

    A learning-rate schedule goes on in the file, from where it is now: it is computed from a step
    counter in the state. One that is no function of the step (ReduceOnPlateau, a user's function)
    becomes a scalar input ``learning_rate`` behind the feeds instead.

    Args:
        path_prefix: the path without its ending.
        feed_vars: what a step is fed, a Variable or a list of Variables.
        fetch_vars: what a step gives besides its state, alike.
        executor: accepted as in Paddle; changes nothing. State comes from the current scope.
        program: the Program to train; that of the first fetch by default.
        steps_per_epoch: steps after which a learning-rate schedule advances by one.

    Raises:
        ArgumentTypeError: the feeds or fetches are not Variables.
        ArgumentError: the Program assigns nothing, so there is nothing to train; a fetch or an
            update needs a feed that is not listed; there is no feed or no fetch;
            ``steps_per_epoch`` is not a positive int; or the path is empty or names a folder.
        UninitializedError: a state variable has no value in the current scope.
    """
    feeds, fetches = _variables(feed_vars, "feed_vars"), _variables(fetch_vars, "fetch_vars")
    source = fetches[0].program if program is None else program
    plan = plan_file(source, as_request(source, fetches), [v.name for v in feeds])
    if not plan.step.next_state:
        raise ArgumentError(
            "the Program assigns no state, so there is no training step to save",
            fix="call minimize first, or use save_inference_model",
        )
    _check_feeds(plan, feeds)
    values = _state_values(plan, global_scope(), source.rates)
    inputs, counters = embed_schedules(plan.step, plan.inputs, source.rates, steps_per_epoch)
    values.update(counters)
    step = step_model(plan.step, feeds, inputs)
    kept = {v.name: values[v.name] for v in inputs if v.persistable}
    save_model(_path(path_prefix, ".state.onnx"), *state_model(kept, plan.step.opset))
    save_model(_path(path_prefix, ".train.onnx"), step)


def _variables(values: OneOrMore, what: str) -> list[Variable]:
    listed = [values] if isinstance(values, Variable) else list(values)
    for v in listed:
        if not isinstance(v, Variable):
            raise ArgumentTypeError(f"{what} holds a {type(v).__name__}, not a Variable")
    if not listed:
        raise ArgumentError(f"{what} is empty")
    return listed


def _check_feeds(plan: Plan, feeds: Sequence[Variable]) -> None:
    listed = {v.name for v in feeds}
    missing = [v for v in plan.inputs if not v.persistable and v.name not in listed]
    if missing:
        raise ArgumentError(
            f"the fetches need {', '.join(v.name for v in missing)}, which feed_vars does not list",
            operands=[(v.name, v.tensor_type) for v in missing],
            where=missing[0].where,
            fix="add it to feed_vars",
        )


def _state_values(
    plan: Plan, scope: Scope, rates: Mapping[str, RateSource]
) -> dict[str, np.ndarray]:
    values = {}
    for v in plan.inputs:
        if not v.persistable:
            continue
        if scope.values.get(v.name) is None and v.name == COUNTER:
            values[v.name] = np.zeros((), np.int64)
            continue
        if scope.values.get(v.name) is None:
            raise uninitialized(v)
        rate = rates[v.name].current() if v.name in rates else None
        held = np.array(scope.var(v.name).get_tensor())
        values[v.name] = held if rate is None else np.array(rate, v.dtype)
    return values


def _path(prefix: str | Path, suffix: str) -> Path:
    text = str(prefix)
    if not text or text.endswith("/"):
        raise ArgumentError(f"{text!r} is not a path to write to", fix="e.g. 'models/digits'")
    return Path(text + suffix)
