"""Tables of rows: moved by the runtime, equal to the table that a Program describes."""

import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from graphopt.runtime.state import room
from graphopt.runtime.state.resident import Resident
from graphopt.runtime.state.rows import Rows
from graphopt.runtime.state.staged import Staged
from tests.helpers import state_of


class Fit:
    """A small regression under ASGD."""

    def __init__(self, n=3, history="device", size=8):
        self.main, self.startup = go.static.Program(), go.static.Program()
        self.main.random_seed = self.startup.random_seed = 7
        self.scope, self.exe = go.static.Scope(), go.static.Executor()
        with go.static.program_guard(self.main, self.startup):
            x = go.static.data("x", [None, size])
            y = go.static.data("y", [None, 1])
            self.loss = go.mean((go.static.nn.fc(x, 1, name="fc") - y) ** 2)
            opt = go.optimizer.ASGD(0.05, batch_num=n, history=history)
            opt.minimize(self.loss)
        self.table = "fc.w_0_y_0"
        draw = np.random.default_rng(0)
        self.batches = [
            {
                "x": draw.normal(size=(4, size)).astype("f4"),
                "y": draw.normal(size=(4, 1)).astype("f4"),
            }
            for _ in range(5)
        ]
        self.exe.run(self.startup, scope=self.scope)

    def run(self, k, fetch=()):
        fetched = [self.loss, *fetch]
        batch = self.batches[k % 5]
        return self.exe.run(self.main, feed=batch, fetch_list=fetched, scope=self.scope)

    def state(self):
        return state_of(self.main, self.scope)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("history", ["device", "host", "disk"])
def test_rows_are_the_table_that_the_program_describes(n, history):
    moved, whole = Fit(n, history), Fit(n)
    for k in range(2 * n + 3):
        # A fetched table stays one value: this run is the Program as it was recorded.
        expected = whole.run(k, [whole.table, "fc.b_0_y_0"])
        np.testing.assert_allclose(moved.run(k)[0], expected[0], rtol=1e-6)
    a, b = moved.state(), whole.state()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=2e-6, atol=1e-7, err_msg=name)
    kind = Staged if history == "disk" else Resident
    assert isinstance(moved.scope.values[moved.table], kind)


def test_runs_with_rows_and_with_the_table_can_alternate():
    mixed, plain = Fit(), Fit()
    for k in range(9):
        mixed.run(k, [mixed.table] if k % 3 == 1 else [])
        plain.run(k)
    for name, value in mixed.state().items():
        np.testing.assert_allclose(value, plain.state()[name], rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("history", ["device", "disk"])
def test_a_copied_state_goes_on_in_the_middle_of_an_epoch(history):
    first, second = Fit(history=history), Fit(history=history)
    for k in range(4):
        first.run(k)
    for name, value in first.state().items():
        second.scope.put(name, value)
    for k in range(4, 10):
        np.testing.assert_array_equal(first.run(k)[0], second.run(k)[0])
    np.testing.assert_equal(first.state(), second.state())


def test_a_table_of_another_shape_is_refused():
    fit = Fit()
    fit.scope.put(fit.table, np.zeros((4, 8, 1), "f4"))
    with pytest.raises(errors.FeedError, match="another type"):
        fit.run(0)


@pytest.mark.parametrize("history", ["device", "disk"])
def test_a_run_that_fails_leaves_the_rows(history, monkeypatch):
    fit = Fit(history=history)
    fit.run(0)
    before = fit.state()
    compiled = next(iter(fit.exe._cache[fit.main]._entries.values()))
    wrong = {"x": np.zeros((4, 8), "f4"), "y": np.zeros((3, 1), "f4")}
    (program,) = compiled._known.values()
    with pytest.raises(errors.StepError):
        program.run(wrong, fit.scope, {})
    np.testing.assert_equal(before, fit.state())
    fit.run(1)


def test_a_table_costs_nothing_before_it_is_used():
    """A file of 2 GiB, of which three rows are written."""
    fit = Fit(n=2**17, size=2**12, history="disk")
    for k in range(3):
        fit.run(k)


def test_tables_that_do_not_fit_are_refused_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(room, "_free_memory", lambda: 100)
    with pytest.raises(errors.CapacityError, match="the gradient tables need") as found:
        Fit(n=4)
    assert 'history="disk"' in str(found.value)
    assert isinstance(found.value, MemoryError)
    monkeypatch.setattr(room, "_free_disk", lambda: 100)
    with pytest.raises(errors.CapacityError, match="TMPDIR"):
        Fit(n=4, history="disk")


def test_another_place_for_rows_is_an_error():
    with pytest.raises(errors.ArgumentError, match="history must be one of device, host, disk"):
        go.optimizer.ASGD(0.1, batch_num=2, history="dsk")


def test_rows_show_the_table():
    fit = Fit(n=3)
    fit.run(0)
    table = fit.scope.values[fit.table]
    assert isinstance(table, Rows)
    assert table.shape() == [3, 8, 1]
    tensor = fit.scope.var(fit.table).get_tensor()
    assert tensor.shape() == [3, 8, 1]
    assert np.count_nonzero(np.array(tensor)) == 8


def test_tables_that_were_updated_apart_keep_their_own_counts():
    parted, plain = Fit(n=4), Fit(n=4)
    for fit in (parted, plain):
        ops = [op for op in fit.main.global_block().ops if op.type == "ASGD"]
        for k in range(7):
            if k == 2:
                batch = fit.batches[k % 5]
                fit.exe.run(fit.main, feed=batch, fetch_list=[ops[:1]], scope=fit.scope)
            # the plain one goes by the recorded Program
            fit.run(k, [fit.table, "fc.b_0_y_0"] if fit is plain else [])
    state = parted.state()
    counts = [int(state[f"fc.{p}_0_m_0"][0]) for p in "bw"]
    assert counts == [8, 7]
    for name, value in parted.state().items():
        np.testing.assert_allclose(value, plain.state()[name], rtol=2e-6, atol=1e-7)
    draw = {k: np.stack([b[k] for b in parted.batches]) for k in ("x", "y")}
    found = parted.exe.run_steps(parted.main, draw, [parted.loss], parted.scope)[0]
    expected = [plain.run(k)[0] for k in range(5)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_shared_count_is_not_written_over_by_one_of_its_states():
    fit = Fit(n=4)
    ops = [op for op in fit.main.global_block().ops if op.type == "ASGD"]
    for k in range(2):
        fit.run(k)  # the counts of both tables are one value now
    first = next(ops[0].writes()).name
    names = [f"fc.{part}_0_m_0" for part in "bw"]
    table = f"{first}_y_0"
    for k in range(3):  # one of them goes on by itself, as a state of the graph
        fetch = [ops[:1], table]
        fit.exe.run(fit.main, feed=fit.batches[k], fetch_list=fetch, scope=fit.scope)
    state = fit.state()
    alone = f"{first}_m_0"
    assert [int(state[name][0]) for name in names] == [5 if name == alone else 2 for name in names]
