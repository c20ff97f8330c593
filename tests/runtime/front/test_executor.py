import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from tests.helpers import held, put
from tests.runtime.front.regression import Regression


@pytest.fixture
def model():
    return Regression().start()


def test_a_step_is_gradient_descent(model):
    before, x, y = model.state(), model.feed["x"], model.feed["y"]
    loss, after = model.run([model.loss, model.w])
    error = x @ before - y
    assert loss.shape == ()
    np.testing.assert_allclose(loss, (error**2).mean(), rtol=1e-6)
    np.testing.assert_allclose(after, before - 0.1 * 2 / 6 * x.T @ error, rtol=1e-5)
    np.testing.assert_array_equal(after, model.state())


def test_fetch_forms(model):
    flat = model.run([[model.loss, ["pred" and model.pred]], "w", "w@GRAD"])
    assert [v.shape for v in flat] == [(), (6, 1), (4, 1), (4, 1)]
    assert model.run(model.loss)[0].shape == ()
    assert model.run("w")[0].shape == (4, 1)
    assert model.run() == []
    twice = model.run([model.loss, model.loss])
    assert twice[0] == twice[1]


def test_a_run_without_fetches_trains(model):
    before = model.state()
    model.run()
    assert not np.array_equal(before, model.state())


def test_gradient_pairs_update_nothing(model):
    before = model.state()
    w, grad = model.run([model.result[1]])
    np.testing.assert_array_equal(w, before)
    x, y = (model.feed[name].astype("f8") for name in "xy")
    # The sum over the batch cancels: what float32 rounds away is in the sizes of its terms.
    size = 2 / 6 * abs(x).T @ (abs(x) @ abs(before) + abs(y))
    assert (abs(grad - 2 / 6 * x.T @ (x @ before - y)) <= 1e-6 * size).all()
    assert len(model.run([model.loss, model.result[1][0]])) == 3
    np.testing.assert_array_equal(model.state(), before)


@pytest.mark.parametrize("form", ["pair", "ops", "unpacked", "alone"])
def test_what_minimize_returned_prunes_and_trains(model, form):
    result, before = model.result, model.state()
    fetch = {"pair": [model.loss, result], "ops": [model.loss, result[0]],
             "unpacked": [model.loss, *result], "alone": result}[form]  # fmt: skip
    found = model.run(fetch)
    assert len(found) == {"pair": 1, "ops": 1, "unpacked": 3, "alone": 0}[form]
    assert not np.array_equal(before, model.state())


def test_two_losses_are_trained_apart():
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        a, b = go.static.data("a", [None, 2]), go.static.data("b", [None, 2])
        loss_a = go.mean(go.static.nn.fc(a, 1, weight_attr="wa"))
        loss_b = go.mean(go.static.nn.fc(b, 1, weight_attr="wb"))
        result_a = go.optimizer.SGD(0.1).minimize(loss_a)
        go.optimizer.SGD(0.1).minimize(loss_b)
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    before = {n: held(scope, n) for n in ("wa", "wb")}
    exe.run(main, feed={"a": np.ones((3, 2), "f4")}, fetch_list=[loss_a, result_a], scope=scope)
    after = {n: held(scope, n) for n in ("wa", "wb")}
    assert not np.array_equal(before["wa"], after["wa"])
    np.testing.assert_array_equal(before["wb"], after["wb"])


def test_fetched_tensors_stay_valid(model):
    (w,) = model.run([model.w], return_numpy=False)
    kept = np.array(w)
    for _ in range(3):
        model.run()
    np.testing.assert_array_equal(np.array(w), kept)
    assert w.shape() == [4, 1]


def test_fetch_errors(model):
    with pytest.raises(errors.UnknownVariableError, match="did you mean"):
        model.run([model.loss.name + "x"])
    with pytest.raises(KeyError):
        model.run(["nothing"])
    with pytest.raises(TypeError, match="cannot hold a int"):
        model.run([3])
    with pytest.raises(errors.UnknownVariableError, match="another Program"):
        model.run([Regression().loss])
    with pytest.raises(errors.ArgumentTypeError, match="does not update"):
        model.run([model.main.global_block().ops[0]])


