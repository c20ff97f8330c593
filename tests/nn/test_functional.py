import math

import numpy as np
import pytest

from graphopt.errors import ArgumentError, DTypeError, ShapeError
from graphopt.ir.model.program import Program
from graphopt.nn import functional as F  # noqa: N812 - Paddle's habit
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.state.scope import Scope
from graphopt.scoping import default_main_program, program_guard
from tests.tensor.recording import both, fed, run

X = np.array([[0.3, -1.2, 0.0, 25.0], [2.5, -0.4, 0.9, -30.0]], "f4")
ERF = np.vectorize(math.erf)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype("f8")))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


SAME = [
    ("celu", lambda x: F.celu(x, 2.0), np.where(X > 0, X, 2 * np.expm1(X / 2))),
    ("elu", lambda x: F.elu(x, 0.5), np.where(X > 0, X, 0.5 * np.expm1(X))),
    ("gelu", F.gelu, X * (1 + ERF(X / math.sqrt(2))) / 2),
    ("glu", F.glu, X[:, :2] * sigmoid(X[:, 2:])),
    ("hardshrink", F.hardshrink, np.where(abs(X) > 0.5, X, 0)),
    ("hardsigmoid", F.hardsigmoid, np.clip(X / 6 + 0.5, 0, 1)),
    ("hardswish", F.hardswish, X * np.clip(X / 6 + 0.5, 0, 1)),
    ("hardtanh", lambda x: F.hardtanh(x, -1.0, 2.0), np.clip(X, -1, 2)),
    ("leaky_relu", F.leaky_relu, np.where(X > 0, X, 0.01 * X)),
    ("log_sigmoid", F.log_sigmoid, np.log(sigmoid(X))),
    ("log_softmax", F.log_softmax, np.log(softmax(X.astype("f8")))),
    ("mish", F.mish, X * np.tanh(np.logaddexp(0, X))),
    ("relu", F.relu, np.maximum(X, 0)),
    ("relu6", F.relu6, np.clip(X, 0, 6)),
    ("selu", F.selu, 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * np.expm1(X))),
    ("sigmoid", F.sigmoid, sigmoid(X)),
    ("silu", F.silu, X * sigmoid(X)),
    ("softmax", lambda x: F.softmax(x, 0), softmax(X, 0)),
    ("softmax f64", lambda x: F.softmax(x, dtype="float64"), softmax(X.astype("f8"))),
    ("softplus", F.softplus, np.logaddexp(0, X)),
    (
        "softplus beta",
        lambda x: F.softplus(x, 2.0, 1.0),
        np.where(2 * X > 1, X, np.logaddexp(0, 2 * X) / 2),
    ),
    ("softshrink", F.softshrink, np.sign(X) * np.maximum(abs(X) - 0.5, 0)),
    ("softsign", F.softsign, X / (1 + abs(X))),
    ("swish", F.swish, X * sigmoid(X)),
    ("tanh", F.tanh, np.tanh(X)),
    ("tanhshrink", F.tanhshrink, X - np.tanh(X)),
    ("thresholded_relu", lambda x: F.thresholded_relu(x, 0.5, -1.0), np.where(X > 0.5, X, -1)),
    ("normalize", lambda x: F.normalize(x, p=1), X / abs(X).sum(1, keepdims=True)),
    ("linear", lambda x: F.linear(x, np.ones((4, 2), "f4"), 1.0), X @ np.ones((4, 2)) + 1),
    ("cosine", lambda x: F.cosine_similarity(x, -x), [-1, -1]),
    ("label_smooth", lambda x: F.label_smooth(x, epsilon=0.2), 0.8 * X + 0.05),
]


@pytest.mark.parametrize(("function", "expected"), [r[1:] for r in SAME], ids=[r[0] for r in SAME])
def test_same_as_numpy(function, expected):
    np.testing.assert_allclose(run(function, X), expected, rtol=1e-5, atol=1e-6)


def test_prelu():
    x, w = np.arange(-6, 6, dtype="f4").reshape(1, 2, 3, 2), np.array([0.5, 2.0], "f4")
    expected = np.where(x > 0, x, x * w[:, None, None])
    np.testing.assert_allclose(both(F.prelu, x, w), expected)
    last = both(lambda x, w: F.prelu(x, w, data_format="NHWC"), x, w)
    np.testing.assert_allclose(last, np.where(x > 0, x, x * w))


