"""Runs whose values are passed, not bound: those of strings, and those on unknown providers."""

import numpy as np
import pytest

import graphopt as go
from tests.helpers import held

WIDE = 2**16  # elements of a parameter that is written over


class Words:
    """A regression over words that start with an a, fed as strings or as numbers."""

    def __init__(self, optimizer, as_strings, out=1):
        self.main, self.startup = go.static.Program(), go.static.Program()
        self.startup.random_seed = 3
        self.exe, self.scope, self.as_strings = go.static.Executor(), go.static.Scope(), as_strings
        with go.static.program_guard(self.main, self.startup):
            if as_strings:
                words = go.static.data("words", [None, 16], "object")
                g = self.main.recorder()
                x = g.Cast(g.RegexFullMatch(words, pattern="a.*"), to=1)
            else:
                x = go.static.data("x", [None, 16])
            self.loss = go.mean((go.static.nn.fc(x, out) - 1.0) ** 2)
            optimizer().minimize(self.loss)
        self.exe.run(self.startup, scope=self.scope)

    def run(self, k):
        starts = np.random.default_rng(k).random((5, 16)) < 0.5
        fed = {"words": np.where(starts, "ab", "ba").astype(object)}
        feed = fed if self.as_strings else {"x": starts.astype("f4")}
        return self.exe.run(self.main, feed, [self.loss], scope=self.scope)[0]


OPTIMIZERS = {
    "rows of a table": lambda: go.optimizer.ASGD(0.05, batch_num=3),
    "two buffers": lambda: go.optimizer.Adam(0.05),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_strings_train_as_numbers_do(kind):
    words, numbers = Words(OPTIMIZERS[kind], True), Words(OPTIMIZERS[kind], False)
    for k in range(8):
        np.testing.assert_allclose(words.run(k), numbers.run(k), rtol=1e-6)
    for v in numbers.main.persistables():
        found, expected = (held(model.scope, v.name) for model in (words, numbers))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_large_parameter_beside_strings():
    """Its step is computed in another shape, which is to land where the parameter lies."""
    made = [Words(lambda: go.optimizer.SGD(0.05), as_strings, WIDE) for as_strings in (True, False)]
    words, numbers = made
    for k in range(4):
        np.testing.assert_allclose(words.run(k), numbers.run(k), rtol=1e-5)
