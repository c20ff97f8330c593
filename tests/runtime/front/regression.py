"""A Program that is trained, for tests."""

import numpy as np

import graphopt as go
from tests.helpers import held


class Regression:
    """y = x w, trained by SGD; x f32[N, 4], y f32[N, 1]."""

    def __init__(self, optimizer=None):
        self.main, self.startup = go.static.Program(), go.static.Program()
        with go.static.program_guard(self.main, self.startup):
            self.x = go.static.data("x", [None, 4])
            self.y = go.static.data("y", [None, 1])
            self.w = go.create_parameter([4, 1], "float32", name="w")
            self.pred = self.x @ self.w
            self.loss = go.mean(go.square(self.pred - self.y))
            self.result = (optimizer or go.optimizer.SGD(0.1)).minimize(self.loss)
        rng = np.random.default_rng(0)
        self.feed = {
            "x": rng.normal(size=(6, 4)).astype("f4"),
            "y": rng.normal(size=(6, 1)).astype("f4"),
        }
        self.scope = go.static.Scope()
        self.exe = go.static.Executor(go.CPUPlace())

    def start(self):
        self.exe.run(self.startup, scope=self.scope)
        return self

    def run(self, fetch_list=None, feed=None, **kwargs):
        feed = self.feed if feed is None else feed
        return self.exe.run(self.main, feed=feed, fetch_list=fetch_list, scope=self.scope, **kwargs)

    def state(self, name="w"):
        return held(self.scope, name)
