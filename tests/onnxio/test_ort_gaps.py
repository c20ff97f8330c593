import numpy as np
import onnx
import onnxruntime as ort
import pytest

import graphopt as go
from graphopt.onnxio.ort_gaps import DETOURS
from graphopt.runtime.ort.library import failures
from graphopt.runtime.plan.plan import plan_file
from graphopt.runtime.request.fetches import as_request
from tests.helpers import held


class Normalized:
    """One batch normalization used twice: its running statistics are assigned two times a step."""

    def __init__(self, uses):
        self.main, self.startup = go.static.Program(), go.static.Program()
        with go.static.program_guard(self.main, self.startup):
            x = go.static.data("x", [None, 3])
            layer = go.nn.BatchNorm1D(3, momentum=0.5)
            self.names = [v.name for v in self.main.persistables() if v.name[-3:] in ("w_1", "w_2")]
            h = x
            for _ in range(uses):
                h = layer(h) * 2.0
            self.loss = go.mean(h * h * h)
            self.result = go.optimizer.SGD(0.1).minimize(self.loss)
        self.exe, self.scope = go.static.Executor(), go.static.Scope()
        self.exe.run(self.startup, scope=self.scope)
        self.feed = {"x": 5 + np.random.default_rng(0).normal(size=(6, 3)).astype("f4")}

    def run(self, *fetch):
        return self.exe.run(self.main, feed=self.feed, fetch_list=[*fetch], scope=self.scope)

    def statistics(self):
        return [held(self.scope, name) for name in self.names]


def test_a_gradient_only_run_leaves_running_statistics_alone():
    model = Normalized(uses=1)
    before = model.statistics()
    first = model.run(model.result[1])
    second = model.run(model.result[1])
    for a, b in zip(before, model.statistics(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_running_statistics_of_a_layer_that_is_used_twice():
    model = Normalized(uses=2)
    mean, variance = model.statistics()
    model.run(model.loss)
    x = model.feed["x"]
    batch = [x, 2 * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)]
    for h in batch:
        mean, variance = 0.5 * mean + 0.5 * h.mean(0), 0.5 * variance + 0.5 * h.var(0)
    found = model.statistics()
    np.testing.assert_allclose(found[0], mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1], variance, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", [[None, 3], [None, 3, 4, None]])
def test_batch_normalization_in_other_ops(shape):
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        x = go.static.data("x", shape)
        y = go.static.nn.batch_norm(x, momentum=0.7, epsilon=1e-3)
        loss = go.mean(y * y * y)
        go.optimizer.SGD(0.1).minimize(loss)
    plan = plan_file(main, as_request(main, [y, loss]), ["x"])
    data = 3 + 2 * np.random.default_rng(0).normal(size=[d or 5 for d in shape]).astype("f4")
    state = {v.name: 1 + np.abs(data).mean() * np.ones(v.shape, "f4") for v in plan.step.next_state}
    found = []
    for detours in ((), DETOURS):
        model = plan.lower(detours).model
        onnx.checker.check_model(model, full_check=True)
        session = ort.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        others = [i.name for i in session.get_inputs() if i.name not in ("x", *state)]
        rates = {name: np.array(0.1, "f4") for name in others}
        found.append(session.run(None, {"x": data, **state, **rates}))
    assert {"BatchNormalization"} & {n.op_type for n in plan.lower().model.graph.node}
    assert not {"BatchNormalization"} & {n.op_type for n in plan.lower(DETOURS).model.graph.node}
    for kernel, others in zip(*found, strict=True):
        np.testing.assert_allclose(others, kernel, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
def test_cuda_has_no_kernel_for_it():
    """Once this fails, ``batch_normalization`` in ort_gaps.py is no longer needed."""
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [None, 3, 4, 4])
        y = go.static.nn.batch_norm(x)
    model = plan_file(main, as_request(main, [y]), ["x"]).lower().model
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with pytest.raises(failures()):
        ort.InferenceSession(
            model.SerializeToString(), options, providers=["CUDAExecutionProvider"]
        )
