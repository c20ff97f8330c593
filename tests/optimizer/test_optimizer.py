import logging
from typing import Any

import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from graphopt.ir.model.operator import Role
from tests.helpers import held, put


@pytest.fixture
def guard():
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        yield main, startup


def model(**attr):
    x = go.static.data("x", [None, 3])
    w = go.create_parameter([3, 2], "float32", attr=go.ParamAttr(name="w", **attr))
    b = go.create_parameter([2], "float32", name="b", is_bias=True)
    return go.mean(x @ w + b), w, b


def reference_asgd(grads, rate, n):
    """The published rule on a vector of gradients, starting at 0."""
    w, d, y = 0.0, 0.0, [0.0] * n
    for m, g in enumerate(grads):
        d, y[m % n] = d - y[m % n] + g, g
        w -= rate * d / min(m + 1, n)
    return w, d, y


@pytest.mark.parametrize("n", [1, 3, 7])
def test_asgd_is_the_published_rule(n, rng):
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        g = go.static.data("g", [])
        w = go.create_parameter(
            [], "float32", name="w", default_initializer=go.nn.initializer.Constant(0.0)
        )
        go.optimizer.ASGD(0.1, batch_num=n).minimize(g * w)
    scope, exe = go.static.Scope(), go.static.Executor()
    exe.run(startup, scope=scope)
    grads = rng.normal(size=20).astype("f4")
    for value in grads:
        exe.run(main, feed={"g": value}, scope=scope)
    expected, d, y = reference_asgd(grads.tolist(), 0.1, n)
    found = {k: held(scope, k) for k in ("w", "w_d_0", "w_y_0", "w_m_0")}
    np.testing.assert_allclose(found["w"], expected, rtol=1e-5)
    np.testing.assert_allclose(found["w_d_0"], d, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["w_y_0"], y, rtol=1e-6)
    assert found["w_m_0"] == [20]


def test_minimize_returns_ops_and_raw_gradients(guard):
    loss, w, b = model()
    ops, pairs = go.optimizer.ASGD(0.1, batch_num=2, weight_decay=0.1).minimize(loss)
    assert [(p.name, g.name) for p, g in pairs] == [("w", "w@GRAD"), ("b", "b@GRAD")]
    assert [op.output_arg_names[0] for op in ops] == ["b", "w"]
    roles = [op.role for op in guard[0].global_block().ops]
    order = [Role.FORWARD, Role.BACKWARD, Role.REGULARIZE, Role.UPDATE]
    assert [r for k, r in enumerate(roles) if k == 0 or roles[k - 1] is not r] == order


def test_state_is_named_and_typed_as_in_paddle(guard):
    loss, *_ = model()
    go.optimizer.ASGD(0.1, batch_num=4).minimize(loss)
    go.optimizer.ASGD(0.1, batch_num=4, name="slow").minimize(loss)
    found = {v.name: str(v.tensor_type) for v in guard[0].list_vars() if v.persistable}
    assert found["w_d_0"] == "f32[3, 2]"
    assert found["w_y_0"] == "f32[4, 3, 2]"
    assert found["w_m_0"] == "i64[1]"
    assert found["w_slow_d_0"] == "f32[3, 2]"
    assert found["learning_rate_0"] == found["learning_rate_1"] == "f32[]"


def test_chosen_parameters(guard):
    loss, w, b = model()
    for chosen in ([w], ["w"], ["w", "unknown"]):
        assert [p.name for p, _ in go.optimizer.SGD(0.1).minimize(loss, parameters=chosen)[1]] == [
            "w"
        ]
    optimizer = go.optimizer.SGD(0.1, parameters=[b])
    assert [p.name for p, _ in optimizer.minimize(loss)[1]] == ["b"]
    for stopped in ({"w"}, [w]):
        assert [
            p.name for p, _ in go.optimizer.SGD(0.1).minimize(loss, no_grad_set=stopped)[1]
        ] == ["b"]


def test_nothing_to_train(guard):
    x = go.static.data("x", [None])
    assert go.optimizer.SGD(0.1).minimize(go.mean(x)) == ([], [])


def test_both_programs_are_as_before_on_an_error(guard):
    loss, w, b = model()
    with go.static.program_guard(*guard):
        bad = go.sum(guard[0].recorder().BitCast(go.create_parameter([2], "float32"), to=1))
    texts = [p.text() for p in guard]
    with pytest.raises(errors.GradientError, match="BitCast"):
        go.optimizer.ASGD(0.1, batch_num=2).minimize(loss + bad)
    # the sum itself was recorded before minimize
    assert [p.text().replace("21, 8 ops", "21, 7 ops") for p in guard][1] == texts[1]
    assert not any(op.role is Role.BACKWARD for op in guard[0].global_block().ops)


