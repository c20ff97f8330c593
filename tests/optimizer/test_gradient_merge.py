from typing import Any

import numpy as np
import pytest

import graphopt as go
from tests.helpers import held

INNER = {
    "SGD": lambda: go.optimizer.SGD(0.1, weight_decay=0.1),
    "ASGD": lambda: go.optimizer.ASGD(0.1, batch_num=3),
    "Adam": lambda: go.optimizer.Adam(0.1, grad_clip=go.nn.ClipGradByGlobalNorm(0.5)),
}


class Model:
    def __init__(self, optimizer):
        self.main, self.startup = go.static.Program(), go.static.Program()
        with go.static.program_guard(self.main, self.startup):
            x = go.static.data("x", [None, 3])
            start = go.nn.initializer.Assign([[1.0], [-2.0], [3.0]])
            w = go.create_parameter([3, 1], "float32", name="w", default_initializer=start)
            self.loss = go.mean(go.square(x @ w))
            self.result = optimizer.minimize(self.loss)
        self.exe, self.scope = go.static.Executor(), go.static.Scope()
        self.exe.run(self.startup, scope=self.scope)

    def step(self, x, fetch=()):
        self.exe.run(self.main, feed={"x": x}, fetch_list=[*fetch], scope=self.scope)
        return held(self.scope, "w")


@pytest.mark.parametrize("kind", INNER)
def test_k_micro_batches_are_one_batch(kind, rng):
    merged, whole = Model(go.optimizer.GradientMerge(INNER[kind](), 4)), Model(INNER[kind]())
    for _ in range(3):
        x = rng.normal(size=(8, 3)).astype("f4")
        start = held(merged.scope, "w")
        for k in range(3):
            np.testing.assert_array_equal(merged.step(x[2 * k : 2 * k + 2]), start)
        np.testing.assert_allclose(merged.step(x[6:]), whole.step(x), rtol=1e-5)
    for name in (n for n in whole.scope.local_var_names() if n.startswith("w_")):
        found, expected = held(merged.scope, name), held(whole.scope, name)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_sums_without_avg(rng):
    x = rng.normal(size=(2, 3)).astype("f4")
    summed = Model(go.optimizer.GradientMerge(go.optimizer.SGD(0.1), 2, avg=False))
    double = Model(go.optimizer.SGD(0.2))
    summed.step(x)
    np.testing.assert_allclose(summed.step(x), double.step(x), rtol=1e-5)


def test_minimizes_result_prunes(rng):
    model = Model(go.optimizer.GradientMerge(go.optimizer.SGD(0.1), 2))
    x = rng.normal(size=(2, 3)).astype("f4")
    start = held(model.scope, "w")
    model.step(x, [model.loss, model.result])
    assert not np.array_equal(model.step(x, [model.loss, model.result]), start)


def test_arguments():
    inner = go.optimizer.SGD(0.1)
    cases: list[tuple[Any, type[Exception]]] = [
        (0, ValueError),
        (2.0, TypeError),
        (True, TypeError),
    ]
    for wrong, error in cases:
        with pytest.raises(error, match="k_steps"):
            go.optimizer.GradientMerge(inner, wrong)
    with pytest.raises(TypeError, match="inner"):
        go.optimizer.GradientMerge("sgd", 2)  # type: ignore[arg-type]
    merge = go.optimizer.GradientMerge(inner, 2)
    merge.set_lr(0.5)
    assert merge.get_lr() == inner.get_lr() == 0.5
    assert merge.apply_gradients([]) == []