def test_glu_needs_an_even_dim():
    with pytest.raises(ArgumentError, match="cannot be halved"):
        F.glu(fed("x", X[:, :3]))


def test_softshrink_threshold():
    with pytest.raises(ArgumentError, match="threshold cannot be -1"):
        F.softshrink(fed("x", X), -1)


def test_embedding():
    ids, w = np.array([[0, 2], [2, 1]]), np.arange(9, dtype="f4").reshape(3, 3)
    np.testing.assert_array_equal(both(F.embedding, ids, w), w[ids])
    found = run(lambda i, w: F.embedding(i, w, padding_idx=-1), ids, w)
    np.testing.assert_array_equal(found, np.where(ids[..., None] == 2, 0, w[ids]))


@pytest.mark.parametrize("bad", [-1, 3])
def test_embedding_refuses_ids_that_are_no_rows(bad):
    with pytest.raises(Exception, match="indices element out of data bounds"):
        run(F.embedding, np.array([0, bad]), np.zeros((3, 2), "f4"))


def test_embedding_errors():
    w = fed("w", np.zeros((3, 2), "f4"))
    with pytest.raises(DTypeError, match="i32 or i64 ids"):
        F.embedding(fed("x", X), w)
    with pytest.raises(ArgumentError, match="padding_idx 3 is not a row"):
        F.embedding(fed("i", np.zeros(2, "i8")), w, padding_idx=3)


def test_one_hot():
    ids = np.array([[0], [2]], "i4")
    np.testing.assert_array_equal(both(lambda i: F.one_hot(i, 3), ids), np.eye(3)[ids])


def run_once(function, *arrays):
    """What ``function`` gives in a run of an Executor, which makes random ops streams."""
    with program_guard(Program(), Program()):
        variables = [fed(f"v{k}", a) for k, a in enumerate(arrays)]
        result = function(*variables)
        feeds = {v.name: a for v, a in zip(variables, arrays, strict=True)}
        main = default_main_program()
        return Executor().run(main, feeds, [result], scope=Scope())[0]


def test_dropout_in_training():
    x = np.ones((64, 64), "f4")
    y = run_once(lambda x: F.dropout(x, 0.25), x)
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.1
    down = run_once(lambda x: F.dropout(x, 0.25, mode="downscale_in_infer"), x)
    np.testing.assert_allclose(np.unique(down), [0, 1], rtol=1e-6)
    rows = run_once(lambda x: F.dropout(x, 0.5, axis=0), x)
    assert (rows == rows[:, :1]).all()
    assert 0 < (rows == 0).mean() < 1
    assert (run(lambda x: F.dropout(x, 1.0), x) == 0).all()


def test_dropout_of_nothing_records_nothing():
    x = fed("x", X)
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 0.0, axis=0) is x


def test_dropout_in_inference():
    x = fed("x", X)
    assert F.dropout(x, 0.5, training=False) is x
    down = run(lambda x: F.dropout(x, 0.25, training=False, mode="downscale_in_infer"), X)
    np.testing.assert_allclose(down, X * 0.75)


def test_dropout_of_a_test_clone():
    x = fed("x", X)
    y = F.dropout(x, 0.25, mode="downscale_in_infer")
    test = default_main_program().clone(for_test=True)
    dropout = next(op for op in test.global_block().ops if op.type == "Dropout")
    assert dropout.inputs[2] is not None
    assert test.global_block().has_var(y.name)


def test_dropout_errors():
    x = fed("x", X)
    with pytest.raises(ArgumentError, match=r"p must be in \[0, 1\]"):
        F.dropout(x, 1.5)
    with pytest.raises(ArgumentError, match="use one of upscale_in_train, downscale_in_infer"):
        F.dropout(x, mode="other")


def test_dropouts_have_seeds_of_their_own():
    default_main_program().random_seed = 7
    x = fed("x", X)
    F.dropout(F.dropout(x))
    seeds = [op.attrs["seed"] for op in x.block.ops if op.type == "Dropout"]
    assert len(set(seeds)) == 2


IMAGE = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("f4")


