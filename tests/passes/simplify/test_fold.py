import numpy as np
import pytest

from graphopt.ir.text.parse import parse
from graphopt.passes.simplify.fold import Fold
from tests.passes.both_runtimes import (
    RUNTIMES,
    Runner,
    agree,
    as_step,
    lines,
    rewritten,
    sample_values,
)


def fold(text, *keep, **fields):
    return rewritten(Fold(**fields), text, *keep)


def test_shapes_that_are_known():
    text = """
    feed x : f32[2, 3]
    s : i64[2] = Shape(x)
    n : i64[1] = Shape(x, start=-1)
    k : i64[] = Size(x)
    m : i64[1] = Gather(s, [0])
    p : i64[1] = Mul(m, n)
    q : i64[1] = Unsqueeze(k, [0])
    a : f32[A] = Reshape(x, p)
    b : f32[B] = Reshape(a, q)
    y : f32[B] = Exp(b)
    """
    assert fold(text, "y") == [
        "a : f32[6] = Reshape(x, [6])",
        "b : f32[6] = Reshape(a, [6])",
        "y : f32[6] = Exp(b)",
    ]


def test_what_follows_for_open_dims():
    """A symbol that turns out to be known is known everywhere."""
    text = """
    feed x : f32[4, 3]
    n : i64[1] = Shape(x, end=1)
    r : i64[] = Squeeze(n)
    i : i64[R] = Range(0, r, 1)
    c : f32[R] = Cast(i, to=f32)
    u : f32[R, 1] = Unsqueeze(c, [1])
    y : f32[R, 3] = Mul(x, u)
    a : f32[A, 3] = Split(y, num_outputs=2)
    b : f32[A, 3]
    z : f32[A, 3] = Add(a, b)
    """
    assert fold(text, "z") == [
        "y : f32[4, 3] = Mul(x, [[0.0], [1.0], [2.0], [3.0]])",
        "a : f32[2, 3] = Split(y, num_outputs=2)",
        "b : f32[2, 3]",
        "z : f32[2, 3] = Add(a, b)",
    ]


def test_no_larger_than_allowed_or_than_its_operands():
    text = """
    feed x : f32[20, 20]
    a : f32[20, 20] = Expand(1.0, [20, 20])
    y : f32[20, 20] = Add(x, a)
    """
    assert fold(text, "y", max_bytes=1600) == ["y : f32[20, 20] = Add(x, const f32[20, 20])"]
    assert len(fold(text, "y", max_bytes=1599)) == 2
    small = "feed x : f32[2]\na : f32[2] = Neg([1.0, 2.0])\ny : f32[2] = Add(x, a)"
    assert fold(small, "y", max_bytes=0) == ["y : f32[2] = Add(x, [-1.0, -2.0])"]


def test_a_size_that_is_not_known_before():
    text = "feed x : i64[]\na : i64[R] = Range(0, 1000, 1)\ny : i64[R] = Add(a, x)"
    assert len(fold(text, "y", max_bytes=7999)) == 2
    assert fold(text, "y", max_bytes=8000) == ["y : i64[1000] = Add(const i64[1000], x)"]


@pytest.mark.parametrize(
    "op",
    [
        "y : f32[3] = RandomUniform(shape=[3])",
        "y : f32[3] = RandomUniform(shape=[3], seed=3.0)",
        "y : f32[2] = RandomNormalLike([1.0, 2.0], seed=3.0)",
        "y : f32[2] = Dropout([1.0, 2.0], 0.5, true)",
        "y : f32[2] = Bernoulli([0.5, 0.5], seed=1.0)",
    ],
)
def test_random_ops_stay(op):
    assert len(fold(f"{op}\nz : f32[N] = Exp(y)", "z")) == 2


@pytest.mark.parametrize(
    "op",
    [
        "y : i64[] = Div(1, 0)",
        "y : i32[1] = Cast([3e10], to=i32)",
        "y : i32[1] = Cast([nan], to=i32)",
        "y : bf16[1] = Cast([1.0], to=bf16)",
    ],
)
def test_what_runtimes_disagree_about_stays(op):
    assert len(fold(op + "\nz : f32[1] = Cast(y, to=f32)", "z")) == 2


def test_unsigned_numbers_wrap():
    text = "feed x : u32[1]\na : u32[1] = Mul(u32([65536]), u32([65537]))\ny : u32[1] = Add(x, a)"
    assert fold(text, "y") == ["y : u32[1] = Add(x, u32([65536]))"]


