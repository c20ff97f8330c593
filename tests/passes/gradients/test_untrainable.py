import numpy as np
import pytest

from graphopt import errors
from tests.onnxio.models import load, model

INT8 = np.ones((4, 4), "i1")


def test_all_integer_weights_are_named():
    body = """g (float[N, 4] x) => (float[N, 4] y) {
        w = DequantizeLinear(first, scale, zero)
        h = MatMul(x, w)
        q, s, z = DynamicQuantizeLinear(h)
        i = MatMulInteger(q, second, z)
        y = Cast<to = 1>(i)
    }"""
    weights = {"first": INT8, "second": 2 * INT8, "scale": np.float32(0.1), "zero": np.int8(0)}
    loaded = load(model(body, **weights))
    with pytest.raises(errors.GradientError, match="quantized") as found:
        loaded.minimize()
    assert [name for name, _ in found.value.operands] == ["first", "second"]


def test_without_integer_weights_nothing_to_train_is_no_error():
    body = "g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"
    with pytest.warns(UserWarning, match="no ops"):  # an empty startup Program
        load(model(body)).minimize()
