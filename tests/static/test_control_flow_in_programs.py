"""Programs with control flow: trained, saved, cloned, printed, failing; with state; random."""

import json

import numpy as np
import onnxruntime
import pytest

import graphopt as go
from graphopt.errors import ArgumentError, GradientError, StepError, UnknownVariableError
from graphopt.ir.text.parse import parse
from graphopt.ir.text.verify import verify
from graphopt.scoping import default_main_program, default_startup_program, program_guard
from graphopt.static import Executor, Program, Scope, nn, scope_guard
from tests.tensor.recording import fed

XF = np.linspace(-1, 1, 6).reshape(2, 3).astype("f4")
X = np.array([[0.3, -0.7, 1.1], [0.9, 0.2, -0.4]])


def count(limit):
    """How often iterations have run, beside values."""
    return lambda i, *_: i < limit


class TestAround:
    """Training, files, clones, printing and failures of Programs with control flow."""

    @staticmethod
    def network():
        """Targets 2 x if x > 0 else -x, by two layers that ``cond`` chooses and a loop adds up."""
        x = go.static.data("x", [None, 1])
        t = go.static.data("t", [None, 1])
        y = nn.cond(
            x.sum() > 0,
            lambda: nn.fc(x, 1, bias_attr=False, name="up"),
            lambda: nn.fc(x, 1, bias_attr=False, name="down"),
        )
        half = lambda i, s: (i + 1, s + 0.5 * y)  # noqa: E731
        _, total = nn.while_loop(count(2), half, (0, y * 0.0))
        return x, t, total, ((total - t) ** 2).mean()

    @staticmethod
    def feed(sign):
        x = sign * np.array([[0.5], [1.0], [1.5]], "f4")
        return {"x": x, "t": np.where(x > 0, 2 * x, -x)}

    def test_training_reaches_the_answer(self):
        _, _, _, loss = self.network()
        go.optimizer.SGD(0.1).minimize(loss)
        with scope_guard(Scope()) as _, program_guard(default_main_program()):
            exe = Executor()
            exe.run(default_startup_program())
            for _step in range(60):
                for sign in (1, -1):
                    exe.run(feed=self.feed(sign), fetch_list=[loss])
            weights = [p.get_value().item() for p in default_main_program().all_parameters()]
        np.testing.assert_allclose(weights, [2.0, -1.0], atol=1e-4)

    def test_files(self, tmp_path):
        x, t, y, loss = self.network()
        go.optimizer.Adam(0.1).minimize(loss)
        with scope_guard(Scope()):
            exe = Executor()
            exe.run(default_startup_program())
            test = default_main_program().clone(for_test=True)
            expected = [exe.run(test, feed=self.feed(s), fetch_list=[y])[0] for s in (1, -1)]
            go.static.save_inference_model(tmp_path / "m", [x], [y], exe)
            go.static.save_training_model(tmp_path / "m", [x, t], [loss], exe)
            steps = [exe.run(feed=self.feed(1), fetch_list=[loss])[0] for _ in range(3)]
        with scope_guard(Scope()):
            program, names, fetch = go.static.load_inference_model(tmp_path / "m", exe)
            for sign, value in zip((1, -1), expected, strict=True):
                feed = {names[0]: self.feed(sign)["x"]}
                np.testing.assert_allclose(exe.run(program, feed=feed, fetch_list=fetch)[0], value)
        np.testing.assert_allclose(steps, list(self.replayed(tmp_path / "m", 3)), rtol=1e-6)

    def replayed(self, path, steps):
        """The losses of a training file, run by onnxruntime alone."""
        start, step = (
            onnxruntime.InferenceSession(f"{path}.{kind}.onnx") for kind in ("state", "train")
        )
        pairs = json.loads(step.get_modelmeta().custom_metadata_map["graphopt.state"])
        held = dict(zip([o.name for o in start.get_outputs()], start.run(None, {}), strict=True))
        for _ in range(steps):
            made = step.run(None, {**self.feed(1), **held})
            found = dict(zip([o.name for o in step.get_outputs()], made, strict=True))
            held = {pair["input"]: found[pair["output"]] for pair in pairs}
            yield made[0]

    def test_text_graph_and_clones(self):
        x, _, y, loss = self.network()
        go.static.append_backward(loss)
        program = default_main_program()
        for p in (program, program.clone(), program.clone(for_test=True)):
            verify(p)
            text = p.text(where=False)
            assert parse(text).text(where=False) == text
        graph = program.graph()
        (branch,) = [n for n, d in graph.nodes(data=True) if d.get("type") == "If"][:1]
        assert graph.has_edge("up.w_0", branch)

    def test_pruning_cuts_at_what_is_fed(self):
        x, _, y, loss = self.network()
        used = next(v for v in default_main_program().list_vars() if v.name.startswith("if"))
        found = Executor().run(feed={used.name: np.ones((2, 1), "f4")}, fetch_list=[y])
        np.testing.assert_array_equal(found[0], [[1], [1]])

    def test_a_failure_inside_shows_the_users_line(self):
        x = fed("x", X, opened=True)

        def body(i, y):
            return i + 1, go.matmul(y, y) + y

        _, y = nn.while_loop(count(3), body, (0, x))
        y = nn.cond(y.sum() > 0, lambda: y, lambda: y)
        with pytest.raises(StepError, match="MatMul failed") as info:
            Executor().run(feed={"x": X}, fetch_list=[y])
        assert "go.matmul(y, y)" in str(info.value)

    def test_state_that_is_assigned_behind(self):
        """The gradient repeats the body with the value that the forward pass has read."""
        x = fed("x", np.ones(3, "f4"))
        x.stop_gradient = False
        state = go.static.create_global_var([3], 2.0, "float32", persistable=True, name="s")
        y = nn.cond(x.sum() > 0, lambda: x * state, lambda: x)
        _, z = nn.while_loop(count(2), lambda i, z: (i + 1, z * state), (0, y))
        go.assign(state + 1.0, output=state)
        (dx,) = go.static.gradients([z], [x])
        verify(default_main_program())
        with scope_guard(Scope()):
            exe = Executor()
            exe.run(default_startup_program())
            found = [exe.run(feed={"x": np.ones(3, "f4")}, fetch_list=[z, dx]) for _ in range(2)]
        np.testing.assert_array_equal(found[0], np.full((2, 3), 8.0))
        np.testing.assert_array_equal(found[1], np.full((2, 3), 27.0))


