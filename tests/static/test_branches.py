"""cond, case and switch_case: values, gradients, names and errors."""

import numpy as np
import pytest

import graphopt as go
from graphopt.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    ShapeError,
    StateError,
)
from graphopt.scoping import default_main_program, default_startup_program
from graphopt.static import Executor, nn
from tests.tensor.recording import assert_gradient, both, fed, run

X = np.array([[0.3, -0.7, 1.1], [0.9, 0.2, -0.4]])
W = np.array([0.5, 1.2, -0.8])


class TestCond:
    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_values(self, sign):
        found = both(lambda x: nn.cond(x.sum() > 0, lambda: x * 2.0, lambda: x - 1.0), sign * X)
        np.testing.assert_allclose(found, sign * X * 2 if sign > 0 else sign * X - 1)

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_gradient(self, sign):
        def function(x, w):
            return nn.cond(sign * x.sum() > 0, lambda: (x * w, go.exp(w)), lambda: (w, go.sin(w)))

        assert_gradient(function, X, W)

    @pytest.mark.parametrize("shape", [[], [1], [1, 1], [None]])
    def test_one_element_of_any_rank(self, shape):
        pred = fed("p", np.ones([1 if d is None else d for d in shape], bool), opened=None in shape)
        y = nn.cond(pred, lambda: go.full([2], 1.0), lambda: go.full([3], 2.0))
        (found,) = Executor().run(feed={"p": np.zeros(pred.ndim * [1], bool)}, fetch_list=[y])
        np.testing.assert_array_equal(found, [2.0, 2.0, 2.0])

    def test_nests_and_numbers(self):
        x = fed("x", X)
        made = nn.cond(
            x.sum() > 0,
            lambda: {"b": (x, 1), "a": [2.5, None]},
            lambda: {"a": (3, None), "b": [x + 1.0, 2]},
        )
        assert list(made) == ["b", "a"]
        assert made["a"][1] is None
        assert [v.dtype.name for v in (made["b"][1], made["a"][0])] == ["int64", "float32"]
        fetch = [*made["b"], made["a"][0]]
        found = Executor().run(feed={"x": -X}, fetch_list=fetch)
        np.testing.assert_array_equal(found[0], 1 - X)
        assert [float(v) for v in found[1:]] == [2, 3.0]

    def test_functions_without_a_result_record_nothing(self):
        x = fed("x", X)
        assert nn.cond(x.sum() > 0, lambda: None) is None
        assert nn.cond(x.sum() > 0) is None
        assert not any(op.type == "If" for op in default_main_program().global_block().ops)

    def test_a_captured_variable_may_be_a_result(self):
        found = run(lambda x: nn.cond(x.sum() > 0, lambda: (x, x), lambda: (x, x * 0.0)), X)
        np.testing.assert_array_equal(found, [X, X])

    def test_unused_ops_are_dropped(self):
        x, other = fed("x", X), fed("other", X)
        y = nn.cond(x.sum() > 0, lambda: [x, other + 1.0][0], lambda: x)
        (found,) = Executor().run(feed={"x": X}, fetch_list=[y])
        np.testing.assert_array_equal(found, X)

    def test_names(self):
        x = fed("x", X)
        y = nn.cond(x.sum() > 0, lambda: (x, x), lambda: (x, x), name="chosen")
        assert [v.name for v in y] == ["chosen", "chosen_0"]

    def test_name_scopes_and_user_lines_inside(self):
        x = fed("x", X)

        def true_fn():
            with go.static.name_scope("inner"):
                return go.tanh(x)

        nn.cond(x.sum() > 0, true_fn, lambda: x)
        (op,) = default_main_program().global_block().ops[-1].attrs["then_branch"].ops
        assert op.scope == "/inner/"
        assert "go.tanh(x)" in op.where.lines()[1]

    def test_errors(self):
        x = fed("x", X)
        pred, signs = x.sum() > 0, x > 0
        before = default_main_program().text()
        with pytest.raises(ArgumentTypeError, match="one bool, not True"):
            nn.cond(True, lambda: x, lambda: x)  # type: ignore[arg-type]
        with pytest.raises(ArgumentTypeError, match="true_fn must be a function"):
            nn.cond(pred, x, lambda: x)  # type: ignore[arg-type]
        with pytest.raises(DTypeError, match="must be a bool"):
            nn.cond(x, lambda: x, lambda: x)
        with pytest.raises(ShapeError, match="one bool"):
            nn.cond(signs, lambda: x, lambda: x)
        with pytest.raises(ArgumentError, match=r"differ in form(.|\n)*\[\*, \*\]"):
            nn.cond(pred, lambda: (x, x), lambda: x)
        with pytest.raises(ArgumentError, match="differ in form"):
            nn.cond(pred, lambda: x)
        with pytest.raises(DTypeError, match="score has different dtypes"):
            nn.cond(pred, lambda: x, lambda: signs, return_names=["score"])
        with pytest.raises(ArgumentTypeError, match="cannot be used as a number"):
            nn.cond(pred, lambda: x, lambda: "y")
        assert default_main_program().text() == before

    def test_an_error_leaves_no_parameter(self):
        x = fed("x", X.astype("f4"))
        startup = default_startup_program().text()
        with pytest.raises(ArgumentError, match="differ in form"):
            nn.cond(x.sum() > 0, lambda: nn.fc(x, 2), lambda: None)
        assert default_main_program().all_parameters() == []
        assert default_startup_program().text() == startup

    def test_what_another_branch_makes_is_refused(self):
        x = fed("x", X)
        kept = []

        def true_fn():
            kept.append(x * 2.0)
            return kept[0]

        with pytest.raises(ArgumentError, match="made inside a"):
            nn.cond(x.sum() > 0, true_fn, lambda: kept[0] + 1.0)

    def test_state_is_refused(self):
        x = fed("x", X.astype("f4"))
        total = go.static.create_global_var([1], 0.0, "float32", persistable=True, name="total")
        with pytest.raises(StateError, match="assigns total, which is kept between runs"):
            nn.cond(x.sum() > 0, lambda: go.assign(total + 1.0, output=total), lambda: total)
        image = fed("image", np.zeros((2, 3, 4, 4), "f4"))
        with pytest.raises(StateError, match="use_global_stats"):
            nn.cond(x.sum() > 0, lambda: nn.batch_norm(image), lambda: image)
        nn.cond(x.sum() > 0, lambda: nn.batch_norm(image, use_global_stats=True), lambda: image)

    def test_training_inside_is_refused(self):
        x = fed("x", X.astype("f4"))
        loss = nn.fc(x, 1).sum()
        with pytest.raises(ArgumentError, match="outside of itself"):
            nn.cond(x.sum() > 0, lambda: go.optimizer.SGD(0.1).minimize(loss) and None)


