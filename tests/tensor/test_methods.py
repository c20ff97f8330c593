from typing import Any

import numpy as np
import pytest

import graphopt as go


def test_functions_are_methods():
    x = go.static.data("x", [None, 4])
    assert str(x.mean(axis=1).tensor_type) == "f32[N]"
    assert str(x.reshape([-1, 2, 2]).sum().tensor_type) == "f32[]"
    assert str(x.matmul(x.transpose([1, 0])).tensor_type) == "f32[N, N]"
    assert x.astype("float64").exp().dtype == np.float64
    assert x.T.shape == (4, -1)


def test_an_unknown_attribute_names_the_closest():
    x = go.static.data("x", [4])
    with pytest.raises(AttributeError, match="did you mean 'reshape'"):
        x.reshap([2, 2])
    assert not hasattr(x, "__nothing__")


def test_numpy_on_the_left():
    x = go.static.data("x", [None, 3])
    two: Any = np.float32(2)
    ones: Any = np.ones((2, 1), "f4")
    assert str((two * x).tensor_type) == "f32[N, 3]"
    assert str((ones[0] + x).tensor_type) == "f32[N, 3]"
    assert str((ones @ x[:1]).tensor_type) == "f32[2, 3]"
