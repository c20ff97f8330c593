"""Rows of a table kept as the two factors of a gradient: the same training."""

import numpy as np
import pytest

import graphopt as go
from graphopt.runtime.state.factored import Factored
from graphopt.runtime.state.resident import Resident
from tests.helpers import state_of

ROWS, WIDE, OUT = 4, 512, 128


class Wide:
    """A layer whose gradient has 2^16 elements, and rank 4."""

    def __init__(self, n=3, weight_decay=None):
        self.main, self.startup = go.static.Program(), go.static.Program()
        self.startup.random_seed = 7
        self.scope, self.exe = go.static.Scope(), go.static.Executor()
        with go.static.program_guard(self.main, self.startup):
            x = go.static.data("x", [None, WIDE])
            h = go.static.nn.fc(x, OUT, activation="tanh", name="fc")
            self.loss = go.mean((go.static.nn.fc(h, 1) - 1.0) ** 2) * 3.0
            opt = go.optimizer.ASGD(0.001, batch_num=n, weight_decay=weight_decay)
            self.pairs = opt.minimize(self.loss)[1]
        self.table = "fc.w_0_y_0"
        self.exe.run(self.startup, scope=self.scope)

    def run(self, k, fetch=(), rows=ROWS):
        x = np.random.default_rng(k).normal(size=(rows, WIDE)).astype("f4")
        fetched = [self.loss, *fetch]
        return self.exe.run(self.main, {"x": x}, fetched, scope=self.scope)

    def kind(self):
        return type(self.scope.values[self.table])

    def state(self):
        return state_of(self.main, self.scope)


def alike(found, expected, name=""):
    """Equal but for the order in which products were added up: in units of the largest."""
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6 * scale, err_msg=name)


def close(a, b):
    first, second = a.state(), b.state()
    for name in first:
        alike(first[name], second[name], name)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_factors_are_the_rows(n):
    thin, whole = Wide(n), Wide(n)
    for k in range(2 * n + 2):
        expected = whole.run(k, [whole.table])  # a fetched table is one value
        np.testing.assert_allclose(thin.run(k)[0], expected[0], rtol=1e-5)
        alike(thin.state()[thin.table], expected[1])
    assert thin.kind() is Factored
    assert whole.kind() is not Factored
    assert thin.scope.var(thin.table).get_tensor().shape() == [n, WIDE, OUT]
    close(thin, whole)


def test_batches_of_other_sizes_lay_the_table_out():
    ragged, whole = Wide(), Wide()
    for k, rows in enumerate([4, 4, 3, 4, 4, 2, 4]):
        np.testing.assert_allclose(
            ragged.run(k, rows=rows)[0], whole.run(k, [whole.table], rows=rows)[0], rtol=1e-5
        )
    assert ragged.kind() is Resident
    close(ragged, whole)


def test_a_loaded_table_stays_laid_out():
    first, second = Wide(), Wide()
    for k in range(4):
        first.run(k)
    for name, value in first.state().items():
        second.scope.put(name, value)
    for k in range(4, 9):
        np.testing.assert_allclose(first.run(k)[0], second.run(k)[0], rtol=1e-5)
    assert (first.kind(), second.kind()) == (Factored, Resident)
    close(first, second)


def test_many_steps_in_one_call_go_on_from_factors():
    one, mixed = Wide(), Wide()
    for k in range(4):
        one.run(k)
        mixed.run(k)
    assert mixed.kind() is Factored
    draws = [np.random.default_rng(k).normal(size=(ROWS, WIDE)).astype("f4") for k in range(4, 8)]
    found = mixed.exe.run_steps(mixed.main, {"x": np.stack(draws)}, [mixed.loss], mixed.scope)[0]
    np.testing.assert_allclose(found, [one.run(k)[0] for k in range(4, 8)], rtol=1e-5)
    np.testing.assert_allclose(mixed.run(8)[0], one.run(8)[0], rtol=1e-5)
    close(one, mixed)


@pytest.mark.parametrize("why", ["decay", "fetched", "disk"])
def test_a_gradient_that_is_needed_itself_is_laid_out(why):
    model = Wide(weight_decay=0.01 if why == "decay" else None)
    if why == "disk":
        model.main.tables[model.table] = "disk"
    grad = {p.name: g for p, g in model.pairs}["fc.w_0"]
    model.run(0, [grad] if why == "fetched" else [])
    assert model.kind() is not Factored


def test_a_run_that_fails_leaves_the_factors():
    model = Wide()
    model.run(0)
    before = model.state()
    with pytest.raises(go.errors.FeedError):
        model.exe.run(model.main, {"x": np.zeros((4, 3), "f4")}, [model.loss], scope=model.scope)
    after = model.state()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