class TestCase:
    @pytest.mark.parametrize(("at", "expected"), [(0.05, 1.0), (0.2, 2.0), (0.9, 3.0)])
    def test_paddles_example(self, at, expected):
        def function(x):
            return nn.case(
                [
                    (x < 0.1, lambda: go.full([1, 2], 1.0)),
                    (x < 0.3, lambda: go.full([1, 2], 2.0)),
                ],
                default=lambda: go.full([1, 2], 3.0),
            )

        np.testing.assert_array_equal(run(function, np.float32(at)), np.full((1, 2), expected))

    def test_the_last_is_the_default(self):
        def function(x):
            pairs = [(x < k, lambda k=k: x * k) for k in (1.0, 2.0)]
            return nn.case(pairs), nn.case(pairs[:1])

        found = run(function, np.array([5.0]))
        assert [float(v[0]) for v in found] == [10.0, 5.0]

    def test_gradient(self):
        def function(x):
            pairs = [(x.sum() > 9.0, lambda: x), (x.sum() > 0.0, lambda: x * x)]
            return nn.case(pairs, lambda: go.exp(x))

        assert_gradient(function, X)
        assert_gradient(function, -X)

    def test_errors(self):
        x = fed("x", X)
        pred = x.sum() > 0
        for wrong in (x, [pred], [(pred, x, x)], [(True, lambda: x)], [(pred, x)], [[pred, print]]):
            with pytest.raises(ArgumentTypeError, match="case"):
                nn.case(wrong)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="empty"):
            nn.case([])
        with pytest.raises(ArgumentTypeError, match="default must be a function"):
            nn.case([(pred, lambda: x)], default=x)  # type: ignore[arg-type]


class TestSwitchCase:
    @pytest.mark.parametrize(("index", "expected"), [(1, 1), (2, 2), (5, 9), (-1, 9)])
    @pytest.mark.parametrize("form", [dict, list])
    def test_paddles_example(self, index, expected, form):
        functions = form({k: (lambda k=k: go.full([2], k, "int64")) for k in (2, 1)}.items())
        index = np.array([index])
        found = run(lambda i: nn.switch_case(i, functions, lambda: go.full([2], 9, "int64")), index)
        np.testing.assert_array_equal(found, [expected] * 2)

    @pytest.mark.parametrize(("index", "expected"), [(0, 0), (1, 1), (7, 1)])
    def test_a_list_is_numbered_and_the_largest_is_the_default(self, index, expected):
        functions = [lambda k=k: go.full([1], k, "int64") for k in (0, 1)]
        found = run(lambda i: nn.switch_case(i, functions), np.uint8(index))
        assert found == [expected]

    def test_gradient(self):
        for k in range(3):
            functions = {2: lambda x: x, 1: go.sin, 0: go.exp}

            def function(x, k=k, functions=functions):
                table = {n: (lambda f=f: f(x)) for n, f in functions.items()}
                return nn.switch_case(go.full([1], k, "int32"), table)

            assert_gradient(function, X)

    def test_errors(self):
        x, index = fed("x", X), fed("i", np.array([1]))
        for wrong in (x, 1):
            with pytest.raises(ArgumentTypeError, match="branch_index"):
                nn.switch_case(wrong, [lambda: x])  # type: ignore[arg-type]
        for functions in (print, [(1, x)], [("a", print)], [print, (1, print)], {1.5: print}):
            with pytest.raises(ArgumentTypeError, match="switch_case"):
                nn.switch_case(index, functions)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError, match="index 1 comes twice"):
            nn.switch_case(index, [(1, lambda: x), (1, lambda: x)])
