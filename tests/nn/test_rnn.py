import numpy as np
import pytest

from graphopt import nn
from graphopt.errors import ArgumentError
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.state.scope import Scope
from graphopt.scoping import default_main_program, default_startup_program
from tests.ops.on_onnxruntime import evaluate
from tests.ops.test_gradients import check
from tests.tensor.recording import fed

RNG = np.random.default_rng(0)
N, T, D, H = 3, 4, 5, 2
X = RNG.normal(size=(N, T, D)).astype("f4")
LENGTHS = np.array([4, 1, 3])
KINDS = [nn.SimpleRNN, nn.LSTM, nn.GRU]
CELLS = [nn.SimpleRNNCell, nn.LSTMCell, nn.GRUCell]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(kind, p, x, states):
    """One step of a cell, as Paddle documents it."""
    a, b = x @ p["weight_ih"].T + p["bias_ih"], states[0] @ p["weight_hh"].T + p["bias_hh"]
    if "LSTM" in kind:
        i, f, g, o = np.split(a + b, 4, -1)
        c = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if "GRU" in kind:
        (xr, xz, xc), (hr, hz, hc) = np.split(a, 3, -1), np.split(b, 3, -1)
        r, z = sigmoid(xr + hr), sigmoid(xz + hz)
        return (z * states[0] + (1 - z) * np.tanh(xc + r * hc),)
    return (np.tanh(a + b),)


def one_way(kind, p, x, states, lengths, backwards):
    """Every sample by itself, only over the steps that it has."""
    y = np.zeros((*x.shape[:2], H))
    ends = [s.copy() for s in states]
    for n, length in enumerate(lengths):
        now = tuple(s[n] for s in states)
        for t in reversed(range(length)) if backwards else range(length):
            now = step(kind, p, x[n, t], now)
            y[n, t] = now[0]
        for end, value in zip(ends, now, strict=True):
            end[n] = value
    return y, ends


def reference(kind, parameters, x, layers, directions, initial=None, lengths=(T,) * N):
    count = 2 if kind == "LSTM" else 1
    x, ends = x.astype("f8"), []
    if initial is None:
        initial = [np.zeros((layers * directions, N, H))] * count
    for layer in range(layers):
        found = []
        for d, suffix in enumerate(("", "_reverse")[:directions]):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            p = {k: parameters[f"{k}_l{layer}{suffix}"] for k in names}
            states = [s[layer * directions + d].astype("f8") for s in initial]
            y, end = one_way(kind, p, x, states, lengths, d == 1)
            found.append(y)
            ends.append(end)
        x = np.concatenate(found, -1)
    return [x, *(np.stack(v) for v in zip(*ends, strict=True))]


def drawn(layer):
    """Random values for the parameters, by path, and the feeds that give them."""
    values = {k: RNG.normal(size=p.shape).astype("f4") for k, p in layer.named_parameters()}
    return values, {p.name: values[k] for k, p in layer.named_parameters()}


def flat(result):
    y, states = result
    return [y, *states] if isinstance(states, tuple) else [y, states]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize(("layers", "direction"), [(1, "forward"), (2, "forward"), (2, "bidirect")])
@pytest.mark.parametrize("opened", [False, True])
def test_same_as_step_by_step(kind, layers, direction, opened):
    layer = kind(D, H, layers, direction)
    values, feeds = drawn(layer)
    found = flat(layer(fed("x", X, opened=(0,) if opened else False)))
    expected = reference(kind.__name__, values, X, layers, layer.directions)
    got = evaluate(default_main_program(), found, feeds | {"x": X})
    for a, v, b in zip(got, found, expected, strict=True):
        assert all(d in (-1, e) for d, e in zip(v.shape, a.shape, strict=True))
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_states_and_lengths(kind):
    layer = kind(D, H, 2, "bidirectional", time_major=True)
    values, feeds = drawn(layer)
    count = 2 if kind is nn.LSTM else 1
    initial = [RNG.normal(size=(4, N, H)).astype("f4") for _ in range(count)]
    feeds |= {f"s{k}": v for k, v in enumerate(initial)}
    feeds |= {"x": X.swapaxes(0, 1), "lengths": LENGTHS}
    states = [fed(f"s{k}", v) for k, v in enumerate(initial)]
    x, lengths = fed("x", feeds["x"]), fed("lengths", LENGTHS)
    found = flat(layer(x, states if count == 2 else states[0], lengths))
    expected = reference(kind.__name__, values, X, 2, 2, initial, LENGTHS)
    expected[0] = expected[0].swapaxes(0, 1)
    for a, b in zip(evaluate(default_main_program(), found, feeds), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CELLS, ids=lambda k: k.__name__)
