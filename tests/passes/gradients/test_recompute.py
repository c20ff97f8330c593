import numpy as np
import pytest

import graphopt as go
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.text.verify import verify
from tests.helpers import held


def network(checkpointed, depth=4, width=8, norm=False):
    main, startup = go.static.Program(), go.static.Program()
    main.random_seed = startup.random_seed = 3
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [None, width])
        h, kept = x, []
        for k in range(depth):
            h = go.static.nn.fc(h, width, name=f"a{k}")
            h = go.static.nn.batch_norm(h, name=f"n{k}") if norm else h
            h = go.nn.functional.gelu(h)
            h = go.nn.functional.dropout(go.tanh(h), 0.2)
            kept.append(h)
        loss = go.mean(go.square(h))
        checkpoints = kept[:-1] if checkpointed else None
        go.optimizer.SGD(0.1).minimize(loss, checkpoints=checkpoints)
    verify(main)
    return main, startup, loss


@pytest.mark.parametrize("norm", [False, True])
def test_the_same_training(norm):
    runs = []
    for checkpointed in (False, True):
        main, startup, loss = network(checkpointed, norm=norm)
        exe, scope = go.static.Executor(), go.static.Scope()
        exe.run(startup, scope=scope)
        feed = {"x": np.random.default_rng(0).normal(size=(6, 8)).astype("f4")}
        losses = [exe.run(main, feed=feed, fetch_list=[loss], scope=scope)[0] for _ in range(4)]
        state = [held(scope, p.name) for p in main.all_parameters()]
        runs.append((losses, state))
    np.testing.assert_allclose(runs[0][0], runs[1][0], rtol=1e-6)
    for a, b in zip(runs[0][1], runs[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_segments_are_recorded_again():
    plain, _, _ = network(False)
    again, _, _ = network(True)

    def count(program, made_by):
        ops = program.global_block().ops
        return sum(op.made_by == made_by for op in ops)

    assert count(plain, "recompute") == 0
    assert count(again, "recompute") >= 3 * 3
    assert "from test_recompute.py" in again.text()


def test_names_and_bad_checkpoints():
    main = go.static.Program()
    with go.static.program_guard(main, go.static.Program()):
        x = go.static.data("x", [None, 4])
        h = go.tanh(go.static.nn.fc(x, 4))
        loss = go.mean(go.tanh(go.static.nn.fc(h, 4)))
        before = main.text()
        with pytest.raises(ValueError, match="checkpoint x is not made by an op"):
            go.static.append_backward(loss, checkpoints=[x])
        assert main.text() == before
        pairs = go.static.append_backward(loss, checkpoints=[h.name])
    assert len(pairs) == 4
    verify(main)


def test_nothing_is_recomputed_before_a_gradient_has_arrived():
    """Else it would be merged with the first time, or run early, and all would be kept."""
    main, _, _ = network(True)
    again = [op for op in main.global_block().ops if op.made_by == "recompute"]
    redone = {op for op in again if op.type in ("Tanh", "Erf", "Gelu", "Dropout")}
    assert len(redone) >= 3
    for op in redone:
        waiting = [op]
        above: set[Operator] = set()
        while waiting:
            makers = {v.maker for v in waiting.pop().operands()} - {None} - above
            above |= makers
            waiting += makers
        assert any(o.role is Role.BACKWARD and o.made_by == "backward" for o in above), op


def test_the_executor_redoes_what_lies_between_checkpoints():
    """The compiled step has each activation of a segment twice."""
    counts = []
    for checkpointed in (False, True):
        main, startup, loss = network(checkpointed)
        exe, scope = go.static.Executor(), go.static.Scope()
        exe.run(startup, scope=scope)
        step = exe.prepare(main, {"x": np.ones((6, 8), "f4")}, [loss], scope)
        counts.append(sum(op.type == "Tanh" for op in step.program.global_block().ops))
    assert counts == [4, 4 + 3]
