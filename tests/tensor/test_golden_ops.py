"""Single functions give Paddle's results and gradients (float32, recorded in dynamic mode)."""

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from graphopt import tensor
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.nn import functional
from graphopt.passes.gradients.backward import gradients
from graphopt.scoping import program_guard
from tests.ops.on_onnxruntime import evaluate

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((GOLDEN / "ops.json").read_text())["ops"]
ROOTS = {"nn": SimpleNamespace(functional=functional)}


@cache
def arrays(name):
    with np.load(GOLDEN / name) as file:
        return dict(file)


def function(path):
    if path == "python.getitem":
        return lambda x, index: x[index]
    _, *names = path.split(".")
    found = ROOTS.get(names[0], tensor)
    for name in names[found is not tensor :]:
        found = getattr(found, name)
    return found


def index_item(item):
    if isinstance(item, dict):
        return slice(*item["slice"])
    return Ellipsis if item == "..." else item


def resolve(value, env):
    if isinstance(value, str) and value.startswith("$"):
        return env[value[1:]]
    return [resolve(v, env) for v in value] if isinstance(value, list) else value


def fed(program, name, shape, dtype, *, stop_gradient):
    variable = program.global_block().create_var(name, shape, dtype, stop_gradient=stop_gradient)
    variable.is_data = True
    return variable


def results(case, env):
    args = [resolve(a, env) for a in case["args"]]
    kwargs = {k: resolve(v, env) for k, v in case["kwargs"].items()}
    if "index" in case:
        args.append(tuple(index_item(i) for i in case["index"]))
    found = function(case["op"])(*args, **kwargs)
    return [found] if isinstance(found, Variable) else list(found)


def assert_close(value, expected, tolerance):
    assert value.shape == expected.shape or value.size == expected.size == 1
    if expected.dtype.kind in "iub":
        np.testing.assert_array_equal(value, expected)
    else:
        np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_forward_and_gradient(case):
    check(case, opened=())


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_open_first_dim(case):
    check(case, opened=("x", "y", "i", "c", "u"))


def check(case, opened):
    """Compare a case; the first dim of the inputs in ``opened`` is not known while recording."""
    prefix = case["id"] + "/"
    data = {
        k.removeprefix(prefix): v for k, v in arrays(case["npz"]).items() if k.startswith(prefix)
    }
    tolerance = max(2e-5, 20 * (case["f64_maxdiff"] or 1e-6))
    program, wrt = Program(), case["wrt"]
    with program_guard(program, Program()):
        env = {
            name: fed(
                program,
                name,
                [None, *i["shape"][1:]] if name in opened else i["shape"],
                i["dtype"],
                stop_gradient=name not in wrt,
            )
            for name, i in case["inputs"].items()
        }
        outs = results(case, env)
        feeds = {name: data["in/" + name] for name in env}
        targets, seeds = [], []
        for k, out in enumerate(outs):
            if f"cot{k}" in data:
                feeds[f"cot{k}"] = data[f"cot{k}"]
                targets.append(out)
                shape = data[f"cot{k}"].shape
                seeds.append(fed(program, f"cot{k}", shape, "float32", stop_gradient=True))
        inputs = [env[name] for name in wrt]
        grads = gradients(targets, inputs, target_gradients=seeds) if wrt and targets else []
    live = {name: grad for name, grad in zip(wrt, grads, strict=False) if grad is not None}
    values = evaluate(program, [*outs, *live.values()], feeds)
    for k, value in enumerate(values[: len(outs)]):
        if f"out{k}" in data:
            assert_close(value, data[f"out{k}"], tolerance)
    found = dict(zip(live, values[len(outs) :], strict=True))
    for name in wrt:
        expected = data["grad/" + name]
        assert_close(found.get(name, np.zeros_like(expected)), expected, 5 * tolerance)