def test_running_before_startup_names_the_parameter():
    with pytest.raises(errors.UninitializedError, match="w has no value yet") as found:
        Regression().run()
    assert "create_parameter" in str(found.value)
    assert "run the startup Program first" in str(found.value)


def test_a_failing_step_names_the_users_line_and_changes_nothing():
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [None, 4])
        w = go.create_parameter([4, 3], "float32")
        shape = go.static.data("shape", [2], "int64")
        y = go.reshape(x @ w, shape)  # here it fails
        go.optimizer.SGD(0.1).minimize(go.mean(y))
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    before = held(scope, w.name)
    feed = {"x": np.ones((2, 4), "f4"), "shape": np.array([5, 5])}
    with pytest.raises(errors.StepError, match="Reshape failed while running") as found:
        exe.run(main, feed=feed, fetch_list=[y], scope=scope)
    assert "here it fails" in str(found.value)
    assert found.value.__cause__ is not None
    np.testing.assert_array_equal(held(scope, w.name), before)


def test_programs_are_compiled_once_until_they_change(model, monkeypatch):
    built = []
    from graphopt.runtime.ort.session import Session
    from graphopt.runtime.run import compiled

    def counted(*args, **options):
        built.append(args)
        return Session(*args, **options)

    monkeypatch.setattr(compiled, "Session", counted)
    for rows in (6, 3, 6):
        model.run([model.loss], feed={k: v[:rows] for k, v in model.feed.items()})
    assert len(built) == 2
    with go.static.program_guard(model.main):
        doubled = model.loss * 2.0
    model.run([doubled])
    assert len(built) == 3


def test_shapes_that_vary_share_one_compiled_program(model, monkeypatch):
    built = []
    from graphopt.runtime.front.cache import MAX_CHECKED, MAX_SPECIALISED
    from graphopt.runtime.ort.session import Session
    from graphopt.runtime.run import compiled

    def counted(*args, **options):
        built.append(args)
        return Session(*args, **options)

    monkeypatch.setattr(compiled, "Session", counted)
    feed = {k: np.repeat(v, 40, axis=0) for k, v in model.feed.items()}
    for rows in range(1, MAX_CHECKED + 20):
        part = {k: v[:rows] for k, v in feed.items()}
        twin = model.run([model.loss], feed=part)
        assert np.isfinite(twin[0])
    assert len(built) == MAX_SPECIALISED + 1


def test_a_dropped_program_is_not_kept_alive():
    model = Regression().start()
    model.run()
    watched = weakref.ref(model.main)
    exe = model.exe
    del model
    gc.collect()
    assert exe is not None
    assert watched() is None


def test_state_set_by_the_user_is_used_and_checked(model):
    tensor = model.scope.find_var("w").get_tensor()
    tensor.set(np.zeros((4, 1), "f4"), go.CPUPlace())
    (pred,) = model.run([model.pred])
    np.testing.assert_array_equal(pred, 0)
    assert tensor.shape() == [4, 1]
    tensor.set(np.zeros((4, 2), "f4"))
    with pytest.raises(errors.FeedError, match="another type"):
        model.run()


def test_scopes_are_separate(model):
    other = go.static.Scope()
    with go.static.scope_guard(other):
        assert go.static.global_scope() is other
        model.exe.run(model.startup)
        model.exe.run(model.main, feed=model.feed)
    assert go.static.global_scope() is not other
    assert other.find_var("w") is not None
    assert other.find_var("nothing") is None
    assert other.var("new").get_tensor() is not None
    with pytest.raises(errors.UninitializedError):
        other.var("new").get_tensor().shape()


