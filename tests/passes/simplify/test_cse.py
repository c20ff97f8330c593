from graphopt.passes.simplify.cse import CommonSubexpressions
from tests.passes.both_runtimes import as_step, lines, rewritten


def merged(text, *keep):
    return rewritten(CommonSubexpressions(), text, *keep)


def unchanged(text, *keep):
    assert merged(text, *keep) == lines(as_step(text, *keep))


def test_chains_merge_at_once():
    text = """
    feed x : f32[2]
    a : f32[2] = Exp(x)
    b : f32[2] = Neg(a)
    -- backward
    c : f32[2] = Exp(x)
    d : f32[2] = Neg(c)
    y : f32[2] = Add(b, d)
    """
    assert merged(text, "y") == [
        "a : f32[2] = Exp(x)",
        "b : f32[2] = Neg(a)",
        "y : f32[2] = Add(b, b)",
    ]


def test_other_attributes_or_operands_are_other_values():
    unchanged(
        """
        feed x : f32[2, 2]
        a : f32[2, 2] = Softmax(x, axis=0)
        b : f32[2, 2] = Softmax(x, axis=1)
        c : f32[2, 2] = Sub(a, b)
        d : f32[2, 2] = Sub(b, a)
        e : i64[2, 2] = Cast(x, to=i64)
        f : f32[2, 2] = Cast(e, to=f32)
        y : f32[2, 2] = Sum(c, d, f)
        """,
        "y",
    )


def test_versions_of_state():
    unchanged(
        """
        state w : f32[2]
        a : f32[2] = Exp(w)
        w <- Neg(w)
        b : f32[2] = Exp(w)
        w <- Neg(w)
        c : f32[2] = Exp(w)
        y : f32[2] = Sum(a, b, c)
        """,
        "y",
    )


def test_state_is_still_assigned():
    """Each state has a next value of its own, be it a copy of another's."""
    text = "state v : f32[2]\nstate w : f32[2]\nv <- Neg(v)\nw <- Neg(v)\nv <- Neg(v)"
    assert merged(text) == [
        "v@1 : f32[2] = Neg(v)",
        "w@NEXT : f32[2] = Neg(v@1)",
        "v@NEXT : f32[2] = Identity(w@NEXT)",
    ]


def test_random_ops_and_dropout_stay():
    unchanged(
        """
        feed x : f32[2]
        a : f32[2] = RandomNormalLike(x, seed=1.0)
        b : f32[2] = RandomNormalLike(x, seed=1.0)
        c : f32[2] = Dropout(x, 0.5, true, seed=1)
        d : f32[2] = Dropout(x, 0.5, true, seed=1)
        y : f32[2] = Sum(a, b, c, d)
        """,
        "y",
    )


def test_fetched_names_survive():
    text = """
    feed x : f32[2]
    a : f32[2] = Exp(x)
    b : f32[2] = Exp(x)
    y : f32[2] = Neg(b)
    """
    assert merged(text, "b", "y") == [
        "a : f32[2] = Exp(x)",
        "b : f32[2] = Identity(a)",
        "y : f32[2] = Neg(a)",
    ]


def test_an_op_with_fewer_results():
    text = """
    feed x : f32[2, 3]
    feed t : i64[2]
    a : f32[] = SoftmaxCrossEntropyLoss(x, t)
    b : f32[] = SoftmaxCrossEntropyLoss(x, t)
    c : f32[2, 3]
    y : f32[2, 3] = Sum(a, b, c)
    """
    assert merged(text, "y") == [
        "a : f32[] = SoftmaxCrossEntropyLoss(x, t)",
        "c : f32[2, 3]",
        "y : f32[2, 3] = Sum(a, a, c)",
    ]


def test_one_of_several_results_is_fetched():
    """There would have to be a copy of each."""
    unchanged(
        """
        feed x : f32[6]
        a : f32[3] = Split(x, num_outputs=2)
        b : f32[3]
        c : f32[3] = Split(x, num_outputs=2)
        d : f32[3]
        y : f32[3] = Sum(a, b, c, d)
        """,
        "d",
        "y",
    )


def test_splits_of_other_sizes_stay():
    unchanged(
        """
        feed x : f32[6]
        a : f32[3] = Split(x, num_outputs=2)
        b : f32[3]
        c : f32[2] = Split(x, num_outputs=3)
        d : f32[2]
        e : f32[2]
        y : f32[12] = Concat(a, b, c, d, e, axis=0)
        """,
        "y",
    )


def test_bodies():
    """What is computed outside is there inside; what one branch computes is not in the other."""
    text = """
    feed x : f32[2]
    feed flag : bool[]
    a : f32[2] = Exp(x)
    y : f32[2] = If(flag)
      then_branch():
        b : f32[2] = Exp(x)
        c : f32[2] = Neg(b)
        d : f32[2] = Neg(a)
        e : f32[2] = Add(c, d)
        -> e
      else_branch():
        f : f32[2] = Neg(a)
        -> f
    z : f32[2] = Neg(a)
    """
    assert merged(text, "y", "z") == [
        "a : f32[2] = Exp(x)",
        "y : f32[2] = If(flag)",
        "then_branch():",
        "c : f32[2] = Neg(a)",
        "e : f32[2] = Add(c, c)",
        "-> e",
        "else_branch():",
        "f : f32[2] = Neg(a)",
        "-> f",
        "z : f32[2] = Neg(a)",
    ]