def test_the_loss_must_be_a_scalar(guard):
    model()
    x = guard[0].global_block().var("x")
    with pytest.raises(ValueError, match="must be one float"):
        go.optimizer.SGD(0.1).minimize(x)
    with pytest.raises(TypeError):
        go.optimizer.SGD(0.1).minimize("loss")  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [1, np.float32(0.1), "0.1"])
def test_learning_rate_must_be_a_float(rate):
    with pytest.raises(TypeError, match="learning_rate"):
        go.optimizer.ASGD(rate)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"learning_rate": None}, ValueError),
        ({"batch_num": None}, ValueError),
        ({"batch_num": 0}, ValueError),
        ({"batch_num": -1}, ValueError),
        ({"batch_num": "3"}, TypeError),
        ({"batch_num": 2.5}, TypeError),
        ({"batch_num": True}, TypeError),
        ({"parameters": {"w": 1}}, TypeError),
        ({"parameters": "w"}, TypeError),
        ({"parameters": ["w"]}, TypeError),
        ({"weight_decay": "l2"}, TypeError),
        ({"grad_clip": 1.0}, TypeError),
    ],
)
def test_constructor_checks(arguments, error):
    with pytest.raises(error) as found:
        go.optimizer.ASGD(**arguments)
    assert isinstance(found.value, errors.GraphoptError)


def test_numpy_numbers_are_accepted():
    three: Any = np.int64(3)
    optimizer = go.optimizer.ASGD(np.float64(0.5), batch_num=three)
    assert optimizer.get_lr() == 0.5


def test_append_regularization_ops(guard, caplog):
    x = go.static.data("x", [None, 2])
    own = go.regularizer.L1Decay(0.5)
    a = go.create_parameter([2], "float32", attr=go.ParamAttr(name="a", regularizer=own))
    b = go.create_parameter([2], "float32", name="b")
    loss = go.mean(x * a + x * b)
    pairs = go.static.append_backward(loss)
    optimizer = go.optimizer.SGD(0.1)
    with caplog.at_level(logging.INFO):
        (pa, ga), (pb, gb), (pc, gc) = optimizer.append_regularization_ops(
            [*pairs, (b, None)], go.regularizer.L2Decay(0.25)
        )
    assert len(caplog.records) == 1
    assert pa is a
    assert pb is pc is b
    assert gc is None
    scope, exe = go.static.Scope(), go.static.Executor()
    exe.run(guard[1], scope=scope)
    value = {"a": np.array([-2.0, 0.0], "f4"), "b": np.array([4.0, 8.0], "f4")}
    for name, array in value.items():
        put(scope, name, array)
    feed = {"x": np.array([[1.0, 3.0]], "f4")}
    raw = [g for _, g in pairs]
    found = exe.run(guard[0], feed=feed, fetch_list=[*raw, ga, gb], scope=scope)
    np.testing.assert_allclose(found[2], found[0] + 0.5 * np.sign(value["a"]))
    np.testing.assert_allclose(found[3], found[1] + 0.25 * value["b"])
    (same,) = optimizer.append_regularization_ops([(b, raw[1])])
    assert same[1] is raw[1]
    with pytest.raises(TypeError, match="unknown regularization"):
        optimizer.append_regularization_ops(pairs, object())  # type: ignore[arg-type]


def test_parameter_factor_multiplies_the_rate(guard):
    loss, w, b = model(learning_rate=0.25)
    go.optimizer.SGD(1.0).minimize(loss)
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(guard[1], scope=scope)
    before = held(scope, "w")
    x = np.ones((1, 3), "f4")
    after, grad = exe.run(guard[0], feed={"x": x}, fetch_list=["w", "w@GRAD"], scope=scope)
    np.testing.assert_allclose(after, before - 0.25 * grad, rtol=1e-6)


def test_minimize_outside_a_guard():
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        loss, *_ = model()
    ops, _ = go.optimizer.SGD(0.1).minimize(loss, startup_program=startup)
    assert len(ops) == 2
    assert all(op.block is main.global_block() for op in ops)


def test_half_precision_parameters_train_through_float32(guard):
    x = go.static.data("x", [None, 2], "float16")
    w = go.create_parameter([2, 1], "float16", name="w")
    loss = go.mean(x @ w)
    go.optimizer.ASGD(0.5, batch_num=2, multi_precision=True).minimize(loss)
    types = {v.name: str(v.tensor_type) for v in guard[0].list_vars() if v.persistable}
    assert types["w_fp32_master_0"] == "f32[2, 1]"
    assert types["w_fp32_master_0_y_0"] == "f32[2, 2, 1]"
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(guard[1], scope=scope)
    start = held(scope, "w_fp32_master_0")
    feed = {"x": np.array([[1.0, 2.0]], "f2")}
    (found,) = exe.run(guard[0], feed=feed, fetch_list=["w"], scope=scope)
    np.testing.assert_array_equal(found, (start - [[0.5], [1.0]]).astype("f2"))
