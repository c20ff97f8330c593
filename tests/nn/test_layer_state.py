import numpy as np
import pytest

from graphopt import nn
from graphopt.errors import ArgumentError, ArgumentTypeError, StateError, UninitializedError
from graphopt.ir.model.variable import Variable
from graphopt.parameters import create_global_var
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.state.scope import Scope, scope_guard
from graphopt.scoping import default_main_program, default_startup_program
from tests.tensor.recording import fed

X = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")


def net():
    return nn.Sequential(("first", nn.Linear(4, 3)), ("norm", nn.BatchNorm1D(3)))


def started():
    scope = Scope()
    Executor().run(default_startup_program(), scope=scope)
    return scope


def test_state_dict():
    layer = net()
    y = layer(fed("x", X))
    scope = started()
    state = layer.state_dict(scope)
    assert list(state) == [
        "first.weight", "first.bias", "norm.weight", "norm.bias", "norm._mean", "norm._variance",
    ]  # fmt: skip
    assert state["norm._variance"].tolist() == [1, 1, 1]
    Executor().run(default_main_program(), feed={"x": X}, fetch_list=[y], scope=scope)
    assert state["norm._variance"].tolist() == [1, 1, 1]  # a copy
    after = layer.state_dict(scope)
    assert after["norm._variance"].tolist() != [1, 1, 1]
    missing, unexpected = layer.set_state_dict(state, scope)
    assert (missing, unexpected) == ([], [])
    assert layer.state_dict(scope)["norm._variance"].tolist() == [1, 1, 1]


def test_state_moves_between_layers():
    one, two = net(), net()
    scope = started()
    two.set_state_dict(one.state_dict(scope), scope)
    for a, b in zip(one.state_dict(scope).values(), two.state_dict(scope).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_global_scope():
    layer = nn.Linear(4, 3)
    with scope_guard(Scope()):
        with pytest.raises(UninitializedError, match=r"linear_0.w_0, linear_0.b_0 have no value"):
            layer.state_dict()
        Executor().run(default_startup_program())
        layer.load_dict({"bias": np.ones(3, "f4")})
        assert layer.state_dict()["bias"].tolist() == [1, 1, 1]


def test_missing_and_unexpected():
    layer, scope = nn.Linear(4, 3), started()
    bias = np.ones(3, "f4")
    before = layer.state_dict(scope)["weight"]
    assert layer.set_state_dict({"bias": bias, "other": bias}, scope) == (["weight"], ["other"])
    np.testing.assert_array_equal(layer.state_dict(scope)["weight"], before)


def test_all_or_nothing():
    layer = nn.Linear(4, 3)
    scope = started()
    before = layer.state_dict(scope)
    for wrong in (np.zeros((3, 4), "f4"), np.zeros((4, 3), "f8")):
        with pytest.raises(StateError, match=r"declared f32\[4, 3\]"):
            layer.set_state_dict({"bias": np.ones(3, "f4"), "weight": wrong}, scope)
    assert layer.state_dict(scope)["bias"].tolist() == before["bias"].tolist()
    with pytest.raises(ArgumentTypeError, match="a dict is wanted, not a list"):
        layer.set_state_dict([])  # type: ignore[arg-type]


class Shifted(nn.Layer):
    shift: Variable

    def __init__(self):
        super().__init__()
        self.register_buffer("shift", np.arange(4, dtype="f4"))
        self.register_buffer("scratch", create_global_var([2], 0.0, "float32"), persistable=False)
        self.register_buffer("nothing", None)
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x) + self.shift


def test_buffers():
    layer = nn.Sequential(Shifted())
    assert [name for name, _ in layer.named_buffers()] == ["0.shift", "0.scratch"]
    assert [b.name for b in layer.buffers()] == ["shifted_0.shift_0", "global_var_0"]
    assert layer.buffers(include_sublayers=False) == []
    assert [name for name, _ in layer.named_parameters()] == ["0.inner.weight", "0.inner.bias"]
    y = layer(fed("x", X))
    scope = started()
    state = layer.state_dict(scope)
    assert list(state) == ["0.inner.weight", "0.inner.bias", "0.shift"]
    assert state["0.shift"].tolist() == [0, 1, 2, 3]
    layer.set_state_dict({"0.shift": np.zeros(4, "f4")}, scope)
    [found] = Executor().run(default_main_program(), {"x": X}, fetch_list=[y], scope=scope)
    np.testing.assert_allclose(
        found, X @ state["0.inner.weight"] + state["0.inner.bias"], rtol=1e-4, atol=1e-5
    )


def test_members():
    layer = nn.Layer()
    inner = layer.add_sublayer("inner", nn.Linear(2, 2))
    gain = layer.add_parameter("gain", layer.create_parameter([2]))
    assert layer.add_parameter("off", None) is None
    assert [name for name, _ in layer.named_sublayers()] == ["inner"]
    assert [name for name, _ in layer.named_parameters()] == ["gain", "inner.weight", "inner.bias"]
    assert layer.parameters()[0] is gain
    assert [*layer.children()] == [inner]
    for name in ("", "a.b", "forward"):
        with pytest.raises(ArgumentError, match="cannot be named"):
            layer.add_sublayer(name, inner)
    with pytest.raises(ArgumentTypeError, match="a name and a Parameter are wanted"):
        layer.add_parameter("wrong", inner)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="x does not keep its value"):
        layer.register_buffer("x", fed("x", X))


def test_apply():
    names = []
    layer = net()
    assert layer.apply(lambda v: names.append(type(v).__name__)) is layer
    assert names == ["Linear", "BatchNorm1D", "Sequential"]


def test_lists():
    layers = nn.LayerList([nn.ReLU()]).extend([nn.Tanh(), nn.ELU()])
    layers.insert(1, nn.Linear(2, 2))
    layers[0] = nn.Sigmoid()
    assert [type(v).__name__ for v in layers] == ["Sigmoid", "Linear", "Tanh", "ELU"]
    assert [name for name, _ in layers.named_parameters()] == ["1.weight", "1.bias"]
    net = nn.Sequential(nn.ReLU())
    tanh = net.add_sublayer("last", nn.Tanh())
    assert net["last"] is net[1] is tanh

    class Scales(nn.Layer):
        def __init__(self):
            super().__init__()
            made = [self.create_parameter([k]) for k in (1, 2)]
            self.scales = nn.ParameterList([p for p in made if p is not None])

    scales = Scales().scales
    assert [name for name, _ in Scales().named_parameters()] == ["scales.0", "scales.1"]
    assert [p.shape for p in scales] == [(1,), (2,)]
    assert scales[1] is [*scales][1]
    assert len(scales.append(scales[0])) == 3
    assert len(scales.parameters()) == 2


def test_repr():
    inner = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU()))
    assert repr(inner) == (
        "Sequential(\n"
        "  (0): Linear(in_features=2, out_features=3)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "  )\n"
        ")"
    )
    lines = repr(nn.MultiHeadAttention(4, 2)).split("\n")
    assert lines[:2] == ["MultiHeadAttention(", "  4, num_heads=2"]
    assert len(lines) == 7
