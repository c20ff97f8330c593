from graphopt.passes.select.specialise import Specialise
from tests.passes.both_runtimes import as_step, rewritten

TEXT = """
feed x : f32[N, 4]
feed y : i64[N]
state s : f32[4]
a : f32[M, 2] = Reshape(x, [-1, 2])
b : f32[M, 2] = Relu(a)
c : f32[d12] = Reshape(b, [-1])
s <- ReduceMean(x, [0], keepdims=0)
"""


def types(step):
    return {v.name: str(v.tensor_type) for v in step.list_vars()}


def test_symbols_become_ints_and_the_rest_is_inferred():
    step = as_step(TEXT, feed=("x", "y"))
    found = types(Specialise({"x": (3, 4)}).run(step))
    assert found == {
        "x": "f32[3, 4]",
        "y": "i64[3]",
        "s": "f32[4]",
        "s@NEXT": "f32[4]",
        "a": "f32[6, 2]",
        "b": "f32[6, 2]",
        "c": "f32[12]",
    }
    assert types(step)["a"] == "f32[M, 2]"


def test_a_static_program_comes_back_unchanged():
    step = as_step("feed x : f32[3, 4]\ny : f32[3, 4] = Exp(x)")
    assert Specialise({"x": (3, 4)}).run(step).text() == step.text()
    assert Specialise({"gone": (1,)}).run(step).text() == step.text()


def test_a_feed_of_unknown_rank():
    step = as_step("feed x : f32[*]\ny : f32[*] = Exp(x)\nz : f32[*] = Transpose(y)")
    assert types(Specialise({"x": (2, 3)}).run(step)) == {
        "x": "f32[2, 3]",
        "y": "f32[2, 3]",
        "z": "f32[3, 2]",
    }


def test_sequences():
    step = as_step("feed x : f32[N]\ny : seq(f32[N]) = SequenceConstruct(x, x)")
    assert types(Specialise({"x": (2,)}).run(step))["y"] == "seq(f32[2])"


def test_bodies():
    text = """
    feed x : f32[N, 2]
    feed n : i64[]
    y : f32[N, 2] = Loop(n, true, x)
    z : f32[T, M]
      body(i : i64[], going : bool[], h : f32[N, 2]):
        u : f32[N, 2] = Exp(h)
        f : f32[M] = Reshape(u, [-1])
        -> going, u, f
    """
    found = types(Specialise({"x": (3, 2)}).run(as_step(text)))
    assert found["h"] == found["u"] == "f32[3, 2]"
    assert found["f"] == "f32[6]"
    assert found["z"] == "f32[T, 6]"


def test_what_cannot_be_inferred_stays_open():
    text = "feed x : f32[N]\nfeed w : f32[3]\ny : f32[M] = Add(x, w)\nn : i64[1, K] = NonZero(x)"
    found = types(Specialise({"x": (2,)}).run(as_step(text)))
    assert found["y"] == "f32[M]"
    assert found["n"] == "i64[1, K]"


def test_the_input_is_untouched():
    assert rewritten(Specialise({"x": (3, 4)}), TEXT)