def trained(function, steps=3, seed=0):
    """y and d sum(y) / dx of several runs of ``y = function(x, w)`` for x of ones, w of 1.5."""
    with program_guard(Program(), Program()), scope_guard(Scope()):
        default_main_program().random_seed = seed
        x, w = fed("x", np.ones((40, 50), "f4")), fed("w", np.full(50, 1.5, "f4"))
        x.stop_gradient = False
        y = function(x, w)
        (dx,) = go.static.gradients([y], [x])
        exe = Executor()
        exe.run(default_startup_program())
        feed = {"x": np.ones((40, 50), "f4"), "w": np.full(50, 1.5, "f4")}
        return [exe.run(feed=feed, fetch_list=[y, dx]) for _ in range(steps)]


def drop(x):
    return go.nn.functional.dropout(x, 0.4)


def test_a_loop_that_starts_with_state_that_is_assigned_behind():
    """The gradient goes to the state itself, not only to the copy that the loop has read."""
    w = go.create_parameter([3], name="w", default_initializer=go.nn.initializer.Constant(2.0))
    x = fed("x", np.ones((2, 3), "f4"))
    _, y = nn.while_loop(count(2), lambda i, y: (i + 1, y * y), (0, w))
    _, rows = nn.scan(lambda s, r: (s + r * w, r * s), w, x)
    loss = y.sum() + rows.sum()
    go.assign(w * 3.0, output=w)
    (dw,) = go.static.gradients([loss], [w])
    with scope_guard(Scope()):
        Executor().run(default_startup_program())
        found = Executor().run(feed={"x": np.ones((2, 3), "f4")}, fetch_list=[dw])
    np.testing.assert_allclose(found[0], 4 * 2.0**3 + 1 + 2)


