"""Each form alone, and training steps whose convolutions stay in blocks against plain ones."""

import numpy as np
import pytest

import graphopt as go
from graphopt.ops.kernels.blocked import Blocks
from graphopt.ops.registry.formulations import AS_IS
from graphopt.passes.engine.dead import DeadCode
from graphopt.passes.kernels.scale_filters import ScaleFilters
from graphopt.passes.kernels.stay_blocked import StayBlocked
from graphopt.passes.pipelines import WITHOUT
from graphopt.runtime.ort.channel_blocks import block_size
from graphopt.runtime.ort.providers.cpu import CPUPlace
from graphopt.runtime.plan import plan
from tests.helpers import held
from tests.passes.both_runtimes import as_step, lines

F = go.nn.functional
DECLARED = """
feed a : f32[2, 16, 3, 3]
feed b : f32[2, 16, 3, 3]
feed s : f32[16, 1, 1, 1]
feed u : f32[2, 5, 3, 3]
feed v : f32[2, 4, 3, 3]
feed w : f32[5, 4, 1, 1]
feed c : f32[5]
p : f32[2, 16, 3, 3] = com.microsoft.nchwc::ReorderOutput(a, channels=16)
q : f32[2, 16, 3, 3] = com.microsoft.nchwc::ReorderOutput(b, channels=16)
"""
GRADIENT = "strides=[1, 1], dilations=[1, 1], pads=[0, 0, 0, 0]"
SPREAD = "cs : f32[5, 1, 1] = Unsqueeze(c, [1, 2])\nd : f32[2, 5, 3, 3] = Mul(u, cs)\n"
CASES = {
    "there and back": (
        "x : f32[2, 16, 3, 3] = com.microsoft.nchwc::ReorderInput(p)\n"
        "y : f32[2, 16, 3, 3] = Exp(x)",
        "y : f32[2, 16, 3, 3] = Exp(a)",
    ),
    "two operands": (
        "y : f32[2, 16, 3, 3] = Mul(p, q)",
        "mul_0 : f32[2, 16, 3, 3] = Mul(a, b)\n"
        "y : f32[2, 16, 3, 3] = com.microsoft.nchwc::ReorderOutput(mul_0, channels=16)",
    ),
    "a number": (
        "y : f32[2, 16, 3, 3] = Add(p, 2.0)",
        "add_0 : f32[2, 16, 3, 3] = Add(a, 2.0)\n"
        "y : f32[2, 16, 3, 3] = com.microsoft.nchwc::ReorderOutput(add_0, channels=16)",
    ),
    "one operand in blocks": ("y : f32[2, 16, 3, 3] = Mul(p, b)", None),
    "a number that has a longer shape": ("y : f32[1, 2, 16, 3, 3] = Mul(p, [[[[[2.0]]]]])", None),
    "relu of a convolution": (
        "n : f32[2, 16, 3, 3] = com.microsoft.nchwc::Conv(a, s, group=16)\n"
        "m : f32[2, 16, 3, 3] = com.microsoft.nchwc::ReorderOutput(n, channels=16)\n"
        "y : f32[2, 16, 3, 3] = Relu(m)",
        'conv_0 : f32[2, 16, 3, 3] = com.microsoft.nchwc::Conv(a, s, '
        'activation="Relu", group=16)\n'
        "y : f32[2, 16, 3, 3] = com.microsoft.nchwc::ReorderOutput(conv_0, "
        "channels=16)",
    ),
    "mean of channels": (
        "y : f32[2, 16] = ReduceMean(p, [2, 3], keepdims=0)",
        "globalaveragepool_0 : f32[2, 16, 1, 1] = "
        "com.microsoft.nchwc::GlobalAveragePool(a)\n"
        "y : f32[2, 16] = Reshape(globalaveragepool_0, [2, 16])",
    ),
    "mask of a result of relu": (
        "r : f32[2, 16, 3, 3] = Relu(p)\n"
        "g : bool[2, 16, 3, 3] = Greater(r, 0.0)\n"
        "y : f32[2, 16, 3, 3] = Cast(g, to=f32)",
        "relu_0 : f32[2, 16, 3, 3] = Relu(a)\n"
        "hardsigmoid_0 : f32[2, 16, 3, 3] = HardSigmoid(relu_0, beta=0.0, alpha=3.4028235e+38)\n"
        "y : f32[2, 16, 3, 3] = com.microsoft.nchwc::ReorderOutput(hardsigmoid_0, channels=16)",
    ),
    "mask of anything": (
        "g : bool[2, 16, 3, 3] = Greater(p, 0.0)\ny : f32[2, 16, 3, 3] = Cast(g, to=f32)",
        None,
    ),
    "scaled dX": (
        f"{SPREAD}y : f32[2, 4, 3, 3] = ConvInputGradient(d, w, v, {GRADIENT})",
        "reshape_0 : f32[5, 1, 1, 1] = Reshape(c, [-1, 1, 1, 1])\n"
        "mul_0 : f32[5, 4, 1, 1] = Mul(w, reshape_0)\n"
        f"y : f32[2, 4, 3, 3] = ConvInputGradient(u, mul_0, v, {GRADIENT})",
    ),
    "scaled dW": (
        f"{SPREAD}y : f32[5, 4, 1, 1] = ConvFilterGradient(v, d, w, {GRADIENT})",
        "reshape_0 : f32[5, 1, 1, 1] = Reshape(c, [-1, 1, 1, 1])\n"
        "convfiltergradient_0 : f32[5, 4, 1, 1] = ConvFilterGradient(v, u, w, "
        f"{GRADIENT})\n"
        "y : f32[5, 4, 1, 1] = Mul(convfiltergradient_0, reshape_0)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_form(name):
    ops, expected = CASES[name]
    step = as_step(DECLARED + ops, "y")
    changed = step
    for change in (ScaleFilters(), StayBlocked(), DeadCode()):
        changed = change.run(changed)
    untouched = DeadCode().run(step)
    assert lines(changed) == (lines(untouched) if expected is None else expected.split("\n"))


def network(x, width):
    """A residual block that halves height and width, and one that does not."""

    def normed(x, channels, size, stride=1):
        y = F.conv2d(x, go.create_parameter([channels, x.shape[1], size, size], "float32"),
                     None, stride, size // 2)  # fmt: skip
        return go.nn.BatchNorm2D(channels)(y)

    x = F.relu(normed(x, width, 3))
    y = normed(F.relu(normed(x, 2 * width, 3, 2)), 2 * width, 3)
    x = F.relu(y + normed(x, 2 * width, 1, 2))
    x = F.relu(x + normed(x, 2 * width, 3))
    return go.nn.Linear(2 * width, 5)(go.mean(x, axis=[2, 3]))


def trained(width, steps=6):
    """The losses of a few steps, and the state behind them."""
    go.seed(3)
    main, startup, scope = go.static.Program(), go.static.Program(), go.static.Scope()
    with go.static.program_guard(main, startup):
        x = go.static.data("x", [16, 3, 10, 8])
        y = go.static.data("y", [16], "int64")
        loss = F.cross_entropy(network(x, width), y)
        go.optimizer.Momentum(0.05, 0.9).minimize(loss)
    rng = np.random.default_rng(0)
    feeds = [
        {"x": rng.normal(size=(16, 3, 10, 8)).astype("f4"), "y": rng.integers(0, 5, 16)}
        for _ in range(steps)
    ]
    with go.static.scope_guard(scope):
        exe = go.static.Executor()
        exe.run(startup)
        losses = [exe.run(main, feed=feed, fetch_list=[loss])[0] for feed in feeds]
    state = {v.name: held(scope, v.name) for v in main.list_vars() if v.persistable}
    return np.array(losses), state


@pytest.mark.parametrize("width", [16, 4])
def test_steps_equal_the_plain_ones(width, monkeypatch):
    if not block_size(CPUPlace()):
        pytest.skip("this processor's kernels have no blocks")
    for type in AS_IS:  # whatever can be is in blocks
        monkeypatch.setitem(AS_IS, type, lambda *_: float("inf"))
    means, averaged = [], Blocks.means

    def noted(b, x):
        means.append(x)
        return averaged(b, x)

    monkeypatch.setattr(Blocks, "means", noted)
    losses, state = trained(width)
    assert bool(means) == (width == 16)
    monkeypatch.setattr(plan, "block_size", lambda place: 0)
    monkeypatch.setenv(WITHOUT, "ScaleFilters StayBlocked Fuse Simplify")
    plain_losses, plain = trained(width)
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-5)
    assert plain_losses[0] != plain_losses[-1]
    assert state.keys() == plain.keys()
    for name, value in plain.items():
        scale = np.abs(value).max() or 1.0
        np.testing.assert_allclose(state[name] / scale, value / scale, atol=2e-4, err_msg=name)
