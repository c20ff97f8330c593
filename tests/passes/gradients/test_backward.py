import time

import numpy as np
import pytest

import graphopt as go
from graphopt.errors import ArgumentError, GradientError, LossError, ShapeError
from graphopt.ir.model.operator import Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Parameter
from graphopt.ir.text.parse import parse
from graphopt.ir.text.verify import verify
from graphopt.passes.gradients.backward import append_backward, gradients
from tests.ops.harness import evaluate


def var(program, name):
    return program.global_block().var(name)


def test_text_of_a_differentiated_program():
    p = parse("""
    feed x : f32[N, 4]
    param w : f32[4, 3]
    h : f32[N, 3] = MatMul(x, w)
    r : f32[N, 3] = Relu(h)
    loss : f32[] = ReduceSum(r, keepdims=0)
    """)
    ((w, grad),) = append_backward(var(p, "loss"))
    verify(p)
    assert (w.name, grad.name) == ("w", "w@GRAD")
    assert str(grad.tensor_type) == "f32[4, 3]"
    backward = [op for op in p.global_block().ops if op.role is Role.BACKWARD]
    assert all(op.made_by == "backward" for op in backward)
    # the gradient of the feed is not wanted, so nothing computes it
    assert [op.type for op in backward].count("Gemm") == 1


def test_a_backward_op_points_at_the_users_line():
    p = Program()
    x = p.global_block().create_var("x", [3])
    y = p.recorder().Exp(x)  # this line
    gradients([y], [x])
    for op in p.global_block().ops:
        assert "this line" in "".join(op.where.lines())


def test_gradients_of_several_targets_are_summed_and_weighted():
    p = parse("feed x : f64[3]\nfeed c : f64[3]\na : f64[3] = Mul(x, x)\nb : f64[3] = Exp(x)")
    x, c = var(p, "x"), var(p, "c")
    (dx,) = gradients([var(p, "a"), var(p, "b")], [x], [c, None])
    value = np.array([0.5, -1.0, 2.0])
    weight = np.array([1.0, 2.0, 3.0])
    (found,), _ = evaluate(p, [dx], {"x": value, "c": weight})
    np.testing.assert_allclose(found, 2 * value * weight + np.exp(value))


def test_unreachable_and_stopped_inputs_give_none():
    p = parse("feed x : f32[3]\nfeed z : f32[3]\ny : f32[3] = Exp(x)")
    x, y, z = (var(p, n) for n in "xyz")
    assert gradients([y], [z]) == [None]
    assert gradients([y], [x], no_grad=[x]) == [None]
    y2 = p.recorder().Neg(y)
    y.stop_gradient = True
    assert gradients([y2], [x]) == [None]


def test_an_intermediate_can_be_an_input():
    p = parse("feed x : f64[3]\nh : f64[3] = Exp(x)\ny : f64[3] = Mul(h, h)")
    h, x = var(p, "h"), var(p, "x")
    dh, dx = gradients([var(p, "y")], [h, x])
    value = np.array([0.1, 0.2, 0.3])
    (found_h, found_x), _ = evaluate(p, [dh, dx], {"x": value})
    np.testing.assert_allclose(found_h, 2 * np.exp(value))
    np.testing.assert_allclose(found_x, 2 * np.exp(2 * value))


def test_a_target_that_is_an_input():
    p = parse("feed x : f64[3]")
    (dx,) = gradients([var(p, "x")], [var(p, "x")])
    (found,), _ = evaluate(p, [dx], {})
    np.testing.assert_array_equal(found, np.ones(3))


def test_an_op_without_a_rule_uses_its_function_body():
    p = parse("feed x : f64[4]\ny : f64[4] = MeanVarianceNormalization(x, axes=[0])")
    (dx,) = gradients([var(p, "y")], [var(p, "x")], [p.constant(np.array([1.0, -2.0, 0.5, 3.0]))])
    x = np.array([0.3, -1.0, 2.0, 0.7])
    (found,), _ = evaluate(p, [dx], {"x": x})

    def f(x):
        return ((x - x.mean()) / (x.std() + 1e-9) * [1.0, -2.0, 0.5, 3.0]).sum()

    numeric = [(f(x + e) - f(x - e)) / 2e-6 for e in 1e-6 * np.eye(4)]
    np.testing.assert_allclose(found, numeric, rtol=1e-6)


