"""Layers give Paddle's results, gradients and running statistics (float32)."""

import json
from pathlib import Path

import numpy as np
import pytest

from graphopt import nn
from graphopt.passes.gradients.backward import gradients
from graphopt.scoping import default_main_program
from tests.ops.on_onnxruntime import evaluate
from tests.tensor.recording import fed

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((GOLDEN / "layers.json").read_text())["layers"]


@pytest.mark.parametrize("case", CASES, ids=[c["id"] for c in CASES])
def test_layer(case):
    with np.load(GOLDEN / case["npz"]) as file:
        prefix = case["id"] + "/"
        data = {k.removeprefix(prefix): v for k, v in file.items() if k.startswith(prefix)}
    layer = getattr(nn, case["cls"].split(".")[-1])(**case["kwargs"])
    layer.train() if case["train"] else layer.eval()
    feeds = {name: data["in/" + name] for name in case["inputs"]}
    inputs = {name: fed(name, value) for name, value in feeds.items()}
    y = layer(*[inputs[a.removeprefix("$")] for a in case["args"]])
    parameters = dict(layer.named_parameters())
    assert {k: list(p.shape) for k, p in parameters.items()} == case["state_dict"]
    feeds |= {p.name: data["sd/" + key] for key, p in parameters.items()}
    feeds["cotangent"] = data["cot0"]
    wrt = {k: parameters[k] for k in case["param_grads"]}
    wrt |= {name: v for name, v in inputs.items() if "grad/" + name in data}
    grads = gradients([y], [*wrt.values()], [fed("cotangent", data["cot0"])])
    changed = [parameters[k] for k in case["changed_buffers"]]
    found = evaluate(default_main_program(), [y, *grads, *changed], feeds)
    expected = [data["out0"]]
    expected += [data.get("pgrad/" + k, data.get("grad/" + k)) for k in wrt]
    expected += [data["sd_after/" + k] for k in case["changed_buffers"]]
    for actual, wanted in zip(found, expected, strict=True):
        assert actual.shape == wanted.shape
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
