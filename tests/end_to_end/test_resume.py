"""A training that stops and goes on is bit-equal to one that did not stop."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import graphopt as go
from tests.helpers import held, put

STEPS = 8
ROOT = Path(__file__).parents[2]


def network(seed):
    """Dropouts, noise, batch norm and an ASGD with a table of gradients."""
    main, startup = go.static.Program(), go.static.Program()
    main.random_seed = startup.random_seed = seed
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [None, 6])
        y = go.static.data("y", [None], "int64")
        h = go.static.nn.batch_norm(go.static.nn.fc(x, 16), act="relu")
        h = go.nn.functional.dropout(h, 0.3)
        h = go.nn.functional.dropout(h + 0.1 * go.randn([5, 16]), 0.5, axis=1)
        logits = go.static.nn.fc(h, 3, weight_attr=go.nn.initializer.Normal())
        loss = go.nn.functional.cross_entropy(logits, y)
        go.optimizer.ASGD(0.1, batch_num=3).minimize(loss)
    return main, startup, (x, y), loss


def batch(step):
    rng = np.random.default_rng(step)
    return {"x": rng.normal(size=(5, 6)).astype("f4"), "y": rng.integers(0, 3, 5)}


def train(main, loss, scope, steps):
    """The losses of some steps, by an Executor that compiles anew."""
    exe = go.static.Executor()
    return [exe.run(main, feed=batch(k), fetch_list=[loss], scope=scope)[0].item() for k in steps]


def started(startup):
    scope = go.static.Scope()
    go.static.Executor().run(startup, scope=scope)
    return scope


def state(main, scope):
    return {v.name: held(scope, v.name) for v in main.persistables()}


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), name


def test_one_seed_gives_one_training():
    runs = []
    for _ in range(2):
        main, startup, _, loss = network(seed=11)
        scope = started(startup)
        runs.append((train(main, loss, scope, range(STEPS)), state(main, scope)))
    assert runs[0][0] == runs[1][0]
    assert_same_bits(runs[0][1], runs[1][1])
    assert runs[0][1]["random_step"] == STEPS


def test_seeds_give_trainings_of_their_own():
    losses = []
    for seed in (11, 12, 0, 0):
        main, startup, _, loss = network(seed)
        losses.append(tuple(train(main, loss, started(startup), range(2))))
    assert len(set(losses)) == 4


@pytest.mark.parametrize("stop", [1, 5])
def test_a_copied_scope_goes_on_where_the_run_stopped(stop):
    main, startup, _, loss = network(seed=11)
    unbroken = started(startup)
    expected = train(main, loss, unbroken, range(STEPS))

    first = started(startup)
    losses = train(main, loss, first, range(stop))
    second = go.static.Scope()
    for name, value in state(main, first).items():
        put(second, name, value)
    losses += train(main, loss, second, range(stop, STEPS))

    assert losses == expected
    assert_same_bits(state(main, second), state(main, unbroken))


RESUMED = """
import sys
import graphopt as go
from tests.end_to_end.test_resume import STEPS, network, train

main, startup, _, loss = network(seed=11)
go.static.Executor().run(startup)
go.static.load(main, sys.argv[1])
print(repr(train(main, loss, go.static.global_scope(), range(3, STEPS))))
"""


def test_another_process_goes_on_from_a_checkpoint(tmp_path):
    main, startup, _, loss = network(seed=11)
    expected = train(main, loss, started(startup), range(STEPS))
    scope = started(startup)
    train(main, loss, scope, range(3))
    go.static.save(main, tmp_path / "c", scope=scope)
    done = subprocess.run(
        [sys.executable, "-c", RESUMED, str(tmp_path / "c")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == expected[3:]


def test_a_state_without_its_count_draws_other_numbers():
    main, startup, _, loss = network(seed=11)
    scope = started(startup)
    expected = train(main, loss, scope, range(STEPS))
    scope = started(startup)
    train(main, loss, scope, range(3))
    put(scope, "random_step", np.array(0))
    assert train(main, loss, scope, range(3, STEPS)) != expected[3:]


def test_startup_runs_are_equal_and_start_the_count_again():
    main, startup, _, loss = network(seed=0)
    exe, scope = go.static.Executor(), go.static.Scope()
    values = []
    for _ in range(2):
        exe.run(startup, scope=scope)
        values.append(state(main, scope))
        train(main, loss, scope, range(2))
    assert_same_bits(*values)


def test_a_test_program_neither_draws_nor_counts():
    main, startup, _, loss = network(seed=11)
    exe, scope = go.static.Executor(), started(startup)
    test = main.clone(for_test=True)
    noise = next(op for op in test.global_block().ops if op.type == "RandomNormal")
    assert all(op.type != "Add" or op.role != "schedule" for op in test.global_block().ops)
    train(main, loss, scope, range(1))
    feed = {**batch(0), noise.output_arg_names[0]: np.zeros((5, 16), "f4")}
    first, second = (exe.run(test, feed, [loss.name], scope=scope)[0] for _ in range(2))
    assert first == second
    assert held(scope, "random_step") == 1


def test_saved_files_draw_the_same_masks(tmp_path):
    main, startup, feeds, loss = network(seed=11)
    scope = started(startup)
    train(main, loss, scope, range(2))
    with go.static.scope_guard(scope):
        go.static.save_training_model(tmp_path / "m", feeds, [loss], go.static.Executor(), main)
    expected = train(main, loss, scope, range(2, STEPS))

    def session(name):
        path = str(tmp_path / name)
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    step, start = session("m.train.onnx"), session("m.state.onnx")
    pairs = json.loads(step.get_modelmeta().custom_metadata_map["graphopt.state"])
    values = dict(zip([o.name for o in start.get_outputs()], start.run(None, {}), strict=True))
    losses = []
    for k in range(2, STEPS):
        found, *following = step.run(None, {**batch(k), **values})
        values = {p["input"]: v for p, v in zip(pairs, following, strict=True)}
        losses.append(float(found))
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert values["random_step"] == STEPS
