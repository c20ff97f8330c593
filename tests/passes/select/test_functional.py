"""A Program as a function: names, versions of state, and what is fed."""

import numpy as np
import pytest

from graphopt.ir.text.parse import parse, parse_step
from graphopt.ir.text.verify import verify
from graphopt.passes.memory.asgd_rows import History
from graphopt.passes.select.functional import functional
from tests.passes.both_runtimes import Runner, lines

COUNTED = """
feed x : f32[2]
state w : f32[2]
a : f32[2] = Exp(w)
w <- Add(w, x)
b : f32[2] = Exp(w)
w <- Neg(w)
w <- Mul(w, x)
c : f32[2] = Exp(w)
"""


def made(text, *fetch, **options):
    program = parse(text)
    before = program.text()
    step = functional(program, fetch=[program.global_block().var(v) for v in fetch], **options)
    verify(step)
    assert program.text() == before
    assert parse_step(step.text()).text() == step.text()
    return step


def following(step):
    return {v.name: new.name for v, new in step.next_state.items()}


def test_each_value_of_a_state_has_a_variable():
    step = made(COUNTED, "a", "b", "c", "w")
    assert lines(step) == [
        "a : f32[2] = Exp(w)",
        "w@1 : f32[2] = Add(w, x)",
        "b : f32[2] = Exp(w@1)",
        "w@2 : f32[2] = Neg(w@1)",
        "w@NEXT : f32[2] = Mul(w@2, x)",
        "c : f32[2] = Exp(w@NEXT)",
    ]
    assert following(step) == {"w": "w@NEXT"}
    assert [v.name for v in step.fetch] == ["a", "b", "c", "w@NEXT"]
    assert [v.name for v in step.inputs()] == ["x", "w"]
    assert all(v.maker is not None for v in step.fetch)


def test_a_run_that_does_not_assign_keeps_the_state():
    step = made(COUNTED, "c", assigns=False)
    assert following(step) == {}
    assert [v.name for v in step.fetch] == ["c"]


def test_state_that_is_only_read_has_no_next_value():
    step = made("state w : f32[2]\ny : f32[2] = Exp(w)", "y", "w")
    assert following(step) == {}
    assert [v.name for v in step.fetch] == ["y", "w"]
    assert step.fetch[1] is step.states[0]


def test_chosen_ops_alone():
    program = parse(COUNTED)
    ops = program.global_block().ops
    step = functional(program, [ops[1], ops[2]], [program.global_block().var("b")])
    assert lines(step) == ["w@NEXT : f32[2] = Add(w, x)", "b : f32[2] = Exp(w@NEXT)"]
    assert not {"a", "c"} & {*step.global_block().vars}


def test_what_is_fed_is_not_made():
    text = """
    feed x : f32[4]
    a : f32[2] = Split(x, num_outputs=2)
    b : f32[2]
    y : f32[2] = Sub(a, b)
    """
    step = made(text, "y", "a", feed=("x", "b"))
    (split, sub) = step.global_block().ops
    assert split.outputs[1] is None
    assert [v.name for v in sub.operands()] == ["a", "b"]
    assert sub.inputs[1].maker is None
    assert step.fed == ("x", "b")
    assert [v.name for v in step.inputs()] == ["x", "b"]


def test_inputs_are_in_the_order_of_the_feed():
    text = "state s : f32[]\nfeed x : f32[]\nfeed y : f32[]\nz : f32[] = Sum(s, x, y)"
    assert [v.name for v in made(text, "z", feed=("y", "x")).inputs()] == ["y", "x", "s"]
    assert [v.name for v in made(text, "z", feed=("s", "y", "x")).inputs()] == ["s", "y", "x"]


def test_a_feed_that_nothing_reads_is_declared():
    step = made("feed x : f32[N]\nfeed y : f32[N]\nz : f32[N] = Exp(x)", "z", feed=("x", "y"))
    assert step.global_block().has_var("y")
    assert [v.name for v in step.inputs()] == ["x"]


@pytest.mark.parametrize(
    ("name", "found"),
    [("w@NEXT", "w@NEXT@"), ("w@1", "w@NEXT"), ("w@1@", "w@NEXT"), ("other", "w@NEXT")],
)
def test_names_that_a_user_has_taken(name, found):
    text = f"""
    feed x : f32[2]
    state w : f32[2]
    feed "{name}" : f32[2]
    w <- Add(w, x)
    w <- Neg(w)
    y : f32[2] = Mul(w, "{name}")
    """
    step = made(text, "y", "w")
    assert following(step) == {"w": found}
    values = {
        "x": np.array([1, 2], "f4"),
        "w": np.array([3, 4], "f4"),
        name: np.array([5, 6], "f4"),
    }
    run = Runner(step, [], values, "onnxruntime")
    product, after = run.step()
    np.testing.assert_array_equal(after, [-4, -6])
    np.testing.assert_array_equal(product, [-20, -36])
    np.testing.assert_array_equal(run.state()["w"], after)


def test_a_user_variable_that_is_made_later_keeps_its_name():
    text = """
    state w : f32[2]
    w <- Neg(w)
    "w@NEXT" : f32[2] = Exp(w)
    """
    step = made(text, "w@NEXT", "w")
    assert [v.name for v in step.fetch] == ["w@NEXT", "w@NEXT@"]
    assert following(step) == {"w": "w@NEXT@"}
    (exp, after) = Runner(step, [], {"w": np.array([1, 2], "f4")}, "onnxruntime").step()
    np.testing.assert_array_equal(after, [-1, -2])
    np.testing.assert_allclose(exp, np.exp(after), 1e-6)


def test_the_variables_that_rows_are_fed_by_avoid_a_feed_of_the_user():
    text = """
    param w : f32[3]
    state d : f32[3]
    state y : f32[9, 3]
    state m : i64[1]
    state lr : f32[]
    feed "y@ROW" : f32[3]
    feed "m@SEEN" : f32[3]
    dw : f32[3] = Mul("y@ROW", "m@SEEN")
    -- update
    w, d, y, m <- ASGD(w, dw, d, y, m, lr)
    """
    step = History().run(made(text))
    (row,) = step.rows
    assert row.row.name not in ("y@ROW", "m@SEEN")
    assert row.seen.name not in ("y@ROW", "m@SEEN")
    assert {"y@ROW", "m@SEEN", row.row.name, row.seen.name} <= {v.name for v in step.inputs()}
    assert {*following(step)} == {"w", "d"}


def test_bodies_read_the_value_that_the_state_has_there():
    text = """
    feed flag : bool[]
    state w : f32[2]
    w <- Neg(w)
    y : f32[2] = If(flag)
      then_branch():
        a : f32[2] = Exp(w)
        -> a
      else_branch():
        -> w
    w <- Mul(w, 2.0)
    """
    step = made(text, "y")
    assert lines(step)[1:7] == [
        "y : f32[2] = If(flag)",
        "then_branch():",
        "a : f32[2] = Exp(w@1)",
        "-> a",
        "else_branch():",
        "-> w@1",
    ]
