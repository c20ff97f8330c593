"""Static programs reproduce Paddle's dygraph training, parameter by parameter and step by step."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphopt as go
from tests.helpers import held

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((GOLDEN / "trajectories.json").read_text())["trajectories"]


@cache
def arrays(name):
    with np.load(GOLDEN / name) as file:
        return dict(file)


def resolve(value, env):
    if isinstance(value, str) and value.startswith("$"):
        return env[value[1:]]
    return [resolve(v, env) for v in value] if isinstance(value, list) else value


def build_object(value):
    if not isinstance(value, dict):
        return value
    fields = {k: build_object(v) for k, v in value.items() if not k.startswith("$")}
    if "$lr" in value:
        return getattr(go.optimizer.lr, value["$lr"])(**fields)
    if "$reg" in value:
        return getattr(go.regularizer, value["$reg"])(value["coeff"])
    if "$clip" in value:
        return getattr(go.nn, value["$clip"])(**fields)
    names = set(value["$names"])
    return lambda p: (p if isinstance(p, str) else p.name) in names


def function(path):
    found = go
    for part in path.split(".")[1:]:
        found = getattr(found, part)
    return found


class Replay:
    """One case as a static program."""

    def __init__(self, case):
        prefix = case["id"] + "/"
        self.case = case
        self.data = {
            k.removeprefix(prefix): v
            for k, v in arrays(case["npz"]).items()
            if k.startswith(prefix)
        }
        self.main, self.startup = go.static.Program(), go.static.Program()
        self.env: dict[str, Any] = {}
        with go.static.program_guard(self.main, self.startup):
            self._declare()
            for op in case["ops"]:
                kwargs = {k: resolve(v, self.env) for k, v in op["kwargs"].items()}
                args = resolve(op["args"], self.env)
                self.env[op["out"]] = function(op["op"])(*args, **kwargs)
            kwargs = {k: build_object(v) for k, v in case["optimizer"]["kwargs"].items()}
            self.loss = resolve(case["loss"], self.env)
            if "groups" in case["optimizer"]:
                kwargs["parameters"] = [self._group(g) for g in case["optimizer"]["groups"]]
            self.optimizer = getattr(go.optimizer, case["optimizer"]["class"])(**kwargs)
            self.scheduler = kwargs.get("learning_rate")
            _, self.pairs = self.optimizer.minimize(self.loss)

    def _group(self, group):
        fields = {k: build_object(v) for k, v in group.items() if k != "params"}
        return {"params": [self.env[name] for name in group["params"]], **fields}

    def _declare(self):
        for feed in self.case["feeds"]:
            self.env[feed["name"]] = go.static.data(feed["name"], feed["shape"], feed["dtype"])
        for p in self.case["params"]:
            fields = {k: build_object(v) for k, v in p["attr"].items()}
            start = go.nn.initializer.Assign(self.data[f"param/{p['name']}"][0])
            attr = go.ParamAttr(name=p["name"], initializer=start, **fields)
            self.env[p["name"]] = go.create_parameter(p["shape"], "float32", attr=attr)
        for b in self.case["buffers"]:
            start = self.data[f"buffer/{b['name']}"][0]
            self.env[b["name"]] = go.static.create_global_var(
                b["shape"], float(start.flat[0]), "float32", persistable=True, name=b["name"]
            )

    def feed(self, step):
        found = {}
        for feed in self.case["feeds"]:
            number, name = step % feed["count"], f"feed/{feed['name']}"
            ragged = feed.get("ragged")
            found[feed["name"]] = (
                self.data[f"{name}/{number}"] if ragged else self.data[name][number]
            )
        return found


def assert_close(actual, expected, tolerance, what):
    scale = 1 + np.abs(np.asarray(expected, "f8"))
    error = np.abs(np.asarray(actual, "f8").reshape(np.shape(expected)) - expected) / scale
    assert float(np.max(error, initial=0)) <= tolerance, what


@pytest.mark.parametrize("case", [pytest.param(c, id=c["id"]) for c in CASES])
def test_trajectory(case):
    replay = Replay(case)
    tolerance = max(1e-5, 20 * (case["f64_maxdiff"] or 1e-6))
    names = [p["name"] for p in case["params"]] + [b["name"] for b in case["buffers"]]
    kinds = ["param"] * len(case["params"]) + ["buffer"] * len(case["buffers"])
    grads = {p.name: grad for p, grad in replay.pairs}
    scope, exe = go.static.Scope(), go.static.Executor(go.CPUPlace())
    exe.run(replay.startup, scope=scope)
    for step in range(case["steps"]):
        fetch = [replay.loss, *names, *grads.values()]
        if "lr" in replay.data:
            assert replay.optimizer.get_lr() == pytest.approx(replay.data["lr"][step], rel=1e-6)
        loss, *values = exe.run(replay.main, feed=replay.feed(step), fetch_list=fetch, scope=scope)
        assert_close(loss, replay.data["loss"][step], tolerance, f"loss at {step}")
        for kind, name, value in zip(kinds, names, values[: len(names)], strict=True):
            expected = replay.data[f"{kind}/{name}"][step + 1]
            assert_close(value, expected, tolerance, f"{name} at {step}")
        for name, value in zip(grads, values[len(names) :], strict=True):
            stored = replay.data.get(f"grad/{name}", ())
            if step < len(stored):
                assert_close(value, stored[step], 10 * tolerance, f"{name}@GRAD at {step}")
        if isinstance(replay.scheduler, go.optimizer.lr.ReduceOnPlateau):
            replay.scheduler.step(float(loss))
        elif isinstance(replay.scheduler, go.optimizer.lr.LRScheduler):
            replay.scheduler.step()
    for name in case["state"]:
        if scope.find_var(name) is None:
            # RMSProp allocates mean_grad in Paddle even where nothing reads it
            assert name.endswith("mean_grad_0")
            continue
        value, expected = held(scope, name), replay.data[f"state/{name}"]
        assert value.dtype == case["state"][name]["dtype"]
        # products of betas are one number per parameter here, one per element in Paddle
        assert value.shape in (expected.shape, (1,))
        assert_close(np.broadcast_to(value, expected.shape), expected, 10 * tolerance, name)
