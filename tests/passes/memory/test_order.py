"""The order of a step: what it is, that it is sound, and that onnxruntime keeps to it."""

import json
from pathlib import Path
from random import Random

import numpy as np
import onnxruntime as ort
import pytest

import graphopt as go
from graphopt.ir.model.operator import Role
from graphopt.ir.model.program import Program
from graphopt.passes.memory.order import Schedule
from tests.passes.both_runtimes import Runner, agree, as_step, sample_values

F = go.nn.functional
DECLARED = """
param w : f32[3, 4]
param b : f32[4]
state m : f32[3, 4]
state lr : f32[]
feed x : f32[5, 3]
feed dy : f32[5, 4]
"""
BIAS = "db : f32[4] = ReduceSum(dy, [0], keepdims=0)\n"
WEIGHT = "dw : f32[3, 4] = Gemm(x, dy, transA=1)\n"
INPUT = "dx : f32[5, 3] = Gemm(dy, w, transB=1)\n"
UPDATE = "-- update\n"
# ops: what they make, in the order they run
CASES = {
    "updates behind their gradients": (
        WEIGHT + BIAS + UPDATE + "b <- SGD(b, db, lr)\nw <- SGD(w, dw, lr)\n",
        "dw w@NEXT db b@NEXT",
    ),
    "what an update reads beside the gradient": (
        "-- forward\nr : f32[3, 4] = Exp(m)\n-- backward\n" + BIAS + WEIGHT + UPDATE
        + "s : f32[3, 4] = Add(dw, r)\nw <- SGD(w, s, lr)\nb <- SGD(b, db, lr)\n",
        "r db b@NEXT dw s w@NEXT",
    ),
    "a read of the old value": (
        BIAS + INPUT + WEIGHT + "e : f32[5, 3] = Exp(dx)\n" + UPDATE
        + "w <- SGD(w, dw, lr)\nb <- SGD(b, db, lr)\n", "db b@NEXT dw w@NEXT dx e",
    ),
    "a read of the new value": (
        WEIGHT + BIAS + UPDATE + "b <- SGD(b, db, lr)\nw <- SGD(w, dw, lr)\n"
        "-- forward\ne : f32[3, 4] = Exp(w)\n", "dw w@NEXT db b@NEXT e",
    ),
    "gradients that are clipped together": (
        BIAS + WEIGHT + "-- clip\nq : f32[] = ReduceSumSquare(db, keepdims=0)\n"
        "p : f32[] = ReduceSumSquare(dw, keepdims=0)\nn : f32[] = Add(p, q)\n"
        "cw : f32[3, 4] = Div(dw, n)\ncb : f32[4] = Div(db, n)\n" + UPDATE
        + "b <- SGD(b, cb, lr)\nw <- SGD(w, cw, lr)\n", "db dw q p n cw cb b@NEXT w@NEXT",
    ),
    "assigned twice": (
        WEIGHT + BIAS + UPDATE + "w <- SGD(w, dw, lr)\nb <- SGD(b, db, lr)\nw <- Add(w, m)\n",
        "dw w@1 w@NEXT db b@NEXT",
    ),
}  # fmt: skip


def order(step):
    return " ".join(v.name for op in step.global_block().ops for v in op.writes())


@pytest.mark.parametrize("name", CASES)
def test_order(name):
    ops, expected = CASES[name]
    scheduled = Schedule().run(as_step(DECLARED + "-- backward\n" + ops))
    assert order(scheduled) == expected
    assert order(Schedule().run(scheduled)) == expected


def test_a_program_without_updates_stays():
    step = as_step(DECLARED + WEIGHT)
    assert not Schedule().needed(step)
    assert Schedule().run(step).text() == step.text()


def random_step(random):
    """A Program whose ops read and assign two states in any order, forward and in updates."""
    program = Program()
    block, g = program.global_block(), program.recorder()
    states = [block.create_var(name, [2], np.dtype("f8"), persistable=True) for name in "st"]
    fed = block.create_var("x", [2], np.dtype("f8"))
    fed.is_data = True
    values = [fed]
    for _ in range(random.randint(2, 14)):
        g.role = random.choice([Role.FORWARD, Role.BACKWARD, Role.CLIP, Role.UPDATE])
        operands = [random.choice([*values, *states]) for _ in range(2)]
        if random.random() < 0.4:
            g.emit(random.choice(["Add", "Sub"]), *operands, into=[random.choice(states)])
        else:
            values.append(g.emit(random.choice(["Add", "Mul", "Sub"]), *operands))
    return program, [v.name for v in values[1:]]


@pytest.mark.parametrize("seed", range(150))
def test_random_steps_compute_the_same(seed):
    program, fetch = random_step(Random(seed))
    values = sample_values(program, np.random.default_rng(seed))
    step = as_step(program, *fetch)
    found, expected = (Runner(p, fetch, values, "reference") for p in (Schedule().run(step), step))
    agree(found.step(), expected.step())
    for name, value in expected.values.items():
        np.testing.assert_array_equal(found.values[name], value, err_msg=name)


def attention():
    x, y = go.static.data("x", [2, 5], "int64"), go.static.data("y", [2, 5], "int64")
    h = go.nn.Embedding(7, 8)(x)
    qkv = go.reshape(go.nn.Linear(8, 24)(h), [2, 5, 3, 2, 4])
    q, k, v = (qkv[:, :, part] for part in range(3))
    h = F.scaled_dot_product_attention(q, k, v)
    h = F.relu(go.nn.Linear(8, 8)(go.reshape(h, [2, 5, 8])))
    return F.cross_entropy(go.nn.Linear(8, 7)(go.nn.LayerNorm(8)(h)), y)


def test_onnxruntime_runs_it_in_the_order_it_is_written(tmp_path, monkeypatch):
    """Nodes that its optimizers make run last of all that can: none is left for them to make."""
    sessions = []

    class Profiled(ort.InferenceSession):  # type: ignore[misc]
        def __init__(self, model, options, **rest):
            options.enable_profiling = True
            options.profile_file_prefix = str(tmp_path / "step")
            super().__init__(model, options, **rest)
            sessions.append(self)

    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        loss = attention()
        go.optimizer.SGD(0.1).minimize(loss)
    exe, draw = go.static.Executor(), np.random.default_rng(0)
    exe.run(startup)
    monkeypatch.setattr(ort, "InferenceSession", Profiled)
    feed = {name: draw.integers(0, 7, (2, 5)) for name in "xy"}
    step = exe.prepare(main, feed=feed, fetch_list=[loss])
    step(feed)
    events = json.loads(Path(sessions[-1].end_profiling()).read_text())
    ran = [e["name"].removesuffix("_kernel_time") for e in events if e["name"].endswith("_time")]
    # Updates are functions, whose nodes come behind all others: they wait for nothing but time.
    ops = enumerate(step.program.global_block().ops)
    written = [f"{op.type.rpartition('::')[2]}_{k}" for k, op in ops if op.role is not Role.UPDATE]
    assert [name for name in ran if name in written] == [name for name in written if name in ran]
    assert len(set(written) - set(ran)) < 3  # of which a view was taken into another
