"""The networks that the onnx wheel carries: read, run, differentiated, trained, saved.

Their weights are ConstantOfShape nodes, so they get random values first.
"""

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest

import graphopt as go
from tests.helpers import held, put
from tests.onnxio.models import load, on_onnxruntime

FOLDER = Path(onnx.__file__).parent / "backend/test/data/light"
SMALL = ["shufflenet", "squeezenet"]
LARGE = ["bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "zfnet512"]
slow = pytest.mark.slow


def network(name):
    """A network at the file's own sizes, and an image for it."""
    loaded = load(FOLDER / f"light_{name}.onnx")
    (feed,) = loaded.names
    rng = np.random.default_rng(0)
    image = rng.normal(size=loaded.program.global_block().var(feed).shape).astype("f4")
    return loaded, {feed: image}


def draw(loaded):
    """Weights that keep the size of activations, small biases; normalizations change nothing."""
    rng = np.random.default_rng(1)
    for p in loaded.program.all_parameters():
        width = np.sqrt(2 / np.prod(p.shape[1:])) if p.ndim > 1 else 0.1
        put(loaded.scope, p.name, rng.normal(0, width, p.shape).astype("f4"))
    for op in loaded.program.global_block().ops:
        if op.type == "BatchNormalization":
            for slot, value in (("scale", 1), ("input_mean", 0), ("input_var", 1)):
                v = op.operand(slot)
                put(loaded.scope, v.name, np.full(v.shape, value, "f4"))


def distance(loaded, feed):
    """A loss: how far what goes into the last Softmax is from a random target, relatively."""
    (logits,) = (op.inputs[0] for op in loaded.program.global_block().ops if op.type == "Softmax")
    (now,) = loaded.run([logits], **feed)
    target = now + now.std() * np.random.default_rng(2).normal(size=now.shape)
    with go.static.program_guard(loaded.program, go.static.Program()):
        return go.mean(((logits - go.assign(target.astype("f4"))) / float(now.std())) ** 2)


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(n, marks=slow) for n in LARGE)])
def test_outputs_are_those_of_the_file(name):
    loaded, feed = network(name)
    proto = onnx.load(FOLDER / f"light_{name}.onnx")
    (found,), (wanted,) = loaded.run(**feed), on_onnxruntime(proto, **feed)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert [v.name for v in loaded.fetches] == [o.name for o in proto.graph.output]


@pytest.mark.parametrize("name", SMALL)
def test_the_gradient_is_that_of_central_differences(name):
    """Along the gradient, by steps that change the loss by 1 % or so: float32 rounds 1e-6 of it."""
    loaded, feed = network(name)
    draw(loaded)
    loss = distance(loaded, feed)
    parameters = loaded.program.all_parameters()
    gradients = go.static.gradients([loss], parameters)
    value, *found = loaded.exe.run(loaded.program, feed, [loss, *gradients], scope=loaded.scope)
    start = [held(loaded.scope, p.name) for p in parameters]
    norm = np.sqrt(sum(float((g.astype("f8") ** 2).sum()) for g in found))
    errors = []
    for change in (0.01, 0.003, 0.001):
        step, values = change * float(value) / norm, []
        for sign in (1, -1):
            for p, w, g in zip(parameters, start, found, strict=True):
                put(loaded.scope, p.name, w + np.float32(sign * step / norm) * g)
            values += loaded.exe.run(loaded.program, feed, [loss], scope=loaded.scope)
        errors.append(abs(float(values[0] - values[1]) / (2 * step) / norm - 1))
    assert min(errors) < 1e-3, errors


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "ASGD"])
def test_training(name, optimizer):
    loaded, feed = network(name)
    draw(loaded)
    loss = distance(loaded, feed)
    startup = go.static.Program()
    with go.static.program_guard(loaded.program, startup):
        made = {
            "SGD": lambda: go.optimizer.SGD(1e-3),
            "Adam": lambda: go.optimizer.Adam(1e-5),
            "ASGD": lambda: go.optimizer.ASGD(1e-3, batch_num=1),
        }[optimizer]()
        made.minimize(loss)
    loaded.exe.run(startup, scope=loaded.scope)
    losses = [float(loaded.run([loss], **feed)[0]) for _ in range(6)]
    assert all(a > b for a, b in itertools.pairwise(losses)), losses


@pytest.mark.parametrize("name", SMALL)
def test_saving(name, tmp_path):
    loaded, feed = network(name)
    draw(loaded)
    saved = loaded.save(tmp_path / "m")
    original = onnx.load(FOLDER / f"light_{name}.onnx")
    made = {name for node in original.graph.node for name in node.output if name}
    kept = {name for node in saved.graph.node for name in node.output}
    assert made <= kept | {t.name for t in saved.graph.initializer}
    again = load(tmp_path / "m.onnx")
    assert set(again.trainable) == set(loaded.trainable)
    np.testing.assert_array_equal(again.run(**feed)[0], loaded.run(**feed)[0])
