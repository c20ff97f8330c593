import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import graphopt as go
from graphopt import errors


@pytest.fixture
def trained():
    """A small network with dropout and batch norm, trained for five steps."""
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [None, 4])
        y = go.static.data("y", [None], "int64")
        h = go.static.nn.batch_norm(go.static.nn.fc(x, 8), act="relu")
        h = go.nn.functional.dropout(h, 0.5)
        logits = go.static.nn.fc(h, 3)
        loss = go.nn.functional.cross_entropy(logits, y)
        go.optimizer.ASGD(0.1, batch_num=3).minimize(loss)
    exe, scope = go.static.Executor(), go.static.Scope()
    rng = np.random.default_rng(0)
    feed = {"x": rng.normal(size=(6, 4)).astype("f4"), "y": rng.integers(0, 3, 6)}
    with go.static.scope_guard(scope):
        exe.run(startup)
        for _ in range(5):
            exe.run(main, feed=feed)
        yield exe, main, (x, y), (logits, loss), feed


def session(path):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_inference_model_is_the_test_mode(trained, tmp_path):
    exe, main, (x, _), (logits, _), feed = trained
    go.static.save_inference_model(tmp_path / "m", [x], [logits], exe)
    test = main.clone(for_test=True)
    (expected,) = exe.run(test, feed={"x": feed["x"]}, fetch_list=[logits])
    (found,) = session(tmp_path / "m.onnx").run(None, {"x": feed["x"]})
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    model = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input] == ["x"]
    assert (model.ir_version, model.opset_import[0].version) == (10, 21)
    assert "ai.onnx.ml" not in [o.domain for o in model.opset_import]


def test_inference_model_is_loaded_again(trained, tmp_path):
    exe, _, (x, _), (logits, _), feed = trained
    go.static.save_inference_model(tmp_path / "m", x, logits, exe)
    (expected,) = session(tmp_path / "m.onnx").run(None, {"x": feed["x"]})
    with go.static.scope_guard(go.static.Scope()):
        program, names, fetches = go.static.load_inference_model(tmp_path / "m", exe)
        (found,) = exe.run(program, feed={names[0]: feed["x"]}, fetch_list=fetches)
        go.static.save_inference_model(
            tmp_path / "again", [program.global_block().var("x")], fetches, exe
        )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert str(program.global_block().var("x").tensor_type) == "f32[N, 4]"
    (again,) = session(tmp_path / "again.onnx").run(None, {"x": feed["x"]})
    np.testing.assert_array_equal(again, expected)


def test_a_loaded_model_is_trained_on(trained, tmp_path):
    exe, _, (x, _), (logits, _), feed = trained
    go.static.save_inference_model(tmp_path / "m", x, logits, exe)
    with go.static.scope_guard(go.static.Scope()):
        program, _, (scores,) = go.static.load_inference_model(tmp_path / "m", exe)
        startup = go.static.Program()
        with go.static.program_guard(program, startup):
            y = go.static.data("label", [None], "int64")
            loss = go.nn.functional.cross_entropy(scores, y)
            go.optimizer.SGD(0.1).minimize(loss)
        exe.run(startup)
        step = {"x": feed["x"], "label": feed["y"]}
        losses = [float(exe.run(program, feed=step, fetch_list=[loss])[0]) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_training_model_goes_on_without_graphopt(trained, tmp_path):
    exe, main, feeds, (_, loss), feed = trained
    go.static.save_training_model(tmp_path / "m", feeds, [loss], exe, program=main)
    expected = [float(exe.run(main, feed=feed, fetch_list=[loss])[0]) for _ in range(6)]
    step, start = session(tmp_path / "m.train.onnx"), session(tmp_path / "m.state.onnx")
    pairs = json.loads(step.get_modelmeta().custom_metadata_map["graphopt.state"])
    state = dict(zip([o.name for o in start.get_outputs()], start.run(None, {}), strict=True))
    assert [i.name for i in step.get_inputs()] == ["x", "y", *state]
    assert [o.name for o in step.get_outputs()][1:] == [p["output"] for p in pairs]
    losses = []
    for _ in range(6):
        found, *following = step.run(None, {**feed, **state})
        state = {p["input"]: v for p, v in zip(pairs, following, strict=True)}
        losses.append(float(found))
    assert len(set(expected)) == 6
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert state["random_step"] == 11


def test_training_files_are_plain(trained, tmp_path):
    exe, main, feeds, (_, loss), _ = trained
    go.static.save_training_model(tmp_path / "m", feeds, [loss], exe, program=main)
    for name in ("m.train.onnx", "m.state.onnx"):
        model = onnx.load(tmp_path / name)
        onnx.checker.check_model(model, full_check=True)
        assert not model.functions
        assert [o.domain for o in model.opset_import] == [""]
        assert model.ir_version <= 10
        assert model.opset_import[0].version <= 21
        assert {node.domain for node in model.graph.node} <= {""}
    state = onnx.load(tmp_path / "m.state.onnx")
    assert not state.graph.input
    stored = {i.name for i in state.graph.initializer}
    assert any("_m_0" in name for name in stored)


def test_zero_state_is_made_not_stored(tmp_path):
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [None, 100])
        loss = go.mean(go.static.nn.fc(x, 100))
        go.optimizer.ASGD(0.1, batch_num=50).minimize(loss)
    exe = go.static.Executor()
    with go.static.scope_guard(go.static.Scope()):
        exe.run(startup)
        go.static.save_training_model(tmp_path / "m", [x], [loss], exe)
    assert (tmp_path / "m.state.onnx").stat().st_size < 60_000


def test_to_model_is_what_runs(trained):
    exe, main, _, (_, loss), feed = trained
    model = go.onnx.to_model(main, feed, [loss])
    assert {f.name for f in model.functions} == {"ASGD"} | {
        f.name for f in model.functions if f.name.startswith("ASGD_")
    }
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input][:2] == ["x", "y"]
    inlined = go.onnx.to_model(main, feed, [loss], inline=True)
    assert not inlined.functions
    onnx.checker.check_model(inlined, full_check=True)
    roles = {
        p.value for n in model.graph.node for p in n.metadata_props if p.key == "graphopt.role"
    }
    assert roles == {"schedule", "forward", "backward", "update"}


def test_refusals(trained, tmp_path):
    exe, main, (x, y), (logits, loss), _ = trained
    with pytest.raises(errors.ArgumentError, match="the fetches need y"):
        go.static.save_inference_model(tmp_path / "m", [x], [loss], exe)
    with pytest.raises(TypeError):
        go.static.save_inference_model(tmp_path / "m", ["x"], [logits], exe)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="empty"):
        go.static.save_inference_model(tmp_path / "m", [], [logits], exe)
    with pytest.raises(ValueError, match="not a path"):
        go.static.save_inference_model("", [x], [logits], exe)
    test = main.clone(for_test=True)
    with pytest.raises(errors.ArgumentError, match="no state"):
        go.static.save_training_model(tmp_path / "m", [x], [logits], exe, program=test)
    with go.static.scope_guard(go.static.Scope()), pytest.raises(errors.UninitializedError):
        go.static.save_inference_model(tmp_path / "m", [x], [logits], exe)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        go.static.load_inference_model(tmp_path / "m", exe)
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(errors.FileError, match="not an ONNX model"):
        go.static.load_inference_model(tmp_path / "bad", exe)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    import os

    from graphopt.onnxio.files import write_atomically

    target = tmp_path / "f"
    write_atomically(target, b"old")

    def fail(*_):
        raise OSError

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError):  # noqa: PT011
        write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
