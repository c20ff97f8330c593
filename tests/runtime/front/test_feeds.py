import gc

import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from tests.helpers import put
from tests.runtime.front import regression
from tests.runtime.front.regression import Regression


@pytest.fixture
def model():
    return Regression().start()


def test_feed_conversions(model):
    loss = model.run([model.loss])[0]
    lists = {k: v.tolist() for k, v in model.feed.items()}
    assert np.isfinite(model.run([model.loss], feed=lists)[0])
    strided = {k: np.repeat(v, 2, axis=0)[::2] for k, v in model.feed.items()}
    assert np.isfinite(model.run([model.loss], feed=[strided])[0])
    assert loss.dtype == np.float32


def test_feeds_are_not_changed_and_fetches_are_owned(model):
    feed = {k: v.copy() for k, v in model.feed.items()}
    first = model.run([model.w, model.pred])
    kept = [v.copy() for v in first]
    for _ in range(3):
        model.run([model.w, model.pred])
    for a, b in zip(first, kept, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(feed["x"], model.feed["x"])


def test_non_finite_feeds_are_allowed(model):
    feed = {**model.feed, "x": np.full((6, 4), np.nan, "f4")}
    assert np.isnan(model.run([model.loss], feed=feed)[0])


def test_an_intermediate_variable_can_be_fed(model):
    feed = {"y": model.feed["y"], model.pred.name: model.feed["y"]}
    exe = model.exe
    (loss,) = exe.run(model.main.clone(for_test=True), feed=feed, fetch_list=[model.loss],
                      scope=model.scope)  # fmt: skip
    assert loss == 0


FEED_ERRORS = {
    "missing": (lambda f: {"x": f["x"]}, errors.MissingFeedError, "y is needed and not fed"),
    "nothing": (lambda f: {}, KeyError, "is needed and not fed"),
    "unknown": (lambda f: {**f, "yy": f["y"]}, errors.FeedError, "no variable 'yy'"),
    "dtype": (lambda f: {**f, "x": f["x"].astype("f8")}, ValueError, "wrong dtype"),
    "integer": (lambda f: {**f, "x": f["x"].astype("i8")}, ValueError, "wrong dtype"),
    "shape": (lambda f: {**f, "x": f["x"][:, :3]}, ValueError, "shape it cannot take"),
    "rank": (lambda f: {**f, "x": f["x"][0]}, ValueError, "shape it cannot take"),
    "batch": (lambda f: {**f, "y": f["y"][:4]}, ValueError, "different sizes of the dim N"),
    "text": (lambda f: {**f, "x": "abc"}, errors.FeedError, "cannot be fed a str"),
    "not a dict": (lambda f: 3, TypeError, "must be a dict"),
}


@pytest.mark.parametrize("kind", FEED_ERRORS)
def test_feed_errors_name_the_variable_and_the_line_and_change_nothing(model, kind):
    change, error, message = FEED_ERRORS[kind]
    before = model.state()
    with pytest.raises(error, match=message) as found:
        model.run([model.loss], feed=change(model.feed))
    assert isinstance(found.value, errors.GraphoptError)
    if kind in ("missing", "dtype", "shape", "rank", "batch"):
        assert regression.__file__ in str(found.value)  # where x and y were declared
        assert "f32[N, " in str(found.value)
    np.testing.assert_array_equal(model.state(), before)


def test_a_buffer_the_user_gave_stays_alive_while_the_runtime_writes_to_it(model):
    """The array behind ``set`` becomes the buffer of every second step."""
    twin = Regression().start()
    value = model.state()
    put(twin.scope, "w", value)
    twin.scope.spares.clear()
    kept = []
    for step in range(8):
        model.run()
        twin.run()
        gc.collect()
        kept += [np.full((4, 1), 1e9, "f4") for _ in range(200)]  # takes any freed memory
        np.testing.assert_array_equal(twin.state(), model.state(), err_msg=f"step {step}")


def test_a_persistable_variable_can_be_fed(model):
    before = model.state()
    w = np.full((4, 1), 2.0, "f4")
    (pred,) = model.exe.run(
        model.main.clone(for_test=True),
        feed={"x": model.feed["x"], "w": w},
        fetch_list=[model.pred],
        scope=model.scope,
    )
    np.testing.assert_allclose(pred, model.feed["x"] @ w, rtol=1e-5)
    np.testing.assert_array_equal(model.state(), before)


def test_a_feed_in_a_list_is_not_taken_for_none():
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        w = go.create_parameter([2], "float32", default_initializer=go.nn.initializer.Constant(1.0))
        y = w * 2.0
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    plain = exe.run(main, fetch_list=[y], scope=scope)[0]
    fed = exe.run(main, feed=[{w.name: np.full(2, 3.0, "f4")}], fetch_list=[y], scope=scope)[0]
    np.testing.assert_array_equal(plain, [2.0, 2.0])
    np.testing.assert_array_equal(fed, [6.0, 6.0])


def test_a_fed_array_that_is_changed_in_place_is_read_anew(model):
    feed = {name: array.copy() for name, array in model.feed.items()}
    before = model.run([model.loss], feed=feed)[0]
    feed["x"][:] = 0.0
    twin = {"x": np.zeros_like(feed["x"]), "y": feed["y"]}
    test = model.main.clone(for_test=True)
    again, expected = (
        model.exe.run(test, feed=f, fetch_list=[model.loss], scope=model.scope)[0]
        for f in (feed, twin)
    )
    assert again == expected != before
