"""while_loop and scan: values, gradients, training and errors."""

import numpy as np
import pytest

import graphopt as go
from graphopt.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    ShapeError,
)
from graphopt.scoping import default_main_program, default_startup_program
from graphopt.static import Executor, Scope, nn, scope_guard
from tests.tensor.recording import assert_gradient, both, fed, run

X = np.array([[0.3, -0.7, 1.1], [0.9, 0.2, -0.4]])
W = np.array([0.5, 1.2, -0.8])


def count(limit):
    """How often iterations have run, beside values."""
    return lambda i, *_: i < limit


class TestWhileLoop:
    def test_paddles_example(self):
        i, ten = go.full([1], 0, "int64"), go.full([1], 10, "int64")
        i, ten = nn.while_loop(lambda i, ten: i < ten, lambda i, ten: [i + 1, ten], [i, ten])
        found = Executor().run(fetch_list=[i])
        np.testing.assert_array_equal(found, [[10]])

    def test_the_first_values_stay_as_they_are(self):
        """Paddle's old executor wrote the result into them."""

        def function(a):
            i, b = nn.while_loop(count(4), lambda i, b: (i + 1, b * a), (0, a))
            return a, b

        np.testing.assert_array_equal(run(function, np.float32(2)), [2, 32])

    @pytest.mark.parametrize("trips", [0, 1, 3])
    def test_gradient_of_values_and_captures(self, trips):
        def function(x, w):
            i, y = nn.while_loop(count(trips), lambda i, y: (i + 1, go.tanh(y * w) + y), (0, x))
            return y * y

        if trips:  # the reference evaluator cannot stack nothing
            assert_gradient(function, X, W)
        else:
            np.testing.assert_array_equal(run(function, X, W), X * X)

    def test_trips_decided_by_data(self):
        def function(x, w):
            (y,) = nn.while_loop(lambda y: (y * y).sum() < 40.0, lambda y: y * (1.0 + w * w), [x])
            return y

        expected = X
        while (expected**2).sum() < 40:
            expected = expected * (1 + W**2)
        np.testing.assert_allclose(run(function, X, W), expected)
        assert_gradient(function, X, W)

    def test_zero_trips_train(self):
        x = fed("x", X.astype("f4"))
        x.stop_gradient = False
        w = go.create_parameter([3], name="w")
        _, y = nn.while_loop(count(0), lambda i, y: (i + 1, y * w), (0, x))
        dx, dw = go.static.gradients([(y * y).sum()], [x, w])
        scope = Scope()
        with scope_guard(scope):
            Executor().run(default_startup_program())
            found = Executor().run(feed={"x": X.astype("f4")}, fetch_list=[dx, dw])
        np.testing.assert_allclose(found[0], 2 * X, rtol=1e-6)
        np.testing.assert_array_equal(found[1], np.zeros(3))

    def test_shapes_that_change(self):
        def function(x, w):
            step = lambda i, y, z: (i + 1, go.concat([y, y * w], axis=0), z[:, :1] + 0.0)  # noqa: E731
            _, y, z = nn.while_loop(count(3), step, (0, x, x * x))
            return y, z

        y, z = both(function, X, W)
        assert (y.shape, z.shape) == ((16, 3), (2, 1))
        assert_gradient(lambda x, w: function(x, w)[0], X, W)

    def test_a_body_that_asks_for_a_shape_is_recorded_for_the_open_one(self):
        seen = []

        def body(i, y):
            seen.append(y.shape)
            return i + 1, go.concat([y, y.reshape([y.shape[0], 3])], axis=0)

        x = fed("x", X)
        _, y = nn.while_loop(count(2), body, (0, x))
        assert seen == [(2, 3), (-1, 3)]
        assert y.shape == (-1, 3)
        (found,) = Executor().run(feed={"x": X}, fetch_list=[y])
        np.testing.assert_array_equal(found, np.tile(X, (4, 1)))

    def test_recording_again_makes_no_further_parameters(self):
        x = fed("x", X.astype("f4"))

        def body(i, y):
            inner = nn.while_loop(
                count(2), lambda j, z: (j + 1, go.concat([z, nn.fc(z, 3)], axis=0)), (0, y[:1])
            )
            return i + 1, nn.cond(i > 0, lambda: nn.fc(inner[1], 3), lambda: inner[1])

        _, y = nn.while_loop(count(2), body, (0, x))
        names = [p.name for p in default_main_program().all_parameters()]
        assert names == ["fc_0.w_0", "fc_0.b_0", "fc_1.w_0", "fc_1.b_0"]
        with scope_guard(Scope()):
            Executor().run(default_startup_program())
            (found,) = Executor().run(feed={"x": X.astype("f4")}, fetch_list=[y])
        assert found.shape == (4, 3)

    def test_nests_and_numbers(self):
        x = fed("x", X)
        made = nn.while_loop(
            lambda state: state["i"] < 3,
            lambda state: {"i": state["i"] + 1, "held": (state["held"][0] * 2.0, 7)},
            [{"held": (x, 0), "i": 0}],
        )
        found = Executor().run(feed={"x": X}, fetch_list=[*made[0]["held"], made[0]["i"]])
        np.testing.assert_array_equal(found[0], X * 8)
        assert [int(v) for v in found[1:]] == [7, 3]

    def test_cond_in_while_in_cond(self):
        def function(x, w):
            def body(i, y):
                return i + 1, nn.cond(i % 2 == 0, lambda: go.sin(y * w), lambda: y * y + w)

            def loop():
                return nn.while_loop(count(3), body, (0, x))[1]

            return nn.cond(x.sum() > 0, loop, lambda: x * w)

        even = np.sin(X * W)
        np.testing.assert_allclose(run(function, X, W), np.sin((even**2 + W) * W))
        assert_gradient(function, X, W)
        np.testing.assert_allclose(run(function, -X, W), -X * W)

    def test_while_in_while(self):
        def function(x, w):
            inner = lambda y: nn.while_loop(count(2), lambda j, z: (j + 1, go.sin(z * w)), (0, y))  # noqa: E731
            return nn.while_loop(count(2), lambda i, y: (i + 1, inner(y)[1]), (0, x))[1]

        assert_gradient(function, X, W)

    def test_carried_sequence(self):
        """The k-th element is x w^k."""
        x, w = fed("x", X), fed("w", W)
        for v in (x, w):
            v.stop_gradient = False
        g = default_main_program().recorder()

        def body(i, held):
            return i + 1, g.program.recorder().SequenceInsert(held, x * w ** i.astype("float64"))

        _, held = nn.while_loop(count(3), body, (0, g.SequenceConstruct(x)))
        total = g.ConcatFromSequence(held, axis=0).sum()
        dx, dw = go.static.gradients([total], [x, w])
        found = Executor().run(feed={"x": X, "w": W}, fetch_list=[total, dx, dw])
        np.testing.assert_allclose(found[0], (X * (2 + W + W**2)).sum())
        np.testing.assert_allclose(found[1], np.tile(2 + W + W**2, (2, 1)))
        np.testing.assert_allclose(found[2], (X * (1 + 2 * W)).sum(0))

    def test_errors(self):
        x = fed("x", X)
        before = default_main_program().text()
        with pytest.raises(ArgumentTypeError, match="cond must be a function"):
            nn.while_loop(x, lambda y: y, [x])  # type: ignore[arg-type]
        with pytest.raises(ArgumentTypeError, match="body must be a function"):
            nn.while_loop(lambda y: y, None, [x])  # type: ignore[arg-type]
        with pytest.raises(ArgumentTypeError, match="list or tuple"):
            nn.while_loop(lambda y: y, lambda y: y, x)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="loop_vars is empty"):
            nn.while_loop(lambda: True, lambda: None, [])
        with pytest.raises(ArgumentTypeError, match="cond's result must be a Variable"):
            nn.while_loop(lambda y: True, lambda y: y, [x])
        with pytest.raises(ArgumentError, match="differ in form"):
            nn.while_loop(count(3), lambda i, y: y, (0, x))
        with pytest.raises(DTypeError, match="changes a dtype"):
            nn.while_loop(count(3), lambda i, y: (i + 0.5, y), (0, x))
        with pytest.raises(ArgumentError, match="is not i64"):
            nn.while_loop(count(3), lambda i, y: (0.5, y), (0, x))
        with pytest.raises(ShapeError, match="changes a number of dims"):
            nn.while_loop(count(3), lambda i, y: (i + 1, y.sum()), (0, x))
        assert default_main_program().text() == before
        assert default_main_program().num_blocks == 1