def test_loops_between_checkpoints():
    x = fed("x", X.astype("f4"))
    h = nn.fc(x, 3)
    _, y = nn.while_loop(count(2), lambda i, y: (i + 1, go.tanh(y * h)), (0, h))
    z = nn.cond(y.sum() > 0, lambda: y * h, lambda: y * 2.0)
    loss = go.mean(go.square(nn.fc(z, 3)))
    plain = go.static.append_backward(loss)
    with pytest.raises(GradientError, match="between two checkpoints"):
        go.static.append_backward(loss, checkpoints=[z])
    kept = go.static.append_backward(loss, checkpoints=[y, z])
    verify(default_main_program())
    with scope_guard(Scope()):
        Executor().run(default_startup_program())
        fetch = [grad for _, grad in [*plain, *kept]]
        found = Executor().run(feed={"x": X.astype("f4")}, fetch_list=fetch)
    for a, b in zip(found[: len(plain)], found[len(plain) :], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


class TestRandom:
    """Functions that are linear in x, element by element: y = x dy/dx if masks are the same."""

    @pytest.mark.parametrize(
        "function",
        [
            pytest.param(
                lambda x, w: nn.cond(x.sum() > 0, lambda: drop(x * w), lambda: x), id="cond"
            ),
            pytest.param(
                lambda x, w: nn.cond(
                    x.sum() > 0,
                    lambda: nn.cond(x.sum() > 1, lambda: drop(drop(x) * w), lambda: x),
                    lambda: x,
                ),
                id="cond in cond",
            ),
            pytest.param(
                lambda x, w: nn.while_loop(count(3), lambda i, y: (i + 1, drop(y * w)), (0, x))[1],
                id="while",
            ),
            pytest.param(
                lambda x, w: nn.cond(
                    x.sum() > 0,
                    lambda: nn.while_loop(count(2), lambda i, y: (i + 1, drop(y * w)), (0, x))[1],
                    lambda: x,
                ),
                id="while in cond",
            ),
            pytest.param(
                lambda x, w: nn.while_loop(
                    count(2),
                    lambda i, y: (i + 1, y * go.rand([40, 50]) * go.bernoulli(y * 0 + 0.7)),
                    (0, x),
                )[1],
                id="factors",
            ),
            pytest.param(lambda x, w: nn.scan(lambda s, r: (s, drop(r * w)), w, x)[1], id="scan"),
        ],
    )
    def test_the_gradient_sees_the_same_numbers(self, function):
        runs = trained(function, seed=3)
        for y, dx in runs:
            assert 0.03 < (y == 0).mean() < 0.9
            np.testing.assert_allclose(y, dx, rtol=1e-5)
        assert (runs[0][0] != runs[1][0]).any()
        for (y, _), (again, _) in zip(runs, trained(function, seed=3), strict=True):
            np.testing.assert_array_equal(y, again)

    def test_iterations_draw_different_numbers(self):
        def function(x, w):
            return nn.scan(lambda s, _: (s, go.rand([40, 50])), w, length=3)[1]

        default_main_program().random_seed = 7
        (draws,) = run_once(function)
        assert draws.shape == (3, 40, 50)
        assert len(np.unique(draws)) > 0.99 * draws.size
        assert abs(draws.mean() - 0.5) < 0.01
        assert abs(np.corrcoef(draws[0].ravel(), draws[1].ravel())[0, 1]) < 0.09  # 4 sigma

    def test_dropout_inside_passes_through_in_test_mode(self):
        x = fed("x", np.ones((2, 3), "f4"))
        y = nn.cond(x.sum() > 0, lambda: drop(x), lambda: x)
        _, z = nn.while_loop(count(3), lambda i, z: (i + 1, drop(z)), (0, y))
        x.stop_gradient = False
        go.static.gradients([z], [x])
        test = default_main_program().clone(for_test=True)
        (found,) = Executor().run(test, feed={"x": np.ones((2, 3), "f4")}, fetch_list=[z])
        np.testing.assert_array_equal(found, np.ones((2, 3)))

    def test_second_derivative_through_a_loop(self):
        """y = c x^2, c the factor of the mask: y = x^2 y'' / 2."""
        x = fed("x", np.ones((40, 50)))
        x.stop_gradient = False
        _, y = nn.while_loop(count(2), lambda i, y: (i + 1, drop(y)), (0, x * x))
        (first,) = go.static.gradients([y], [x])
        assert first is not None
        (second,) = go.static.gradients([first], [x])
        with scope_guard(Scope()):
            Executor().run(default_startup_program())
            value = np.random.default_rng(1).uniform(1, 2, (40, 50))
            found = Executor().run(feed={"x": value}, fetch_list=[y, first, second])
        np.testing.assert_allclose(found[1], 2 * found[0] / value, rtol=1e-6)
        np.testing.assert_allclose(found[2], 2 * found[0] / value**2, rtol=1e-6)

    def test_what_would_be_wrong_is_refused(self):
        x = fed("x", np.ones((2, 3), "f4"))
        x.stop_gradient = False
        inner = lambda y: nn.cond(y.sum() > 0, lambda: drop(y), lambda: y)  # noqa: E731
        _, y = nn.while_loop(count(2), lambda i, y: (i + 1, inner(y)), (0, x))
        before = default_main_program().text()
        with pytest.raises(GradientError, match="Dropout inside a body"):
            go.static.gradients([y], [x])
        assert default_main_program().text() == before


def run_once(function):
    with scope_guard(Scope()):
        x, w = fed("x", np.ones((40, 50), "f4")), fed("w", np.full(50, 1.5, "f4"))
        feed = {"x": np.ones((40, 50), "f4"), "w": np.full(50, 1.5, "f4")}
        return Executor().run(feed=feed, fetch_list=[function(x, w)])


def test_gradients_recorded_inside_see_what_is_outside():
    x = fed("x", XF)
    x.stop_gradient = False
    y = go.square(x)
    z = nn.cond(x.sum() < 9, lambda: go.static.gradients([(y * y).sum()], [x])[0], lambda: x)
    (found,) = Executor().run(feed={"x": XF}, fetch_list=[z])
    np.testing.assert_allclose(found, 4 * XF**3, rtol=1e-5)


def made_inside(x):
    """A list of one variable, made in a branch."""
    kept = []

    def doubled():
        kept.append(x * 2.0)
        return kept[0]

    nn.cond(x.sum() > 0, doubled, lambda: x)
    return kept


def test_what_is_made_inside_cannot_be_fetched():
    x = fed("x", XF)
    kept = made_inside(x)
    with pytest.raises(UnknownVariableError, match="inside a body"):
        Executor().run(feed={"x": XF}, fetch_list=kept)


def test_what_is_made_inside_cannot_be_used_outside():
    x = fed("x", XF)
    kept = made_inside(x)
    with pytest.raises(ArgumentError, match="used outside of it"):
        kept[0] + 1.0
