import numpy as np
import pytest

from graphopt import tensor as tn
from graphopt.errors import ArgumentError
from tests.tensor.recording import both, fed

X = np.random.default_rng(1).permutation(24).reshape(2, 3, 4).astype(np.float32)
ROWS = np.array([2, 0, 2])

SAME = [
    ("argmax", tn.argmax, np.array(X.argmax())),
    ("argmax axis", lambda x: tn.argmax(x, 1, dtype="int32"), X.argmax(1).astype(np.int32)),
    ("argmax keepdim", lambda x: tn.argmax(x, keepdim=True), X.argmax().reshape(1, 1, 1)),
    ("argmin", lambda x: tn.argmin(x, -1, keepdim=True), X.argmin(-1)[..., None]),
    ("argsort", lambda x: tn.argsort(x, 0), X.argsort(0)),
    ("argsort down", lambda x: tn.argsort(x, descending=True), (-X).argsort(-1)),
    ("gather", lambda x: tn.gather(x, ROWS, 1), X[:, ROWS]),
    ("gather column", lambda x: tn.gather(x, ROWS[:, None], 1), X[:, ROWS]),
    ("gather scalar", lambda x: tn.gather(x, 1, 1), X[:, 1]),
    ("gather_nd", lambda x: tn.gather_nd(x, [[1, 2], [0, 0]]), X[[1, 0], [2, 0]]),
    ("gather rows", lambda x: tn.gather(x, [1]), X[1:]),
    ("index_sample", lambda x: tn.index_sample(x[0], [[1, 1], [0, 3], [2, 0]]),
     np.take_along_axis(X[0], np.array([[1, 1], [0, 3], [2, 0]]), 1)),
    ("take_along_axis rows", lambda x: tn.take_along_axis(x, [[[2], [0], [1]]], 2),
     np.take_along_axis(X, np.array([[[2], [0], [1]]]), 2)),
    ("take_along_axis spread", lambda x: tn.take_along_axis(x[:, :1], np.zeros((2, 3, 1), int), 2),
     np.take_along_axis(X[:, :1], np.zeros((2, 3, 1), int), 2)),
    ("take_along_axis part", lambda x: tn.take_along_axis(x, [[[2]]], 2, broadcast=False),
     X[:1, :1, 2:3]),
    ("index_select", lambda x: tn.index_select(x, ROWS, -1), X[..., ROWS]),
    ("nonzero", lambda x: tn.nonzero(x > 20.0), np.argwhere(X > 20)),
    ("where positions", lambda x: tn.where(x > 20.0)[2], np.argwhere(X > 20)[:, 2:]),
    ("where", lambda x: tn.where(x > 9.0, x, -1.0), np.where(X > 9, X, np.float32(-1))),
    ("where numbers", lambda x: tn.where(x > 9.0, 1.0, 2.0), np.where(X > 9, 1, 2).astype("f4")),
    ("slice", lambda x: tn.slice(x, [0, 2], [1, -3], [9, -1]), X[1:9, :, -3:-1]),
    ("slice variable", lambda x: tn.slice(x, [1], [tn.shape(x)[0]], [3]), X[:, 2:3]),
    ("sort", lambda x: tn.sort(x, 1), np.sort(X, 1)),
    ("sort down", lambda x: tn.sort(x, descending=True), -np.sort(-X)),
    ("strided_slice", lambda x: tn.strided_slice(x, [2], [3], [0], [-2]), X[:, :, 3:0:-2]),
    ("take_along_axis", lambda x: tn.take_along_axis(x, X.argsort(1), 1), np.sort(X, 1)),
    ("topk", lambda x: tn.topk(x, 2)[0], -np.sort(-X)[..., :2]),
    ("topk smallest", lambda x: tn.topk(x, 1, axis=0, largest=False)[1], X.argsort(0)[:1]),
    ("scatter", lambda x: tn.scatter(x, [1], X[:1]), np.stack([X[0], X[0]])),
    ("scatter add", lambda x: tn.scatter(x, [1, 1], X, False), np.stack([X[0], X[0] + X[1]])),
]  # fmt: skip


@pytest.mark.parametrize(("function", "expected"), [r[1:] for r in SAME], ids=[r[0] for r in SAME])
def test_same_as_numpy(function, expected):
    found = both(function, X)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_where_needs_both():
    with pytest.raises(ArgumentError, match="both x and y, or neither"):
        tn.where(fed("c", X > 0), 1.0)  # type: ignore[call-overload]
