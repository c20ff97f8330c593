"""Kernels that onnxruntime's CPU provider lacks."""

import numpy as np
import onnx
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from tests.upstream.one_op import bug, on_onnxruntime

IMAGE = np.arange(12.0).reshape(1, 3, 4)
FLOAT64 = [
    ("AveragePool", [IMAGE], {"kernel_shape": [2]}),
    ("Conv", [IMAGE, np.ones((2, 3, 2))], {}),
    ("ConvTranspose", [IMAGE, np.ones((3, 2, 2))], {}),
    ("GlobalAveragePool", [IMAGE], {}),
    ("GlobalMaxPool", [IMAGE], {}),
    ("InstanceNormalization", [IMAGE, np.ones(3), np.zeros(3)], {}),
    ("LpPool", [IMAGE], {"kernel_shape": [2], "p": 1}),
]
TESTS = "tests/ops/windows/test_conv_options.py and tests/ops/test_runs.py, which run in float32"


@bug(TESTS, NoKernel)
@pytest.mark.parametrize(("type", "operands", "attrs"), FLOAT64)
def test_float64(type, operands, attrs):
    (found,) = on_onnxruntime(type, *operands, **attrs)
    (right,) = on_onnxruntime(type, *[v.astype("f4") for v in operands], **attrs)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, right, rtol=1e-6)


@bug("graphopt/initializer.py: TruncatedNormal is worked out in float32", NoKernel)
def test_erf_of_float64():
    (found,) = on_onnxruntime("Erf", np.zeros(1))
    assert found.tolist() == [0.0]


@bug("graphopt/initializer.py, which draws float32 and casts", NoKernel)
@pytest.mark.parametrize("type", ["RandomNormal", "RandomUniform"])
def test_halves_are_drawn(type):
    (found,) = on_onnxruntime(type, shape=[3], dtype=onnx.TensorProto.FLOAT16)
    assert found.dtype == np.float16
    assert found.shape == (3,)