@pytest.mark.parametrize(
    ("mode", "rule"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")]
)
def test_pad_by_mode(mode, rule):
    expected = np.pad(IMAGE, [(0, 0), (0, 0), (2, 1), (1, 3)], mode=rule)
    np.testing.assert_array_equal(both(lambda x: F.pad(x, [1, 3, 2, 1], mode), IMAGE), expected)


PADS = [
    ([1, 2, 0, 3], {}, [(0, 0), (0, 0), (0, 3), (1, 2)]),
    (1, {}, [(0, 0), (0, 0), (1, 1), (1, 1)]),
    ([1, 2], {}, [(0, 0), (0, 0), (0, 0), (1, 2)]),
    ([1, 2], {"data_format": "NHWC"}, [(0, 0), (0, 0), (1, 2), (0, 0)]),
    ([1, 2, 0, 0, 3, 0, 0, 1], {}, [(1, 2), (0, 0), (3, 0), (0, 1)]),
    ([1, 2, 0, 0, 3, 0, 0, 1], {"pad_from_left_axis": False}, [(0, 1), (3, 0), (0, 0), (1, 2)]),
]


@pytest.mark.parametrize(("pad", "options", "pairs"), PADS)
def test_pad_by_value(pad, options, pairs):
    expected = np.pad(IMAGE, pairs, constant_values=0.5)
    found = both(lambda x: F.pad(x, pad, value=0.5, **options), IMAGE)
    np.testing.assert_array_equal(found, expected)


def test_pad_errors():
    x = fed("x", IMAGE)
    with pytest.raises(ArgumentError, match=r"pad: \[1, 2, 3\] does not fit x"):
        F.pad(x, [1, 2, 3])
    with pytest.raises(ArgumentError, match="mode cannot be 'mirror'"):
        F.pad(x, [1, 2], mode="mirror")


def test_interpolate():
    found = run(lambda x: F.interpolate(x, size=[2, 10]), IMAGE)
    np.testing.assert_array_equal(found, IMAGE[:, :, [0, 2]].repeat(2, 3))
    last = run(lambda x: F.interpolate(x, scale_factor=[2, 1], data_format="NHWC"), IMAGE)
    np.testing.assert_array_equal(last, IMAGE.repeat(2, 1))
    corners = run(lambda x: F.interpolate(x, [4, 9], mode="bilinear", align_corners=True), IMAGE)
    np.testing.assert_allclose(corners[..., ::2], IMAGE, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(corners[..., 1], IMAGE[..., :2].mean(-1), rtol=1e-5, atol=1e-6)
    edge = run(lambda x: F.interpolate(x, [4, 10], mode="bilinear", align_mode=1), IMAGE)
    np.testing.assert_allclose(edge[..., ::2], IMAGE, rtol=1e-5, atol=1e-6)
    nearest = run(lambda x: F.interpolate(x, [4, 3], align_corners=True), IMAGE)
    np.testing.assert_array_equal(nearest, IMAGE[..., ::2])


def test_interpolate_errors():
    with pytest.raises(ArgumentError, match="needs an image of known size"):
        F.interpolate(fed("x", IMAGE, opened=True), scale_factor=2)
    with pytest.raises(ArgumentError, match="size or scale_factor"):
        F.interpolate(fed("y", IMAGE))


def test_attention():
    rng = np.random.default_rng(1)
    q, k, v = (rng.normal(size=(2, t, 2, 3)).astype("f4") for t in (4, 5, 5))

    def expected(mask):
        qt, kt, vt = (a.transpose(0, 2, 1, 3) for a in (q, k, v))
        scores = qt @ kt.swapaxes(-1, -2) / math.sqrt(3) + mask
        return (softmax(scores) @ vt).transpose(0, 2, 1, 3)

    attend = F.scaled_dot_product_attention
    np.testing.assert_allclose(run(attend, q, k, v), expected(0.0), rtol=1e-4, atol=1e-5)
    allowed = np.tril(np.ones((4, 5), bool))
    blocked = np.where(allowed, 0, -np.inf)
    for option in (
        {"is_causal": True},
        {"attn_mask": allowed},
        {"attn_mask": blocked.astype("f4")},
    ):
        found = run(lambda q, k, v, o=option: attend(q, k, v, **o), q, k, v)
        np.testing.assert_allclose(found, expected(blocked), rtol=1e-4, atol=1e-5)
    assert run_once(lambda q, k, v: attend(q, k, v, dropout_p=0.5), q, k, v).shape == q.shape


def test_layer_norm_needs_the_last_dims():
    with pytest.raises(ShapeError, match=r"the last dims of x are not \[3\]"):
        F.layer_norm(fed("x", X), 3)
