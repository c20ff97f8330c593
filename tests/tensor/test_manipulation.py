import numpy as np
import pytest

from graphopt import tensor as tn
from graphopt.errors import ArgumentError, ArgumentTypeError, ShapeError
from graphopt.ir.types.types import TensorType
from graphopt.scoping import default_main_program
from tests.tensor.recording import both, fed, run

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
COLUMN = np.arange(3, dtype=np.float32).reshape(1, 3, 1)

SAME = [
    ("broadcast_to", lambda x: tn.broadcast_to(x[0], [5, 3, 4]), np.stack([X[0]] * 5)),
    ("cast", lambda x: tn.cast(x, "int32"), X.astype(np.int32)),
    ("chunk", lambda x: tn.chunk(x, 2, axis=2)[1], X[:, :, 2:]),
    ("concat", lambda x: tn.concat([x, x], axis=-1), np.concatenate([X, X], -1)),
    ("expand", lambda x: tn.expand(x, [5, -1, -1, 4]), np.broadcast_to(X, (5, 2, 3, 4))),
    ("expand_as", lambda x: tn.expand_as(x[0], x), np.broadcast_to(X[0], X.shape)),
    ("flatten all", tn.flatten, X.reshape(-1)),
    ("flatten front", lambda x: tn.flatten(x, 0, 1), X.reshape(6, 4)),
    ("flatten back", lambda x: tn.flatten(x, 1), X.reshape(2, 12)),
    ("flatten one", lambda x: tn.flatten(x, 1, 1), X),
    ("flip", lambda x: tn.flip(x, [0, -1]), X[::-1, :, ::-1]),
    ("numel", tn.numel, np.array(24)),
    ("reshape", lambda x: tn.reshape(x, [0, -1]), X.reshape(2, 12)),
    ("reshape by shape", lambda x: tn.reshape(x, [tn.shape(x)[0] * 3, -1]), X.reshape(6, 4)),
    ("roll", lambda x: tn.roll(x, 1, axis=1), np.roll(X, 1, 1)),
    ("roll far", lambda x: tn.roll(x, [5, -7], axis=[0, 2]), np.roll(X, [5, -7], [0, 2])),
    ("roll flat", lambda x: tn.roll(x, -2), np.roll(X, -2)),
    ("shape", tn.shape, np.array([2, 3, 4])),
    ("split", lambda x: tn.split(x, 3, axis=1)[2], X[:, 2:]),
    ("split rest", lambda x: tn.split(x, [1, -1, 2], axis=2)[1], X[:, :, 1:2]),
    ("split one", lambda x: tn.split(x, 1)[0], X),
    ("stack", lambda x: tn.stack([x, x], axis=-1), np.stack([X, X], -1)),
    ("t", lambda x: tn.t(x[0]), X[0].T),
    ("t of a vector", lambda x: tn.t(x[0, 0]), X[0, 0]),
    ("tile", lambda x: tn.tile(x, [2, 1]), np.tile(X, [2, 1])),
    ("tile more", lambda x: tn.tile(x, [2, 1, 1, 3]), np.tile(X, [2, 1, 1, 3])),
    ("transpose", lambda x: tn.transpose(x, [2, 0, -2]), X.transpose(2, 0, 1)),
    ("unsqueeze", lambda x: tn.unsqueeze(x, [2, 0]), X[None, :, :, None]),
    ("unsqueeze end", lambda x: tn.unsqueeze(x, -1), X[..., None]),
]  # fmt: skip


@pytest.mark.parametrize(("function", "expected"), [r[1:] for r in SAME], ids=[r[0] for r in SAME])
def test_same_as_numpy(function, expected):
    found = both(function, X)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_squeeze():
    np.testing.assert_array_equal(run(tn.squeeze, COLUMN), COLUMN.squeeze())
    np.testing.assert_array_equal(both(lambda x: tn.squeeze(x, [0]), COLUMN), COLUMN[0])
    np.testing.assert_array_equal(run(lambda x: tn.squeeze(x, [0, 1]), COLUMN), COLUMN[0])


def test_unbind():
    for found, expected in zip(run(lambda x: tn.unbind(x, 1), X), X.swapaxes(0, 1), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ArgumentError, match="num is 5"):
        tn.unstack(fed("x", X), 1, num=5)
    with pytest.raises(ArgumentError, match="single slices"):
        tn.unbind(fed("y", X, opened=True))


def test_types_stay_known():
    x = default_main_program().global_block().create_var("x", ["N", 6, 4])
    assert str(tn.reshape(x, [-1, 24]).tensor_type) == "f32[N, 24]"
    assert str(tn.reshape(x, [-1, 2, 12]).tensor_type) == "f32[N, 2, 12]"
    assert str(tn.flatten(x, 1).tensor_type) == "f32[N, 24]"
    assert tn.reshape(x, x.shape).tensor_type == x.tensor_type
    assert str(tn.reshape(x, [6, 0, tn.shape(x)[0]]).tensor_type).startswith("f32[6, 6, ")
    assert tn.reshape(x, [-1, 12]).tensor_type.shape != ("N", 12)


def test_reshape_errors():
    x = fed("x", X)
    with pytest.raises(ArgumentError, match=r"cannot be reshaped to \[-1, -1\]"):
        tn.reshape(x, [-1, -1])
    with pytest.raises(ShapeError, match="it has 24 elements"):
        tn.reshape(x, [5, -1])
    with pytest.raises(ShapeError, match="it has 24 elements"):
        tn.reshape(x, [4, 5])
    with pytest.raises(ArgumentError, match="0 only where x has the dim"):
        tn.reshape(x, [-1, 1, 1, 0])
    with pytest.raises(ArgumentTypeError, match=r"an int is needed, not 2\.5"):
        tn.reshape(x, [2.5, -1])  # type: ignore[list-item]


def test_other_errors():
    x = fed("x", X)
    with pytest.raises(ArgumentError, match="into 5 equal pieces"):
        tn.split(x, 5, axis=1)
    with pytest.raises(ArgumentError, match=r"into pieces of \[1, 1\]"):
        tn.split(x, [1, 1], axis=1)
    with pytest.raises(ArgumentError, match="must name every dim"):
        tn.transpose(x, [0, 1, 1])
    with pytest.raises(ArgumentError, match="behind stop_axis"):
        tn.flatten(x, 2, 1)
    with pytest.raises(ArgumentError, match="takes a list of tensors"):
        tn.concat(x)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="2 shifts for 1 axes"):
        tn.roll(x, [1, 2], axis=0)
    with pytest.raises(ArgumentError, match="takes a 0-D or 1-D or 2-D tensor"):
        tn.t(x)


def test_scalar():
    np.testing.assert_array_equal(both(tn.flatten, np.float32(3.0)), [3.0])


def test_tensor_type_is_not_shared():
    x = default_main_program().global_block().create_var("x", [2, 3])
    tn.reshape(x, [3, 2])
    assert x.tensor_type == TensorType(np.dtype("f4"), (2, 3))