def test_cell(kind):
    cell = kind(D, H)
    values, feeds = drawn(cell)
    x = fed("x", X[:, 0])
    y, states = cell(x)
    again = flat(cell(x, states))
    zeros = [np.zeros((N, H))] * cell.STATES
    once = step(kind.__name__, values, X[:, 0], zeros)
    twice = step(kind.__name__, values, X[:, 0], once)
    found = evaluate(default_main_program(), [y, *again], feeds | {"x": X[:, 0]})
    for a, b in zip(found, [once[0], twice[0], *twice], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    with pytest.raises(ArgumentError, match=f"{kind.__name__} takes a 2-D tensor"):
        cell(fed("steps", X))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["all", "lengths"])
def test_gradients(kind, lengths):
    layer = kind(D, H, 2, "bidirect")
    layer_feeds = {p.name: RNG.normal(size=p.shape) for p in layer.parameters()}
    for p in layer.parameters():  # central differences need float64
        p.tensor_type = type(p.tensor_type)(np.dtype("f8"), p.tensor_type.shape)
    x = fed("x", X.astype("f8"))
    results = flat(layer(x, sequence_length=lengths))
    program = default_main_program()
    g = program.recorder()
    parts = [g.ReduceSum(g.Mul(r, g.const(RNG.normal(size=r.shape))), keepdims=0) for r in results]
    wrt = [x, *layer.parameters()]
    feeds = {"x": X.astype("f8"), **layer_feeds}
    assert len(check(program, g.Sum(*parts), wrt, feeds, RNG)) == len(wrt)


def test_names_and_shapes():
    layer = nn.LSTM(D, H, 2, "bidirect", bias_hh_attr=False)
    shapes = {name: p.shape for name, p in layer.named_parameters()}
    assert shapes == {
        "weight_ih_l0": (8, 5), "weight_hh_l0": (8, 2), "bias_ih_l0": (8,),
        "weight_ih_l0_reverse": (8, 5), "weight_hh_l0_reverse": (8, 2), "bias_ih_l0_reverse": (8,),
        "weight_ih_l1": (8, 4), "weight_hh_l1": (8, 2), "bias_ih_l1": (8,),
        "weight_ih_l1_reverse": (8, 4), "weight_hh_l1_reverse": (8, 2), "bias_ih_l1_reverse": (8,),
    }  # fmt: skip
    names = [p.name for p in layer.parameters()]
    assert names[:4] == ["lstm_cell_0.w_0", "lstm_cell_0.w_1", "lstm_cell_0.b_0", "lstm_cell_1.w_0"]
    assert repr(layer) == "LSTM(5, 2, num_layers=2)"
    assert repr(nn.GRUCell(5, 2)) == "GRUCell(5, 2)"


def test_first_values():
    layer = nn.GRU(30, 16)
    scope = Scope()
    Executor().run(default_startup_program(), scope=scope)
    for value in layer.state_dict(scope).values():
        assert 0.2 < abs(value).max() <= 0.25


def test_relu_and_dropout():
    layer = nn.SimpleRNN(D, H, 2, dropout=0.5, activation="relu")
    layer(fed("x", X))
    types = [op.type for op in default_main_program().global_block().ops]
    assert types.count("Relu") == 2 * T
    assert types.count("Dropout") == 1
    layer.eval()
    layer(fed("y", X))
    assert [op.type for op in default_main_program().global_block().ops].count("Dropout") == 1


def test_errors():
    with pytest.raises(ArgumentError, match="needs a known number of time steps"):
        nn.LSTM(D, H)(fed("x", X, opened=True))
    with pytest.raises(ArgumentError, match="direction cannot be 'backward'"):
        nn.LSTM(D, H, direction="backward")
    with pytest.raises(ArgumentError, match="activation cannot be 'elu'"):
        nn.SimpleRNN(D, H, activation="elu")
    with pytest.raises(ArgumentError, match="hidden_size must be positive"):
        nn.GRUCell(D, 0)
    with pytest.raises(ArgumentError, match="weight_hh_attr cannot be False"):
        nn.GRUCell(D, H, weight_hh_attr=False)