def test_odd_programs():
    exe = go.static.Executor("cpu")
    with pytest.warns(UserWarning, match="no ops"):
        assert exe.run(go.static.Program()) == []
    with pytest.raises(TypeError, match="takes a Program"):
        exe.run(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no place"):
        go.static.Executor("tpu")
    exe.close()
    with pytest.raises(RuntimeError, match="closed"):
        exe.run(go.static.Program())


def test_fetching_feeds_and_constants():
    main = go.static.Program()
    with go.static.program_guard(main):
        x = go.static.data("x", [None])
        c = go.full([2], 3.0)
    value = np.arange(3, dtype="f4")
    found, constant = go.static.Executor().run(main, feed={"x": value}, fetch_list=[x, c])
    np.testing.assert_array_equal(found, value)
    np.testing.assert_array_equal(constant, [3.0, 3.0])


def test_cuda_without_cuda_is_a_clear_error_and_silent(capfd):
    from graphopt.runtime.ort.providers.cuda import cuda_devices

    if cuda_devices():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(errors.DeviceError, match="no CUDA device 0") as found:
        go.static.Executor(go.CUDAPlace(0))
    assert isinstance(found.value, RuntimeError)
    assert capfd.readouterr() == ("", "")


def test_import_loads_no_onnxruntime():
    code = "import sys, graphopt; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
def test_cuda_trains_as_the_cpu_does():
    cpu = Regression(go.optimizer.ASGD(0.1, batch_num=3)).start()
    gpu = Regression(go.optimizer.ASGD(0.1, batch_num=3))
    gpu.exe = go.static.Executor(go.CUDAPlace(0))
    gpu.start()
    put(gpu.scope, "w", cpu.state())
    for _ in range(10):
        (a,), (b,) = cpu.run([cpu.loss]), gpu.run([gpu.loss])
        np.testing.assert_allclose(a, b, rtol=1e-5)
    value = gpu.scope.values["w"]
    assert value is not None
    assert value.device_name() == "cuda"
    np.testing.assert_allclose(cpu.state(), gpu.state(), rtol=1e-4)


def test_one_pair_updates_nothing(model):
    before = model.state()
    assert len(model.run(model.result[1][0])) == 2
    np.testing.assert_array_equal(model.state(), before)


def test_constants_of_programs_are_not_mixed_up():
    programs, constants = [], []
    for value in (7.0, 9.0):
        main = go.static.Program()
        with go.static.program_guard(main):
            constants.append(go.full([1], value))
            go.static.data("x", [1]) + 1.0
        programs.append(main)
    exe = go.static.Executor()
    with pytest.raises(errors.UnknownVariableError, match="another Program"):
        exe.run(programs[1], fetch_list=[constants[0]])
    assert exe.run(programs[1], fetch_list=[constants[1]])[0] == 9.0
    clone = programs[0].clone()
    assert exe.run(clone, fetch_list=[constants[0]])[0] == 7.0


def test_compiled_programs_are_bounded(model):
    from graphopt.runtime.front.cache import MAX_COMPILED

    for count in range(1, MAX_COMPILED + 10):
        model.run([model.loss] * count)
    assert len(model.exe._cache[model.main]) == MAX_COMPILED


def test_a_program_with_a_schedule_is_not_kept_alive():
    model = Regression(go.optimizer.SGD(go.optimizer.lr.StepDecay(0.1, step_size=2))).start()
    model.run()
    watched, exe = weakref.ref(model.main), model.exe
    del model
    gc.collect()
    assert exe is not None
    assert watched() is None


def test_a_prepared_step_is_a_run(model):
    twin = Regression().start()
    for v in model.main.list_vars():
        if v.persistable:
            put(twin.scope, v.name, held(model.scope, v.name))
    step = model.exe.prepare(model.main, model.feed, [model.loss], model.scope)
    for k in range(4):
        found = step(model.feed) if k % 2 else step()
        np.testing.assert_array_equal(found[0], twin.run([twin.loss])[0])
    np.testing.assert_array_equal(model.state(), twin.state())
    assert "SGD" in step.program.text()
    with pytest.raises(errors.FeedError, match="not what the step was prepared for"):
        step({**model.feed, "x": model.feed["x"][:2]})
    with pytest.raises(errors.FeedError, match="not what the step was prepared for"):
        step({"x": model.feed["x"]})


def test_compiled_programs_of_many_requests_do_not_keep_their_program_alive():
    model = Regression().start()
    exe = model.exe
    model.run([model.loss])
    gone = weakref.ref(model.main)
    del model
    gc.collect()
    assert gone() is None
    assert not exe._cache
