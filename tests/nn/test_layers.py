import numpy as np
import pytest

from graphopt import nn
from graphopt.errors import ArgumentError, ArgumentTypeError, DTypeError
from graphopt.ir.model.operator import Role
from graphopt.parameters import ParamAttr
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.state.scope import Scope
from graphopt.scoping import default_main_program, default_startup_program
from tests.ops.on_onnxruntime import evaluate
from tests.tensor.recording import fed

X = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")
IMAGE = np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype("f4")


def first_values(layer):
    """The parameters' values after the startup Program."""
    scope = Scope()
    exe = Executor()
    exe.run(default_startup_program(), scope=scope)
    parameters = layer.parameters()
    return dict(zip(
        [name for name, _ in layer.named_parameters()],
        exe.run(default_main_program(), fetch_list=parameters, scope=scope),
        strict=True,
    ))  # fmt: skip


NAMES = [
    (lambda: nn.Linear(2, 3), ["linear_0.w_0", "linear_0.b_0"]),
    (lambda: nn.Linear(2, 3, bias_attr=False), ["linear_0.w_0"]),
    (lambda: nn.Linear(2, 3, weight_attr="w", bias_attr=True), ["w", "linear_0.b_0"]),
    (lambda: nn.Embedding(2, 3), ["embedding_0.w_0"]),
    (lambda: nn.Conv1D(2, 3, 3), ["conv1d_0.w_0", "conv1d_0.b_0"]),
    (lambda: nn.Conv2D(2, 3, 3), ["conv2d_0.w_0", "conv2d_0.b_0"]),
    (lambda: nn.Conv3D(2, 3, 3), ["conv3d_0.w_0", "conv3d_0.b_0"]),
    (lambda: nn.Conv2DTranspose(2, 3, 3), ["conv2d_transpose_0.w_0", "conv2d_transpose_0.b_0"]),
    (
        lambda: nn.BatchNorm2D(3),
        [f"batch_norm2d_0.{k}" for k in ("w_0", "b_0", "w_1", "w_2")],
    ),
    (lambda: nn.LayerNorm(3), ["layer_norm_0.w_0", "layer_norm_0.b_0"]),
    (lambda: nn.GroupNorm(1, 3), ["group_norm_0.w_0", "group_norm_0.b_0"]),
    (lambda: nn.InstanceNorm2D(3), ["instance_norm2d_0.w_0", "instance_norm2d_0.b_0"]),
    (lambda: nn.Conv1DTranspose(2, 3, 3), ["conv1d_transpose_0.w_0", "conv1d_transpose_0.b_0"]),
    (lambda: nn.Conv3DTranspose(2, 3, 3), ["conv3d_transpose_0.w_0", "conv3d_transpose_0.b_0"]),
    (lambda: nn.RMSNorm(3), ["rms_norm_0.w_0"]),
    (lambda: nn.RMSNorm([2, 3], bias_attr=None), ["rms_norm_0.w_0", "rms_norm_0.b_0"]),
    (lambda: nn.PReLU(), ["p_re_lu_0.w_0"]),
    (lambda: nn.ReLU(), []),
]


@pytest.mark.parametrize(("make", "names"), NAMES, ids=[str(n[1][:1]) for n in NAMES])
def test_names(make, names):
    assert [p.name for p in make().parameters()] == names


def test_layers_are_numbered():
    assert nn.Linear(2, 3).weight.name == "linear_0.w_0"
    assert nn.Linear(3, 4).weight.name == "linear_1.w_0"


def test_a_shared_name_is_a_shared_parameter():
    one, two = nn.Linear(2, 3, weight_attr="w"), nn.Linear(2, 3, weight_attr=ParamAttr(name="w"))
    assert one.weight is two.weight
    assert len(nn.Sequential(one, two).parameters()) == 3


def test_first_values():
    net = nn.Sequential(
        nn.Linear(100, 60),
        nn.Conv2D(8, 30, [3, 2], groups=2),
        nn.BatchNorm1D(5),
        nn.Embedding(9, 40, -2),
    )
    values = first_values(net)
    linear = values["0.weight"]
    assert abs(linear).max() <= np.sqrt(6 / 160)
    assert linear.std() == pytest.approx(np.sqrt(2 / 160), rel=0.05)
    assert not values["0.bias"].any()
    assert values["1.weight"].shape == (30, 4, 3, 2)
    assert values["1.weight"].std() == pytest.approx(np.sqrt(2 / (8 * 6)), rel=0.1)
    assert values["2.weight"].tolist() == values["2._variance"].tolist() == [1] * 5
    assert values["2.bias"].tolist() == values["2._mean"].tolist() == [0] * 5
    assert not values["3.weight"][7].any()
    assert values["3.weight"][:7].all()