def test_no_gradient_names_the_path_and_changes_nothing():
    p = parse("""
    feed x : f32[3, 3]
    param w : f32[3, 3]
    h : f32[3, 3] = MatMul(x, w)
    d : f32[3, 3] = BitCast(h, to=f32)
    loss : f32[] = ReduceSum(d, keepdims=0)
    """)
    before = p.text()
    with pytest.raises(GradientError) as found:
        append_backward(var(p, "loss"))
    assert "needs the gradient of BitCast, which has none" in str(found.value)
    assert "path : loss <- ReduceSum <- BitCast <- h <- w" in str(found.value)
    assert p.text() == before


def test_integers_and_zero_derivatives_stop_gradients():
    p = parse("""
    feed x : f32[3]
    n : i64[3] = Cast(x, to=i64)
    y : f32[3] = Cast(n, to=f32)
    z : f32[3] = Floor(x)
    """)
    assert gradients([var(p, "y")], [var(p, "x")]) == [None]
    assert gradients([var(p, "z")], [var(p, "x")]) == [None]


@pytest.mark.parametrize("type", ["f32[N]", "f32[3]", "i64[]"])
def test_the_loss_is_one_float(type):
    p = parse(f"feed x : {type}\nparam w : f32[3]")
    with pytest.raises(LossError, match="must be one float"):
        append_backward(var(p, "x"))


def test_wrong_target_gradients_are_refused():
    p = parse("feed x : f32[3]\nfeed c : f32[3, 1]\ny : f32[3] = Exp(x)")
    x, y, c = (var(p, n) for n in "xyc")
    with pytest.raises(ShapeError):
        gradients([y], [x], [c])
    with pytest.raises(ArgumentError):
        gradients([y], [x], [c, c])
    with pytest.raises(ArgumentError):
        gradients([], [x])
    other = parse("feed x : f32[3]")
    with pytest.raises(ArgumentError, match="another Program"):
        gradients([y], [var(other, "x")])


def test_gradients_read_what_the_forward_op_read():
    """An update between forward and backward does not change the gradient."""
    p = parse("""
    feed x : f64[3]
    param w : f64[3]
    y : f64[3] = Mul(x, w)
    loss : f64[] = ReduceSum(y, keepdims=0)
    -- update
    w <- Neg(w)
    """)
    dx, dw = gradients([var(p, "loss")], [var(p, "x"), var(p, "w")])
    verify(p)
    x, w = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    (found_x, found_w), _ = evaluate(p, [dx, dw], {"x": x, "w": w})
    np.testing.assert_array_equal(found_x, w)
    np.testing.assert_array_equal(found_w, x)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_dim_that_may_be_one_is_summed_at_run_time(rows):
    """Symbols that inference made leave open whether an operand was broadcast."""
    p = parse("""
    feed a : f64[N, 3]
    feed keep : bool[N]
    feed b : f64[4, 3]
    part : f64[U, 3] = Compress(a, keep, axis=0)
    y : f64[V, 3] = Mul(part, b)
    """)
    part, b = var(p, "part"), var(p, "b")
    dpart, db = gradients([var(p, "y")], [part, b])
    rng = np.random.default_rng(0)
    feeds = {"a": rng.normal(size=(6, 3)), "b": rng.normal(size=(4, 3)),
             "keep": np.arange(6) < rows}  # fmt: skip
    (found_part, found_b), _ = evaluate(p, [dpart, db], feeds)
    kept = feeds["a"][:rows]
    expected = feeds["b"].sum(0, keepdims=True) if rows == 1 else feeds["b"]
    np.testing.assert_allclose(found_part, expected)
    np.testing.assert_allclose(found_b, np.broadcast_to(kept, (4, 3)))


def test_frozen_parameters_get_no_gradient():
    p = parse("""
    param a : f32[3]
    frozen b : f32[3]
    y : f32[3] = Mul(a, b)
    loss : f32[] = ReduceSum(y, keepdims=0)
    """)
    assert isinstance(var(p, "b"), Parameter)
    assert [q.name for q, _ in append_backward(var(p, "loss"))] == ["a"]