def test_a_result_that_is_asked_for_stays():
    text = "a : f32[] = Neg(1.0)\ny : f32[] = Exp(a)"
    assert fold(text, "a", "y") == ["a : f32[] = Neg(1.0)", "y : f32[] = Exp(-1.0)"]


def test_state_stays_assigned():
    assert fold("state s : f32[]\ns <- Neg(1.0)") == ["s@NEXT : f32[] = Neg(1.0)"]


def test_nothing_to_fold():
    assert not Fold().needed(as_step("feed x : f32[N]\ny : f32[N] = Exp(x)", "y"))


IF = """
feed x : f32[2]
state s : f32[2]
flag : bool[] = Not({})
y : f32[2] = If(flag)
w : f32[2]
  then_branch():
    a : f32[2] = Exp(x)
    -> a, s
  else_branch():
    b : f32[2] = If(flag)
      then_branch():
        c : f32[2] = Neg(x)
        -> c
      else_branch():
        d : f32[2] = Abs(x)
        -> d
    -> b, x
s <- Add(s, 1.0)
z : f32[2] = Add(y, w)
"""


def test_an_if_becomes_the_branch_that_it_takes():
    """A state that the branch gives is what it was, also where it is assigned before it is read."""
    assert fold(IF.format("false"), "z") == [
        "a : f32[2] = Exp(x)",
        "s@NEXT : f32[2] = Add(s, 1.0)",
        "z : f32[2] = Add(a, s)",
    ]
    assert fold(IF.format("true"), "z", "y") == [
        "d : f32[2] = Abs(x)",
        "y : f32[2] = Identity(d)",
        "s@NEXT : f32[2] = Add(s, 1.0)",
        "z : f32[2] = Add(d, x)",
    ]
    folded = Fold().run(as_step(IF.format("true"), "z"))
    assert folded.num_blocks == 1


def test_a_loop_of_the_branch_stands_around_it():
    text = """
    feed x : f32[2]
    y : f32[2] = If(true)
      then_branch():
        a : f32[2] = Loop(3, true, x)
          body(i : i64[], going : bool[], h : f32[2]):
            u : f32[2] = Exp(h)
            -> going, u
        -> a
      else_branch():
        -> x
    z : f32[2] = Neg(y)
    """
    folded = Fold().run(as_step(text, "z"))
    assert lines(folded)[0] == "a : f32[2] = Loop(3, true, x)"
    (body,) = folded.blocks[1:]
    assert body.parent is folded.global_block()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("taken", ["true", "false"])
def test_the_branch_gives_the_same(taken, runtime, rng):
    program = parse(IF.format(taken))
    values = sample_values(program, rng)
    runs = [Runner(p, ["z"], values, runtime) for p in (program, Fold().run(as_step(program, "z")))]
    for _ in range(2):
        agree(runs[1].step(), runs[0].step())
        agree(runs[1].state().values(), runs[0].state().values())


def test_in_a_body():
    text = """
    feed x : f32[2, 3]
    y : f32[2, 3] = Loop(2, true, x)
      body(i : i64[], going : bool[], h : f32[2, 3]):
        s : i64[2] = Shape(h)
        n : i64[1] = Slice(s, [1], [2])
        o : f32[K] = Expand(1.0, n)
        u : f32[2, 3] = Add(h, o)
        -> going, u
    """
    assert fold(text, "y")[2:] == ["u : f32[2, 3] = Add(h, [1.0, 1.0, 1.0])", "-> going, u"]


def test_values_are_those_of_the_runtime(rng):
    text = "feed x : f32[]\n"
    text += "a : f32[3] = Exp([0.1, -2.5, 3.3])\nb : i64[2] = Div([-7, 7], [2, -2])\n"
    text += "c : i64[2] = Mod([-7, 7], [3, -3])\nd : f32[2] = Cast(b, to=f32)\n"
    text += "e : f32[2] = Cast(c, to=f32)\nf : f32[] = ReduceSum(a, keepdims=0)\n"
    text += "g : f32[2] = Sum(d, e, f, x)"
    program = parse(text)
    folded = Fold().run(as_step(program, "g"))
    assert len(folded.global_block().ops) == 1
    values = {"x": np.array(0.5, np.float32)}
    found = Runner(folded, ["g"], values, "onnxruntime").step(values)
    agree(found, Runner(program, ["g"], values, "onnxruntime").step(values))