def test_running_statistics_are_not_trained():
    norm = nn.BatchNorm1D(4)
    assert [p.trainable for p in norm.parameters()] == [True, True, False, False]
    y = norm(fed("x", X))
    writes = next(op for op in y.block.ops if op.type == "BatchNormalization").outputs
    assert writes[1] is norm._mean
    assert writes[2] is norm._variance


def test_train_and_eval():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1D(4), nn.Dropout(0.5))
    x = fed("x", X)
    net(x)
    ops = default_main_program().global_block().ops
    types = [op.type for op in ops if op.role is Role.FORWARD]
    assert types == ["MatMul", "Add", "BatchNormalization", "Dropout"]
    net.eval()
    assert [layer.training for layer in net.sublayers(include_self=True)] == [False] * 4
    y = net(x)
    op = y.block.ops[-1]
    assert op.type == "BatchNormalization"
    assert not op.attrs["training_mode"]
    net.train()
    assert net(x).block.ops[-1].type == "Dropout"


def test_running_statistics_over_two_runs():
    norm = nn.BatchNorm1D(4, momentum=0.8)
    x = fed("x", X)
    y = norm(x)
    exe, scope = Executor(), Scope()
    exe.run(default_startup_program(), scope=scope)
    program = default_main_program()
    for _ in range(2):
        _, mean, var = exe.run(
            program, feed={"x": X}, fetch_list=[y, norm._mean, norm._variance], scope=scope
        )
    np.testing.assert_allclose(mean, X.mean(0) * (1 - 0.8**2), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(var, X.var(0) * (1 - 0.8**2) + 0.8**2, rtol=1e-4)
    test = program.clone(for_test=True)
    [found] = exe.run(test, feed={"x": X}, fetch_list=[y.name], scope=scope)
    np.testing.assert_allclose(found, (X - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "dims"), [
    (nn.InstanceNorm1D, 1), (nn.InstanceNorm2D, 2), (nn.InstanceNorm3D, 3),
])  # fmt: skip
def test_instance_norm(kind, dims):
    x = np.random.default_rng(2).normal(size=(2, 3, 4, 3, 2)[: dims + 2]).astype("f4")
    norm = kind(3)
    y = norm(fed("x", x))
    feeds = {p.name: np.full(3, 2.0, "f4") for p in norm.parameters()}
    axes = tuple(range(2, x.ndim))
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    [found] = evaluate(default_main_program(), [y], feeds | {"x": x})
    np.testing.assert_allclose(found, 2 * expected + 2, rtol=1e-4, atol=1e-5)
    with pytest.raises(ArgumentError, match=f"takes a {dims + 2}-D tensor"):
        norm(fed("flat", X))


def test_rms_norm():
    norm = nn.RMSNorm(4, epsilon=1e-3, bias_attr=None)
    y = norm(fed("x", X))
    feeds = {p.name: np.arange(4, dtype="f4") for p in norm.parameters()}
    expected = X / np.sqrt((X**2).mean(-1, keepdims=True) + 1e-3) * np.arange(4) + np.arange(4)
    [found] = evaluate(default_main_program(), [y], feeds | {"x": X})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert first_values(norm)["weight"].tolist() == [1] * 4
    assert repr(norm) == "RMSNorm(normalized_shape=[4], epsilon=0.001)"


def test_global_statistics():
    norm = nn.BatchNorm2D(3, use_global_stats=True)
    y = norm(fed("x", IMAGE))
    assert not y.block.ops[-1].attrs["training_mode"]


@pytest.mark.parametrize(
    "make",
    [lambda f: nn.BatchNorm2D(3, data_format=f), lambda f: nn.GroupNorm(3, 3, data_format=f)],
    ids=["BatchNorm2D", "GroupNorm"],
)
def test_channels_last_norms(make):
    feeds = {"x": IMAGE, "last": IMAGE.transpose(0, 2, 3, 1)}
    layers = make("NCHW"), make("NHWC")
    fetch = [layer(fed(name, feeds[name])) for layer, name in zip(layers, list(feeds), strict=True)]
    for p in default_main_program().all_parameters():
        feeds[p.name] = np.arange(1, 1 + p.shape[0], dtype="f4")
    first, last = evaluate(default_main_program(), fetch, feeds)
    np.testing.assert_allclose(first.transpose(0, 2, 3, 1), last, rtol=1e-5, atol=1e-5)


ACTIVATIONS = [
    nn.CELU, nn.ELU, nn.GELU, nn.GLU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh,
    nn.LeakyReLU, nn.LogSigmoid, nn.LogSoftmax, nn.Mish, nn.PReLU, nn.ReLU, nn.ReLU6, nn.SELU,
    nn.Sigmoid, nn.Silu, nn.Softmax, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Swish, nn.Tanh,
    nn.Tanhshrink, nn.ThresholdedReLU, nn.Identity, nn.Flatten,
]  # fmt: skip


@pytest.mark.parametrize("kind", ACTIVATIONS, ids=lambda k: k.__name__)
def test_activation(kind):
    y = kind()(fed("x", X))
    assert y.shape == ((6, 2) if kind is nn.GLU else (6, 4))


POOLS = [
    (nn.AdaptiveAvgPool2D(2), (2, 3, 2, 2)),
    (nn.AdaptiveMaxPool2D(3), (2, 3, 3, 3)),
    (nn.AvgPool2D(2), (2, 3, 3, 3)),
    (nn.MaxPool2D(3, stride=1), (2, 3, 4, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), POOLS, ids=lambda v: type(v).__name__)
def test_pool(layer, shape):
    assert layer(fed("x", IMAGE)).shape == shape


LINE_POOLS = [
    (nn.MaxPool1D(3), (2, 3, 2)),
    (nn.AvgPool1D(2, stride=1, padding=1), (2, 3, 7)),
    (nn.AdaptiveAvgPool1D(4), (2, 3, 4)),
    (nn.AdaptiveMaxPool1D(4), (2, 3, 4)),
]


@pytest.mark.parametrize(("layer", "shape"), LINE_POOLS, ids=lambda v: type(v).__name__)
def test_pool_of_a_line(layer, shape):
    assert layer(fed("line", IMAGE[:, :, 0])).shape == shape


SIZES = [
    (nn.Pad1D(1), IMAGE[:, :, 0], (2, 3, 8)),
    (nn.Pad1D([1, 2], mode="reflect", data_format="NLC"), IMAGE[:, :, 0], (2, 6, 6)),
    (nn.Pad2D([1, 0, 2, 0]), IMAGE, (2, 3, 8, 7)),
    (nn.Pad3D(1, mode="replicate"), IMAGE[..., None], (2, 3, 8, 8, 3)),
    (nn.Upsample(scale_factor=2), IMAGE, (2, 3, 12, 12)),
    (nn.Upsample(size=[3, 9], mode="bilinear"), IMAGE, (2, 3, 3, 9)),
]


@pytest.mark.parametrize(("layer", "x", "shape"), SIZES, ids=lambda v: type(v).__name__)
def test_paddings_and_sizes(layer, x, shape):
    assert layer(fed("x", x)).shape == shape


LOSSES = [
    nn.BCELoss, nn.BCEWithLogitsLoss, nn.KLDivLoss, nn.L1Loss, nn.MSELoss, nn.SmoothL1Loss,
]  # fmt: skip


@pytest.mark.parametrize("kind", LOSSES, ids=lambda k: k.__name__)
def test_loss(kind):
    assert kind()(fed("x", X), fed("y", X)).shape == ()


def test_margin_ranking_loss():
    x = fed("x", X)
    assert nn.MarginRankingLoss(0.5, "none")(x, x, 1.0).shape == (6, 4)


def test_losses_of_classes():
    x, y = fed("x", X), fed("y", np.zeros(6, "i8"))
    assert nn.CrossEntropyLoss(reduction="none")(x, y).shape == (6,)
    assert nn.NLLLoss()(x, y).shape == ()


def test_convolutions():
    x = fed("x", IMAGE)
    assert nn.Conv2D(3, 6, 3, stride=2, padding="SAME", groups=3)(x).shape == (2, 6, 3, 3)
    assert nn.Conv2DTranspose(3, 2, 2, stride=2)(x).shape == (2, 2, 12, 12)
    assert nn.Conv2DTranspose(3, 2, 2, stride=2)(x, output_size=13).shape == (2, 2, 13, 13)
    line = fed("line", IMAGE[:, :, 0])
    assert nn.Conv1D(3, 2, 3)(line).shape == (2, 2, 4)
    assert nn.Conv1DTranspose(3, 2, 2, stride=2, output_padding=1)(line).shape == (2, 2, 13)
    assert nn.Conv3DTranspose(3, 2, 2)(fed("cube", IMAGE[..., None])).shape == (2, 2, 7, 7, 2)
    assert nn.Conv3D(3, 2, [3, 3, 1])(fed("deep", IMAGE[..., None])).shape == (2, 2, 4, 4, 1)


def test_attention_mask_and_weights():
    layer = nn.MultiHeadAttention(4, 2, dropout=0.5, need_weights=True)
    y, weights = layer(fed("x", X.reshape(2, 3, 4)), attn_mask=np.tril(np.ones((3, 3), bool)))
    assert y.shape == (2, 3, 4)
    assert weights.shape == (2, 2, 3, 3)


def test_containers():
    net = nn.Sequential(("a", nn.Linear(4, 3)), ("act", nn.ReLU()), ("b", nn.Linear(3, 2)))
    assert [name for name, _ in net.named_parameters()] == [
        "a.weight",
        "a.bias",
        "b.weight",
        "b.bias",
    ]
    assert net["a"] is net[0]
    assert (len(net), [type(v).__name__ for v in net]) == (3, ["Linear", "ReLU", "Linear"])
    assert net(fed("x", X)).shape == (6, 2)
    layers = nn.LayerList([nn.ReLU()]).append(nn.Tanh())
    assert [type(v) for v in layers] == [nn.ReLU, nn.Tanh]
    assert layers[1] is [*layers][1]
    assert [*net.children()] == [*net]


class Residual(nn.Layer):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.gain = self.create_parameter([1])

    def forward(self, x):
        return x + self.gain * self.inner(x)


def test_a_layer_of_ones_own():
    layer = Residual()
    assert [name for name, _ in layer.named_parameters("net")] == [
        "net.gain", "net.inner.weight", "net.inner.bias",
    ]  # fmt: skip
    assert layer.parameters()[0].name == "residual_0.w_0"
    assert layer.parameters(include_sublayers=False) == [layer.gain]
    assert layer(fed("x", X)).shape == (6, 4)
    with pytest.raises(NotImplementedError, match="Layer has no forward"):
        nn.Layer()(1)


def test_repr():
    assert repr(nn.Linear(4, 2)) == "Linear(in_features=4, out_features=2)"
    assert repr(nn.Conv2D(3, 6, 3, stride=2)) == "Conv2D(3, 6, kernel_size=[3, 3], stride=2)"
    assert repr(nn.LeakyReLU(0.2)) == "LeakyReLU(negative_slope=0.2)"
    assert repr(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh()))) == (
        "Sequential(\n  (0): ReLU()\n  (1): Sequential(\n    (0): Tanh()\n  )\n)"
    )
    others = [
        nn.Dropout(0.1), nn.Embedding(3, 2, 1), nn.BatchNorm1D(2), nn.LayerNorm([2, 3]),
        nn.GroupNorm(1, 2), nn.InstanceNorm2D(2), nn.MultiHeadAttention(4, 2),
    ]  # fmt: skip
    for layer in others:
        assert repr(layer).startswith(type(layer).__name__ + "(")


