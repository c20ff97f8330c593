import numpy as np
import pytest

from graphopt.errors import ArgumentError, ShapeError
from graphopt.scoping import default_main_program, default_startup_program
from graphopt.static import nn
from tests.ops.on_onnxruntime import evaluate
from tests.tensor.recording import fed

RNG = np.random.default_rng(0)
X = RNG.normal(size=(5, 4)).astype("f4")
CUBE = RNG.normal(size=(5, 2, 3)).astype("f4")
IMAGE = RNG.normal(size=(2, 4, 5, 5)).astype("f4")


def names():
    return [p.name for p in default_main_program().all_parameters()]


def values(y, **feeds):
    """y, with parameters that are drawn, and those."""
    drawn = {
        p.name: np.abs(RNG.normal(size=p.shape)).astype(p.dtype)
        for p in default_main_program().all_parameters()
    }
    return evaluate(default_main_program(), [y], feeds | drawn)[0], drawn


def test_fc():
    y = nn.fc(fed("x", X), 3, activation="relu")
    found, p = values(y, x=X)
    assert names() == ["fc_0.w_0", "fc_0.b_0"]
    np.testing.assert_allclose(found, np.maximum(X @ p["fc_0.w_0"] + p["fc_0.b_0"], 0), rtol=1e-5)
    assert nn.fc(y, 2).shape == (5, 2)
    assert names()[2:] == ["fc_1.w_0", "fc_1.b_0"]
    assert default_startup_program().global_block().has_var("fc_1.b_0")


@pytest.mark.parametrize(
    ("dims", "rows", "shape"), [(1, 6, (5, 3)), (2, 3, (5, 2, 3)), (-1, 3, (5, 2, 3))]
)
def test_fc_flattens(dims, rows, shape):
    y = nn.fc(fed("x", CUBE), 3, num_flatten_dims=dims, bias_attr=False)
    found, p = values(y, x=CUBE)
    assert p["fc_0.w_0"].shape == (rows, 3)
    expected = CUBE.reshape(-1, rows) @ p["fc_0.w_0"]
    np.testing.assert_allclose(found, expected.reshape(shape), rtol=1e-4, atol=1e-5)