class TestScan:
    @pytest.mark.parametrize("reverse", [False, True])
    def test_values(self, reverse):
        def function(x, w):
            return nn.scan(lambda s, row: (s + row, s * row), w, x, reverse=reverse)

        last, stack = both(function, X, W)
        rows = X[::-1] if reverse else X
        sums = W + np.cumsum(np.vstack([np.zeros(3), rows]), 0)
        np.testing.assert_allclose(last, sums[-1])
        expected = sums[:-1] * rows
        np.testing.assert_allclose(stack, expected[::-1] if reverse else expected)

    @pytest.mark.parametrize("reverse", [False, True])
    def test_gradient(self, reverse):
        def function(x, w, u):
            def step(s, row):
                return go.tanh(s * row + u), (s * s).reshape([1, 3])

            return nn.scan(step, w, x, reverse=reverse)

        assert_gradient(function, X, W, W + 1.0)

    def test_nests(self):
        x, w = fed("x", X), fed("w", W)
        carry, ys = nn.scan(
            lambda c, v: ({"a": c["a"] + v[0], "n": c["n"] + 1}, (v[1] * 2.0, None, 5)),
            {"a": w, "n": 0},
            (x, x),
        )
        assert ys[1] is None
        found = Executor().run(
            feed={"x": X, "w": W}, fetch_list=[carry["a"], carry["n"], ys[0], ys[2]]
        )
        np.testing.assert_allclose(found[0], W + X.sum(0))
        assert int(found[1]) == 2
        np.testing.assert_allclose(found[2], 2 * X)
        np.testing.assert_array_equal(found[3], [5, 5])

    def test_a_length_without_xs(self):
        found = run(lambda w: nn.scan(lambda s, _: (s * 2.0, s), w, length=3), W)
        np.testing.assert_allclose(found[0], 8 * W)
        np.testing.assert_allclose(found[1], [W, 2 * W, 4 * W])

    def test_a_recurrent_layer(self):
        go.seed(5)
        steps = fed("x", np.zeros((5, 2, 3), "f4"), opened=(0, 1))
        start = go.zeros([1, 4]) * steps[0, :, :1]

        def step(h, x):
            h = go.tanh(nn.fc(x, 4) + nn.fc(h, 4))
            return h, h

        _, hidden = nn.scan(step, start, steps)
        assert hidden.shape == (-1, -1, 4)
        loss = (hidden * hidden).mean()
        go.optimizer.SGD(0.5).minimize(loss)
        rng = np.random.default_rng(3)
        feed = {"x": rng.normal(size=(6, 2, 3)).astype("f4")}
        with scope_guard(Scope()):
            exe = Executor()
            exe.run(default_startup_program())
            losses = [float(exe.run(feed=feed, fetch_list=[loss])[0]) for _ in range(40)]
        assert losses[-1] < 0.2 * losses[0]

    def test_errors(self):
        x, w = fed("x", X), fed("w", W)
        with pytest.raises(ArgumentError, match="needs a length"):
            nn.scan(lambda s, _: (s, s), w)
        with pytest.raises(ArgumentError, match="lengths"):
            nn.scan(lambda s, _: (s, s), w, x, length=5)
        with pytest.raises(ArgumentTypeError, match="must return"):
            nn.scan(lambda s, _: s, w, x)
        with pytest.raises(ArgumentError, match="differ in form"):
            nn.scan(lambda s, _: ((s, s), s), w, x)
        with pytest.raises(DTypeError, match="changes a dtype"):
            nn.scan(lambda s, _: (s > 0, s), w, x)
        with pytest.raises(ShapeError, match="changes the carry's shape"):
            nn.scan(lambda s, _: (s[:2], s), w, x)
        with pytest.raises(ShapeError, match="no dim to go along"):
            nn.scan(lambda s, _: (s, s), w, x.sum())