def test_errors():
    with pytest.raises(ArgumentError, match="padding_idx 9 is not a row"):
        nn.Embedding(3, 2, padding_idx=9)
    with pytest.raises(ArgumentError, match="cannot be False"):
        nn.Linear(2, 3, weight_attr=False)
    with pytest.raises(ArgumentTypeError, match="attr is a ParamAttr"):
        nn.Linear(2, 3, weight_attr=3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="2 groups do not divide 3 and 4 channels"):
        nn.Conv2D(3, 4, 3, groups=2)
    with pytest.raises(ArgumentError, match="padding_mode 'reflect' is not provided"):
        nn.Conv2D(3, 4, 3, padding_mode="reflect")
    for groups in (2, 0):
        with pytest.raises(ArgumentError, match=f"{groups} groups do not divide 3 channels"):
            nn.GroupNorm(groups, 3)
    with pytest.raises(ArgumentTypeError, match="num_groups must be an int"):
        nn.GroupNorm(1.5, 3)  # type: ignore[arg-type]
    for heads in (3, 0):
        with pytest.raises(ArgumentError, match=f"{heads} heads do not divide 4"):
            nn.MultiHeadAttention(4, heads)
    with pytest.raises(ArgumentError, match="BatchNorm2D takes a 4-D tensor"):
        nn.BatchNorm2D(4)(fed("x", X))
    with pytest.raises(DTypeError, match="i32 or i64 ids"):
        nn.Embedding(3, 2)(fed("y", X))


def test_shop_window():
    assert nn.initializer.Constant(1.0).value == 1.0
    assert nn.ClipGradByNorm(1.0).clip_norm == 1.0
    assert all(hasattr(nn, name) for name in nn.__all__)
    assert all(hasattr(nn.functional, name) for name in nn.functional.__all__)
