"""Whole trainings to a known answer."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphopt as go
from tests.helpers import held

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_least_squares_is_recovered(rng):
    truth = np.array([[2.0], [-3.0], [0.5]], "f4")
    x = rng.normal(size=(200, 3)).astype("f4")
    y = x @ truth + 1.25
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        a, b = go.static.data("a", [None, 3]), go.static.data("b", [None, 1])
        out = go.static.nn.fc(a, 1, weight_attr="w", bias_attr="c")
        go.optimizer.ASGD(0.05, batch_num=4).minimize(go.mean(go.square(out - b)))
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    for step in range(400):
        rows = slice(step % 4 * 50, step % 4 * 50 + 50)
        exe.run(main, feed={"a": x[rows], "b": y[rows]}, scope=scope)
    np.testing.assert_allclose(held(scope, "w"), truth, atol=1e-3)
    np.testing.assert_allclose(held(scope, "c"), [1.25], atol=1e-3)


def test_a_convolutional_network_learns_and_tests_with_running_statistics(rng):
    """Vertical against horizontal stripes."""
    images = np.zeros((64, 1, 8, 8), "f4")
    labels = np.arange(64) % 2
    images[labels == 0, :, ::2] = 1
    images[labels == 1, :, :, ::2] = 1
    images += 0.3 * rng.normal(size=images.shape).astype("f4")
    main, startup = go.static.Program(), go.static.Program()
    startup.random_seed = 1
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [None, 1, 8, 8])
        y = go.static.data("y", [None], "int64")
        h = go.static.nn.conv2d(x, 4, 3, padding=1)
        h = go.static.nn.batch_norm(h, act="relu", momentum=0.5)
        h = go.nn.functional.max_pool2d(h, 2)
        h = go.nn.functional.dropout(h, 0.2)
        logits = go.static.nn.fc(h, 2)
        loss = go.nn.functional.cross_entropy(logits, y)
        accuracy = go.static.accuracy(logits, y)
        test = main.clone(for_test=True)
        go.optimizer.SGD(0.2).minimize(loss)
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    feed = {"x": images, "y": labels}
    losses = [float(exe.run(main, feed=feed, fetch_list=[loss], scope=scope)[0]) for _ in range(60)]
    (found,) = exe.run(test, feed=feed, fetch_list=[accuracy], scope=scope)
    assert losses[-1] < 0.2 * losses[0]
    assert found == 1.0
    again = exe.run(test, feed=feed, fetch_list=[logits], scope=scope)[0]
    np.testing.assert_array_equal(
        again, exe.run(test, feed=feed, fetch_list=[logits], scope=scope)[0]
    )


def test_two_runs_with_one_seed_are_equal():
    def train():
        main, startup = go.static.Program(), go.static.Program()
        main.random_seed = startup.random_seed = 7
        with go.static.program_guard(main, startup):
            x = go.static.data("x", [None, 4])
            h = go.nn.functional.dropout(go.static.nn.fc(x, 8), 0.5)
            loss = go.mean(go.static.nn.fc(h, 1))
            go.optimizer.SGD(0.1).minimize(loss)
        exe, scope = go.static.Executor(), go.static.Scope()
        exe.run(startup, scope=scope)
        feed = {"x": np.ones((16, 4), "f4")}
        return [exe.run(main, feed=feed, fetch_list=[loss], scope=scope)[0] for _ in range(5)]

    first = train()
    assert first == train()
    assert len({float(v) for v in first}) == 5


@pytest.mark.slow
def test_the_digits_example(tmp_path):
    """It trains to its promised accuracy and goes on from its files without graphopt."""
    command = [sys.executable, str(EXAMPLES / "digits.py"), "--out", str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "held-out accuracy: 0.9" in found.stdout
    names = {"digits.onnx", "digits.train.onnx", "digits.state.onnx", "curves.png"}
    assert names <= {p.name for p in tmp_path.iterdir()}


def test_the_loop_without_graphopt_imports_no_graphopt():
    text = (EXAMPLES / "train_without_graphopt.py").read_text()
    assert "import graphopt" not in text
    assert "from graphopt" not in text
