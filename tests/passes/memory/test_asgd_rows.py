"""Which tables of ASGD are moved by rows, and what a table of rows is called."""

import numpy as np
import pytest

import graphopt as go
from graphopt.passes.memory.asgd_rows import History
from tests.passes.both_runtimes import as_step

TEXT = """
param w : f32[3, 4]
state d : f32[3, 4]
state y : f32[9, 3, 4]
state m : i64[1]
state lr : f32[]
feed x : f32[5, 3]
feed dy : f32[5, 4]
-- backward
dw : f32[3, 4] = Gemm(x, dy, transA=1)
{before}
-- update
w, d, y, m <- ASGD(w, dw, d, y, m, lr)
{behind}
"""


def rows(before="", behind="", *fetch, feed=()):
    text = TEXT.format(before=before, behind=behind)
    return History().run(as_step(text, *fetch, feed=feed)).rows


def test_a_table_is_a_row():
    (row,) = rows()
    names = [row.table.name, row.count.name, row.row.name, row.new_row.name, row.seen.name]
    assert names == ["y", "m", "y@ROW", "dw", "m@SEEN"]


@pytest.mark.parametrize(
    "reader",
    [
        {"before": "e : f32[9, 3, 4] = Exp(y)"},
        {"before": "e : i64[1] = Neg(m)"},
        {"behind": "e : f32[9, 3, 4] = Exp(y)"},
        {"behind": "e : i64[1] = Neg(m)"},
        {"behind": "m <- Add(m, [1])"},
        {"behind": "y <- Neg(y)"},
    ],
    ids=str,
)
def test_a_table_that_something_else_uses_stays_whole(reader):
    assert not rows(**reader)


@pytest.mark.parametrize("name", ["y", "m"])
def test_a_table_that_is_asked_for_or_fed_stays_whole(name):
    assert not rows("", "", name)
    assert not rows(feed=(name,))


@pytest.mark.parametrize("fetch", [(), ("dw",)])
def test_a_gradient_that_is_asked_for_is_copied(fetch):
    (row,) = rows("", "", *fetch)
    assert (row.new_row.name == "dw") == (not fetch)


@pytest.mark.parametrize(
    "name", ["w_y_0@ROW", "w_m_0@SEEN", "w_y_0@NEW_ROW", "w@NEXT", "w_y_0@LEFT"]
)
def test_a_user_may_call_a_variable_anything(name):
    """What a variable is to the runtime is said by the step's tables, not by its name."""

    def losses(called):
        main, startup, scope = go.static.Program(), go.static.Program(), go.static.Scope()
        with go.static.program_guard(main, startup):
            x = go.static.data(called, [None, 3])
            attr = go.ParamAttr(name="w", initializer=go.nn.initializer.Constant(0.5))
            w = go.create_parameter([3], "float32", attr=attr)
            loss = go.mean(go.square(x * w - 1.0))
            go.optimizer.ASGD(0.1, batch_num=3).minimize(loss)
        exe, draw = go.static.Executor(), np.random.default_rng(0)
        exe.run(startup, scope=scope)
        batches = draw.normal(size=(7, 4, 3)).astype("f4")
        one_by_one = [exe.run(main, {called: b}, [loss], scope=scope)[0] for b in batches]
        many = exe.run_steps(main, {called: batches}, [loss], scope=scope)[0]
        return [*one_by_one, *many], scope.get("w_y_0")

    found, table = losses(name)
    expected, right = losses("plain")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(table, right)
    assert len({float(v) for v in found}) > 7
