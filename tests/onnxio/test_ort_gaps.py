import numpy as np

import graphopt as go
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
