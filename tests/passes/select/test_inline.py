"""Updates as plain ops."""

import numpy as np
import pytest

import graphopt as go
from graphopt.ops.registry.registry import COMPOSITES
from graphopt.passes.select.inline import Inline
from tests.passes.both_runtimes import Runner, as_step

O = go.optimizer  # noqa: E741
OPTIMIZERS = {
    "SGD": lambda: O.SGD(0.1),
    "Momentum": lambda: O.Momentum(0.05, 0.9, use_nesterov=True),
    "Adam": lambda: O.Adam(0.01),
    "AdamW": lambda: O.AdamW(0.01, weight_decay=0.1),
    "RMSProp": lambda: O.RMSProp(0.01),
    "Rprop": lambda: O.Rprop(0.01),
    "NAdam": lambda: O.NAdam(0.01),
    "ASGD": lambda: O.ASGD(0.05, batch_num=3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_inlined_updates_do_the_same(name):
    main, startup = go.static.Program(), go.static.Program()
    main.random_seed = startup.random_seed = 3
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [4, 6])
        loss = go.mean(go.static.nn.fc(x, 5, activation="tanh") ** 2)
        OPTIMIZERS[name]().minimize(loss)
    step = as_step(main)
    inlined = Inline().run(step)
    assert any(op.type in COMPOSITES for op in step.global_block().ops)
    assert not any(op.type in COMPOSITES for op in inlined.global_block().ops)
    scope = go.static.Scope()
    go.static.Executor().run(startup, scope=scope)
    values = {v.name: np.asarray(scope.get(v.name)) for v in step.states}
    runs = [Runner(s, [], values, "onnxruntime") for s in (step, inlined)]
    for run in runs:
        draw = np.random.default_rng(0)
        for _ in range(5):
            run.step({"x": draw.normal(size=(4, 6)).astype("f4")})
    expected, found = (run.state() for run in runs)
    assert {*expected} == {*found} == {v.name for v in step.next_state}
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, 1e-6, 1e-7, err_msg=key)


def test_the_step_itself_stays():
    main = go.static.Program()
    with go.static.program_guard(main, go.static.Program()):
        x = go.static.data("x", [4, 6])
        O.Adam(0.01).minimize(go.mean(go.static.nn.fc(x, 1)))
    step = as_step(main)
    before = step.text()
    Inline().run(step)
    assert step.text() == before
