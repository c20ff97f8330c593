import numpy as np
import pytest

from graphopt import nn
from graphopt.errors import ArgumentError
from graphopt.ir.model.variable import Constant
from graphopt.passes.gradients.backward import append_backward
from graphopt.scoping import default_main_program
from graphopt.tensor import mean
from tests.ops.on_onnxruntime import evaluate
from tests.tensor.recording import fed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 8)).astype("f4")
CAUSAL = np.tril(np.ones((5, 5), bool))


def norm(x, p, name):
    off = x - x.mean(-1, keepdims=True)
    scale, shift = p[f"{name}.weight"], p[f"{name}.bias"]
    return off / np.sqrt(off.var(-1, keepdims=True) + 1e-5) * scale + shift


def linear(x, p, name):
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def attended(x, p, mask, heads=2):
    def split(name):
        return linear(x, p, f"self_attn.{name}").reshape(2, 5, heads, -1).swapaxes(1, 2)

    q, k, v = (split(name) for name in ("q_proj", "k_proj", "v_proj"))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + np.where(mask, 0, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return linear((weights @ v).swapaxes(1, 2).reshape(x.shape), p, "self_attn.out_proj")


def mapped(x, p):
    return linear(np.maximum(linear(x, p, "linear1"), 0), p, "linear2")


def encoded(x, p, mask, normalize_before):
    if normalize_before:
        x = x + attended(norm(x, p, "norm1"), p, mask)
        return x + mapped(norm(x, p, "norm2"), p)
    x = norm(x + attended(x, p, mask), p, "norm1")
    return norm(x + mapped(x, p), p, "norm2")


def drawn(layer):
    values = {k: RNG.normal(size=p.shape).astype("f4") for k, p in layer.named_parameters()}
    return values, {p.name: values[k] for k, p in layer.named_parameters()}


@pytest.mark.parametrize("normalize_before", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_encoder_layer(normalize_before, masked):
    layer = nn.TransformerEncoderLayer(8, 2, 16, normalize_before=normalize_before)
    layer.eval()
    values, feeds = drawn(layer)
    y = layer(fed("x", X), CAUSAL if masked else None)
    [found] = evaluate(default_main_program(), [y], feeds | {"x": X})
    expected = encoded(X.astype("f8"), values, CAUSAL | (not masked), normalize_before)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("with_norm", [False, True])
def test_encoder(with_norm):
    first = nn.TransformerEncoderLayer(8, 2, 16, activation="relu")
    encoder = nn.TransformerEncoder(first, 3, nn.LayerNorm(8) if with_norm else None)
    encoder.eval()
    values, feeds = drawn(encoder)
    assert encoder.layers[0] is first
    assert len(values) == 48 + 2 * with_norm
    y = encoder(fed("x", X), CAUSAL)
    [found] = evaluate(default_main_program(), [y], feeds | {"x": X})
    expected = X.astype("f8")
    for k in range(3):
        own = {key[9:]: v for key, v in values.items() if key.startswith(f"layers.{k}.")}
        expected = encoded(expected, own, CAUSAL, normalize_before=False)
    expected = norm(expected, values, "norm") if with_norm else expected
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_every_parameter_has_a_gradient():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, activation="gelu"), 2)
    loss = mean(encoder(fed("x", X)))
    assert len(append_backward(loss)) == len(encoder.parameters()) == 32


def test_dropouts():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, attn_dropout=0.2, act_dropout=0.3)
    layer(fed("x", X))
    ops = default_main_program().global_block().ops
    ratios = [op.operand("ratio") for op in ops if op.type == "Dropout"]
    found = [r.value.item() for r in ratios if isinstance(r, Constant)]
    np.testing.assert_allclose(found, [0.2, 0.1, 0.3, 0.1], rtol=1e-6)


def test_attrs():
    layer = nn.TransformerEncoderLayer(8, 2, 16, bias_attr=[False, None])
    assert layer.self_attn.q_proj.bias is None
    assert layer.linear1.bias is not None
    alone = nn.TransformerEncoderLayer(8, 2, 16, bias_attr=False)
    assert len(alone.parameters()) == len(layer.parameters()) - 2
    assert layer.parameters()[0].name == "linear_0.w_0"
    with pytest.raises(ArgumentError, match="3 attrs are given"):
        nn.TransformerEncoderLayer(8, 2, 16, weight_attr=[None, None, None])
    with pytest.raises(ArgumentError, match="activation cannot be 'rellu'"):
        nn.TransformerEncoderLayer(8, 2, 16, activation="rellu")