def test_fc_of_several_inputs():
    y = nn.fc([fed("x", X), fed("z", CUBE)], 2, name="joint")
    found, p = values(y, x=X, z=CUBE)
    assert names() == ["joint.w_0", "joint.w_1", "joint.b_0"]
    assert y.name == "joint"
    expected = X @ p["joint.w_0"] + CUBE.reshape(5, 6) @ p["joint.w_1"] + p["joint.b_0"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    nn.fc([y, y], 2, weight_attr=["shared", "shared"])
    assert names()[3:] == ["shared", "fc_0.b_0"]


def test_fc_errors():
    x = fed("x", X)
    with pytest.raises(ArgumentError, match="did you mean 'relu'"):
        nn.fc(x, 3, activation="rellu")
    with pytest.raises(ArgumentError, match="num_flatten_dims 2 does not fit x"):
        nn.fc(x, 3, num_flatten_dims=2)
    with pytest.raises(ShapeError, match="needs to know dim 1 of y"):
        nn.fc(fed("y", X, opened=True), 3)
    assert names() == []


def test_fc_in_float64():
    y = nn.fc(fed("x", X.astype("f8")), 3)
    assert y.dtype == np.float64


@pytest.mark.parametrize("activation", sorted(nn.ACTIVATIONS))
def test_activations(activation):
    assert nn.fc(fed("x", X), 3, activation=activation).shape == (5, 3)


def test_embedding():
    ids = np.array([[1], [2], [0]])
    y = nn.embedding(fed("ids", ids), [3, 4], padding_idx=2)
    found, p = values(y, ids=ids)
    assert names() == ["embedding_0.w_0"]
    np.testing.assert_array_equal(
        found, np.where(ids[..., None] == 2, 0, p["embedding_0.w_0"][ids])
    )


def test_convolutions():
    x = fed("x", IMAGE)
    assert nn.conv2d(x, 6, 3, padding=1, groups=2, act="tanh").shape == (2, 6, 5, 5)
    assert nn.conv2d_transpose(x, 6, filter_size=2, stride=2).shape == (2, 6, 10, 10)
    assert nn.conv2d_transpose(x, 6, output_size=11, filter_size=2, stride=2).shape[2:] == (11, 11)
    parameters = default_main_program().all_parameters()
    assert [(p.name, p.shape) for p in parameters[:4]] == [
        ("conv2d_0.w_0", (6, 2, 3, 3)),
        ("conv2d_0.b_0", (6,)),
        ("conv2d_transpose_0.w_0", (4, 6, 2, 2)),
        ("conv2d_transpose_0.b_0", (6,)),
    ]
    cube = fed("cube", IMAGE[:, :, None])
    assert nn.conv3d(cube, 6, [1, 3, 3], padding=[0, 1, 1], groups=2).shape == (2, 6, 1, 5, 5)
    assert nn.conv3d_transpose(cube, 6, filter_size=2, stride=2, act="relu").shape[2:] == (
        2,
        10,
        10,
    )
    parameters = default_main_program().all_parameters()
    assert [(p.name, p.shape) for p in parameters[-4:]] == [
        ("conv3d_0.w_0", (6, 2, 1, 3, 3)),
        ("conv3d_0.b_0", (6,)),
        ("conv3d_transpose_0.w_0", (4, 6, 2, 2, 2)),
        ("conv3d_transpose_0.b_0", (6,)),
    ]
    with pytest.raises(ArgumentError, match="needs filter_size"):
        nn.conv2d_transpose(x, 6)
    with pytest.raises(ArgumentError, match="3 groups do not divide"):
        nn.conv2d(x, 6, 3, groups=3)


def test_conv3d():
    cube = RNG.normal(size=(2, 4, 3, 3, 3)).astype("f4")
    y = nn.conv3d(fed("x", cube), 2, 3, act="tanh", name="deep")
    found, p = values(y, x=cube)
    assert names() == ["deep.w_0", "deep.b_0"]
    assert y.name == "deep"
    expected = np.einsum("ncdhw,ocdhw->no", cube, p["deep.w_0"]) + p["deep.b_0"]
    np.testing.assert_allclose(found.reshape(2, 2), np.tanh(expected), rtol=1e-4, atol=1e-5)


def normalized(x, axes):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def test_batch_norm():
    y = nn.batch_norm(fed("x", IMAGE), act="relu", moving_mean_name="mean")
    assert names() == ["batch_norm_0.w_0", "batch_norm_0.b_0", "mean", "batch_norm_0.w_1"]
    found, p = values(y, x=IMAGE)
    scale, shift = (p[f"batch_norm_0.{k}"][:, None, None] for k in ("w_0", "b_0"))
    expected = np.maximum(normalized(IMAGE, (0, 2, 3)) * scale + shift, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_at_test():
    y = nn.batch_norm(fed("x", X), is_test=True)
    found, p = values(y, x=X)
    scale, shift, mean, var = (p[f"batch_norm_0.{k}"] for k in ("w_0", "b_0", "w_1", "w_2"))
    np.testing.assert_allclose(
        found, (X - mean) / np.sqrt(var + 1e-5) * scale + shift, rtol=1e-4, atol=1e-5
    )


def test_other_norms():
    x = fed("x", IMAGE)
    y = nn.layer_norm(x, begin_norm_axis=2, shift=False, act="relu")
    z = nn.group_norm(x, 2)
    u = nn.instance_norm(x)
    assert [(p.name, p.shape) for p in default_main_program().all_parameters()] == [
        ("layer_norm_0.w_0", (25,)),
        ("group_norm_0.w_0", (4,)),
        ("group_norm_0.b_0", (4,)),
        ("instance_norm_0.w_0", (4,)),
        ("instance_norm_0.b_0", (4,)),
    ]
    found, p = values(y, x=IMAGE)
    expected = np.maximum(normalized(IMAGE, (2, 3)) * p["layer_norm_0.w_0"].reshape(5, 5), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    found, p = values(u, x=IMAGE)
    scale, shift = (p[f"instance_norm_0.{k}"][:, None, None] for k in ("w_0", "b_0"))
    np.testing.assert_allclose(
        found, normalized(IMAGE, (2, 3)) * scale + shift, rtol=1e-3, atol=1e-4
    )
    found, p = values(z, x=IMAGE)
    scale, shift = (p[f"group_norm_0.{k}"][:, None, None] for k in ("w_0", "b_0"))
    halves = normalized(IMAGE.reshape(2, 2, -1), -1).reshape(IMAGE.shape)
    np.testing.assert_allclose(found, halves * scale + shift, rtol=1e-4, atol=1e-5)


def test_norms_without_parameters():
    x = fed("x", IMAGE)
    y = nn.group_norm(x, 4, param_attr=False, bias_attr=False, act="relu")
    z = nn.layer_norm(x, scale=False, shift=False)
    u = nn.instance_norm(x, param_attr=False, bias_attr=False)
    assert names() == []
    expected = normalized(IMAGE, (2, 3))
    found = evaluate(default_main_program(), [y, z, u], {"x": IMAGE})
    np.testing.assert_allclose(found[0], np.maximum(expected, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], normalized(IMAGE, (1, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "shape"), [("all", (1,)), ("channel", (4,)), ("element", (1, 4, 5, 5))]
)
def test_prelu(mode, shape):
    y = nn.prelu(fed("x", IMAGE), mode)
    found, p = values(y, x=IMAGE)
    [alpha] = p.values()
    assert alpha.shape == shape
    alpha = alpha[:, None, None] if mode == "channel" else alpha
    np.testing.assert_allclose(found, np.where(IMAGE > 0, IMAGE, IMAGE * alpha), rtol=1e-5)


def test_prelu_mode():
    with pytest.raises(ArgumentError, match="use one of all, channel, element"):
        nn.prelu(fed("x", IMAGE), "row")
