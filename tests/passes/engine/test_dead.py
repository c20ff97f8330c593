import pytest

from graphopt.ir.text.parse import parse
from graphopt.passes.engine.dead import DeadCode
from tests.passes.both_runtimes import (
    RUNTIMES,
    Runner,
    agree,
    as_step,
    lines,
    rewritten,
    sample_values,
)


def live(text, *keep):
    return rewritten(DeadCode(), text, *keep)


def test_state_and_what_is_asked_for():
    text = """
    feed x : f32[2]
    state s : f32[2]
    a : f32[2] = Exp(x)
    b : f32[2] = Neg(a)
    c : f32[2] = Abs(b)
    s <- Add(s, a)
    d : f32[2] = Sin(x)
    """
    assert live(text, "d") == [
        "a : f32[2] = Exp(x)",
        "s@NEXT : f32[2] = Add(s, a)",
        "d : f32[2] = Sin(x)",
    ]
    assert not DeadCode().run(as_step(text)).global_block().has_var("b")


def test_optional_results():
    text = """
    feed x : f32[1, 1, 4, 4]
    y : f32[1, 1, 2, 2] = MaxPool(x, kernel_shape=[2, 2], strides=[2, 2])
    i : i64[1, 1, 2, 2]
    """
    assert live(text, "y") == lines(as_step(text, "y"))[:1]
    assert live(text, "i") == lines(as_step(text, "i"))


NEST = """
feed x : f32[2]
feed m : f32[3, 2]
feed flag : bool[]
a : f32[2] = Exp(x)
b : f32[2] = Neg(x)
c : f32[2] = Sin(x)
p : f32[2] = Loop(3, true, x, x, a, b)
q : f32[2]
r : f32[2]
s : f32[2]
t : f32[3, 2]
u : f32[3, 2]
  body(i : i64[], going : bool[], v0 : f32[2], v1 : f32[2], v2 : f32[2], v3 : f32[2]):
    w0 : f32[2] = Cos(v0)
    w1 : f32[2] = Add(v1, v0)
    w2 : f32[2] = If(flag)
    w4 : f32[2]
      then_branch():
        e0 : f32[2] = Exp(v3)
        e1 : f32[2] = Exp(c)
        -> e0, e1
      else_branch():
        -> v3, v2
    w3 : f32[2] = Tanh(v3)
    -> going, w0, w1, w2, w3, w4, w1
k : f32[2] = Scan(x, x, m, m, num_scan_inputs=2)
l : f32[2]
n : f32[3, 2]
o : f32[3, 2]
  body(h0 : f32[2], h1 : f32[2], z0 : f32[2], z1 : f32[2]):
    j0 : f32[2] = Add(h0, z0)
    j1 : f32[2] = Add(h1, z1)
    j2 : f32[2] = Mul(z0, z1)
    -> j0, j1, j2, h1
"""
SIDEWAYS = NEST.replace("_inputs=2", "_inputs=2, scan_output_axes=[0, 1]")


def test_a_carried_value_that_another_needs():
    assert live(NEST, "q")[:5] == [
        "p : f32[2] = Loop(3, true, x, x)",
        "q : f32[2]",
        "body(i : i64[], going : bool[], v0 : f32[2], v1 : f32[2]):",
        "w0 : f32[2] = Cos(v0)",
        "w1 : f32[2] = Add(v1, v0)",
    ]


def test_a_stack_alone():
    """The inner If gives one result less, and what only that read is gone outside."""
    assert live(NEST, "t") == [
        "a : f32[2] = Exp(x)",
        "b : f32[2] = Neg(x)",
        "c : f32[2] = Sin(x)",
        "r : f32[2] = Loop(3, true, a, b)",
        "s : f32[2]",
        "t : f32[3, 2]",
        "body(i : i64[], going : bool[], v2 : f32[2], v3 : f32[2]):",
        "w2 : f32[2] = If(flag)",
        "w4 : f32[2]",
        "then_branch():",
        "e0 : f32[2] = Exp(v3)",
        "e1 : f32[2] = Exp(c)",
        "-> e0, e1",
        "else_branch():",
        "-> v3, v2",
        "w3 : f32[2] = Tanh(v3)",
        "-> going, w2, w3, w4",
    ]
    assert live(NEST, "s") == [
        "b : f32[2] = Neg(x)",
        "s : f32[2] = Loop(3, true, b)",
        "body(i : i64[], going : bool[], v3 : f32[2]):",
        "w3 : f32[2] = Tanh(v3)",
        "-> going, w3",
    ]


def test_a_scan():
    assert live(SIDEWAYS, "o") == [
        "l : f32[2] = Scan(x, m, scan_output_axes=[1], num_scan_inputs=1)",
        "o : f32[3, 2]",
        "body(h1 : f32[2], z1 : f32[2]):",
        "j1 : f32[2] = Add(h1, z1)",
        "-> j1, h1",
    ]


def test_what_is_scanned_in_vain():
    text = """
    feed m : f32[2, 3]
    feed n : f32[3, 2]
    a : f32[3] = Scan(m, n, m, scan_input_axes=[1, 0, 1], num_scan_inputs=3)
    b : f32[3, 2]
    c : i64[3]
      body(p : f32[2], q : f32[2], r : f32[2]):
        s : f32[] = ReduceSum(p, keepdims=0)
        t : f32[2] = Mul(q, r)
        u : i64[] = Size([1.0, 2.0])
        -> s, t, u
    """
    assert live(text, "b")[:3] == [
        "b : f32[3, 2] = Scan(n, m, scan_input_axes=[0, 1], num_scan_inputs=2)",
        "body(q : f32[2], r : f32[2]):",
        "t : f32[2] = Mul(q, r)",
    ]
    assert live(text, "c")[0] == "c : i64[3] = Scan(m, scan_input_axes=[1], num_scan_inputs=1)"


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", "pqrstuklno")
def test_each_result_alone_is_the_same(name, runtime, rng):
    program = parse(NEST)
    values = sample_values(program, rng)
    found = Runner(DeadCode().run(as_step(program, name)), [name], values, runtime).step()
    agree(found, Runner(program, [name], values, runtime).step())
