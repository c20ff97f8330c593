import numpy as np
import pytest

import graphopt as go
from graphopt import errors


def training(**arguments):
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [2])
        w = go.create_parameter([2], "float32", name="w")
        go.optimizer.SGD(0.1).minimize(go.sum(x * w))
        steps = go.static.create_global_var([1], 10, "int64") if arguments.pop("early", 0) else None
        ema = go.static.ExponentialMovingAverage(thres_steps=steps, **arguments)
        ema.update()
    exe, scope = go.static.Executor(), go.static.Scope()
    exe.run(startup, scope=scope)
    return main, w, ema, exe, scope


def test_the_mean_is_corrected_and_restored(rng):
    main, w, ema, exe, scope = training(decay=0.9)
    with pytest.raises(errors.StateError, match="no step"), ema.apply(exe, scope=scope):
        pass
    weights = []
    for _ in range(5):
        exe.run(main, feed={"x": rng.normal(size=2).astype("f4")}, scope=scope)
        weights.append(w.get_value(scope))
    shares = 0.9 ** np.arange(4, -1, -1)
    expected = (shares[:, None] * weights).sum(0) / shares.sum()
    with ema.apply(exe, scope=scope):
        np.testing.assert_allclose(w.get_value(scope), expected, rtol=1e-5)
    np.testing.assert_array_equal(w.get_value(scope), weights[-1])
    with ema.apply(exe, need_restore=False, scope=scope):
        pass
    np.testing.assert_allclose(w.get_value(scope), expected, rtol=1e-5)
    ema.restore(exe, scope)
    np.testing.assert_array_equal(w.get_value(scope), weights[-1])


def test_early_steps_decay_faster(rng):
    main, w, ema, exe, scope = training(decay=0.9, early=True)  # (1 + 10) / (10 + 10)
    weights = []
    for _ in range(2):
        exe.run(main, feed={"x": rng.normal(size=2).astype("f4")}, scope=scope)
        weights.append(w.get_value(scope))
    with ema.apply(exe, scope=scope):
        found = w.get_value(scope)
    np.testing.assert_allclose(found, (0.55 * weights[0] + weights[1]) / 1.55, rtol=1e-5)


def test_an_error_inside_apply_still_restores(rng):
    main, w, ema, exe, scope = training(decay=0.5)
    for _ in range(2):
        exe.run(main, feed={"x": rng.normal(size=2).astype("f4")}, scope=scope)
    before = w.get_value(scope)

    def fail():
        with ema.apply(exe, scope=scope):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    np.testing.assert_array_equal(w.get_value(scope), before)


def test_clones_for_test_do_not_average():
    main, *_ = training(decay=0.9)
    assert main.clone(for_test=True).global_block().ops[-1].role == "forward"


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_the_decay_is_checked(decay):
    with pytest.raises(ValueError, match="decay must be in"):
        go.static.ExponentialMovingAverage(decay)
    with pytest.raises(ValueError, match="no trainable parameter"):
        go.static.ExponentialMovingAverage(0.5)