def test_the_time_to_differentiate_grows_with_the_number_of_ops():
    def seconds(count):
        p = Program()
        x = p.global_block().create_var("x", [None, 4])
        y = x
        for _ in range(count // 2):
            y = y * 1.5 + x
        start = time.process_time()
        gradients([y], [x])
        return time.process_time() - start

    seconds(100)
    few, many = min(seconds(1000), seconds(1000)), seconds(8000)
    assert many < 20 * few  # 8 times if it is linear, 64 times if it is quadratic


def test_saved_results_of_an_op_whose_operand_is_assigned_later():
    """LayerNormalization saves its mean for the gradient; its scale is updated in between."""
    p = parse("""
    feed x : f32[N, 4]
    param s : f32[4]
    y : f32[N, 4] = LayerNormalization(x, s)
    loss : f32[] = ReduceSum(y, keepdims=0)
    -- update
    s <- Neg(s)
    """)
    (dx,) = gradients([var(p, "loss")], [var(p, "x")])
    verify(p)
    assert dx is not None


def numeric(program, target, feeds, name, step=1e-6):
    """The derivative of a scalar for one fed value, by central differences."""

    def at(delta):
        return float(evaluate(program, [target], {**feeds, name: feeds[name] + delta})[0][0].sum())

    return (at(step) - at(-step)) / (2 * step)


def test_a_variable_that_is_assigned_twice_has_two_gradients():
    p = parse("""
    feed x : f64[]
    state c : f64[]
    a : f64[] = Mul(x, x)
    c <- Identity(a)
    y1 : f64[] = Sin(c)
    b : f64[] = Mul(a, x)
    c <- Identity(b)
    y2 : f64[] = Mul(c, c)
    y : f64[] = Add(y1, y2)
    """)
    var(p, "c").stop_gradient = False
    (dx,) = gradients([var(p, "y")], [var(p, "x")])
    feeds = {"x": np.array(1.3)}
    ((found,), _) = evaluate(p, [dx], feeds)
    np.testing.assert_allclose(found, numeric(p, var(p, "y"), feeds, "x"), rtol=1e-6)


def test_an_update_stops_gradients_and_later_reads_count():
    """A loss over parameters that were updated is differentiated at their new value."""
    p = parse("""
    feed x : f64[2]
    param w : f64[2]
    a : f64[2] = Mul(x, w)
    -- update
    w <- SGD(w, a, f64(0.1))
    -- forward
    b : f64[2] = Mul(w, w)
    loss : f64[] = ReduceSum(b, keepdims=0)
    """)
    ((_, grad),) = append_backward(var(p, "loss"))
    verify(p)
    x, w = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    (found,), _ = evaluate(p, [grad], {"x": x, "w": w})
    np.testing.assert_allclose(found, 2 * (w - 0.1 * x * w))


def test_the_mean_of_an_empty_batch_has_an_empty_gradient():
    p = parse("feed x : f64[N, 3]\ny : f64[N] = ReduceMean(x, [1], keepdims=0)")
    x = var(p, "x")
    (dx,) = gradients([p.recorder().Mul(var(p, "y"), 2.0)], [x])
    (found,), _ = evaluate(p, [dx], {"x": np.zeros((0, 3))})
    assert found.shape == (0, 3)


def test_a_gradient_reads_what_the_op_that_assigns_a_state_read(rng):
    """s <- s x, and then the derivative of its sum for x: what s was before."""
    main = go.static.Program()
    block = main.global_block()
    s = block.create_var("s", [3], persistable=True)
    x = block.create_var("x", [3])
    x.is_data = True
    g = main.recorder()
    g.emit("Mul", s, x, into=[s])
    y = g.ReduceSum(g.Mul(s, s), keepdims=0)
    (dx,) = go.static.gradients([y], [x])
    assert dx is not None
    exe, scope = go.static.Executor(), go.static.Scope()
    before, value = rng.normal(size=(2, 3)).astype("f4")
    scope.put("s", before)
    (found,) = exe.run(main, {"x": value}, [dx], scope=scope)
    np.testing.assert_allclose(found, 2 * before * before * value, rtol=1e-5)
