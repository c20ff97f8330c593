import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from tests.helpers import held, put
from tests.onnxio.models import load, model

BODY = """g (float[N, 3, 2] x) => (float[N, 3, 2] y) {
    h = BatchNormalization<momentum = 0.8>(x, s, b, mean, var)
    y = Dropout<ratio = 0.4>(h)
}"""
X = np.random.default_rng(0).normal(2, 3, (50, 3, 2)).astype("f4")


@pytest.fixture
def loaded():
    ones = np.ones(3, "f4")
    return load(model(BODY, 11, s=2 * ones, b=ones, mean=0 * ones, var=ones))


def test_training_normalizes_by_the_batch(loaded):
    loaded.program.train()
    (h,) = loaded.run(["h"], x=X)
    np.testing.assert_allclose(h.mean((0, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(h.std((0, 2)), 2, rtol=1e-5)
    np.testing.assert_allclose(held(loaded.scope, "mean"), 0.2 * X.mean((0, 2)), rtol=1e-4)
    expected = 0.8 + 0.2 * X.var((0, 2))
    np.testing.assert_allclose(held(loaded.scope, "var"), expected, rtol=1e-4)


def test_training_drops_anew_in_every_run(loaded):
    loaded.program.train()
    first, second = (loaded.run(x=X)[0] for _ in range(2))
    for y in (first, second):
        assert 0.3 < (y == 0).mean() < 0.5
    assert (first != second).any()
    assert held(loaded.scope, "random_step") == 2


def test_the_program_draws_the_same_from_the_same_seed(loaded):
    found = []
    for _ in range(2):
        program = loaded.program.clone()
        program.random_seed = 7
        program.train()
        scope = go.static.Scope()
        for name in ("s", "b", "mean", "var"):
            put(scope, name, held(loaded.scope, name))
        found += loaded.exe.run(program, {"x": X}, ["y"], scope=scope)
    np.testing.assert_array_equal(*found)


def test_back_to_inference(loaded):
    (before,) = loaded.run(x=X)
    loaded.program.train()
    loaded.program.eval()
    (after,) = loaded.run(x=X)
    np.testing.assert_array_equal(before, after)


def test_a_clone_for_test_is_in_test_mode(loaded):
    (before,) = loaded.run(x=X)
    loaded.program.train()
    loss = loaded.minimize()
    test = loaded.program.clone(for_test=True)
    (after,) = loaded.exe.run(test, {"x": X}, ["y"], scope=loaded.scope)
    np.testing.assert_array_equal(before, after)
    assert len({float(loaded.run([loss], x=X)[0]) for _ in range(3)}) == 3


def test_modes_are_chosen_before_the_gradients(loaded):
    loaded.minimize()
    for switch in (loaded.program.train, loaded.program.eval):
        with pytest.raises(errors.ArgumentError, match="has gradients"):
            switch()


def test_statistics_that_are_fed():
    body = """g (float[N, 3] x, float[3] mean, float[3] var) => (float[N, 3] y) {
        y = BatchNormalization(x, s, b, mean, var) }"""
    loaded = load(model(body, s=np.ones(3, "f4"), b=np.ones(3, "f4")))
    with pytest.raises(errors.ArgumentError, match="cannot train"):
        loaded.program.train()
    assert loaded.program.global_block().ops[0].attrs["training_mode"] == 0


def test_bodies():
    body = """g (float[N, 3] x, bool c) => (float[N, 3] y) {
        y = If (c) <
            then_branch = yes () => (float[N, 3] a) { h = BatchNormalization(x, s, b, mean, var)
                                                      a = Dropout(h) },
            else_branch = no () => (float[N, 3] a) { a = Identity(x) }
        >
    }"""
    ones = np.ones(3, "f4")
    loaded = load(model(body, s=ones, b=ones, mean=0 * ones, var=ones))
    with pytest.warns(UserWarning, match="stay in test mode: h"):
        loaded.program.train()
    found = [loaded.run(x=X[:, :, 0], c=np.array(True))[0] for _ in range(2)]
    assert (found[0] != found[1]).any()
