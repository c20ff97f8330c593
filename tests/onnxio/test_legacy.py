"""Definitions of before opset 21 mean what they meant."""

import numpy as np
import onnx.helper
import onnx.parser
import pytest

from graphopt import errors
from tests.onnxio.models import check_equal, load, model

BODY = onnx.parser.parse_graph("body (float[3] a) => (float[3] b) { b = Relu(a) }")
IMAGE = np.random.default_rng(0).normal(size=(1, 2, 7, 9)).astype("f4")


def resize(op, mode, *scales):
    """The text of a model that resizes an image."""
    return f"""g (float[1, 2, 7, 9] x) => (float[A, B, C, D] y) {{
        s = Constant<value = float[4] {{1, 1, {scales[0]}, {scales[1]}}}>()
        h = {op}<mode = "{mode}">(x, s)
        y = Relu(h)
    }}"""


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    ("opset", "op", "scales"),
    [
        (9, "Upsample", (2, 2)),
        (9, "Upsample", (1.4, 2.6)),
        (10, "Resize", (2, 2)),
        (10, "Resize", (1.4, 2.6)),
        (10, "Resize", (0.4, 0.6)),
    ],
)
def test_resize(opset, op, mode, scales):
    loaded = check_equal(model(resize(op, mode, *scales), opset), x=IMAGE)
    assert loaded.program.global_block().has_var("h")


def test_a_resize_both_ways():
    with pytest.raises(errors.FileError, match="enlarges one dim and shrinks another"):
        load(model(resize("Resize", "nearest", 1.5, 0.5), 10))


def test_a_scan_with_lengths_of_sequences():
    scan = onnx.helper.make_node("Scan", ["lengths", "x"], ["y"], num_scan_inputs=1, body=BODY)
    old = model("g (float[1, 2, 3] x, int64[1] lengths) => (float[1, 2, 3] y) { y = Relu(x) }", 8)
    old.graph.node[0].CopyFrom(scan)
    with pytest.raises(errors.FileError, match="cannot be converted from opset 8"):
        load(old)


@pytest.mark.parametrize("op", ["Hardmax", "Softmax", "LogSoftmax"])
@pytest.mark.parametrize("attrs", ["", "<axis = 0>", "<axis = 2>"])
def test_normalizations_over_all_dims_from_an_axis_on(op, attrs):
    body = f"g (float[N, 2, 7, 9] x) => (float[N, 2, 7, 9] y) {{ y = {op}{attrs}(x) }}"
    check_equal(model(body, 11), x=IMAGE)


@pytest.mark.parametrize(
    ("opset", "text"),
    [
        (7, "BatchNormalization(x, two, two, two, two)"),
        (9, "Clip<min = -0.5, max = 0.3>(x)"),
        (9, "Dropout<ratio = 0.3>(x)"),
        (9, "Slice<axes = [2], starts = [1], ends = [3]>(x)"),
        (10, "Pad<pads = [0, 0, 1, 0, 0, 0, 0, 2], value = 1.5>(x)"),
        (12, "Squeeze<axes = [0]>(x)"),
        (12, "ReduceSum<axes = [1], keepdims = 0>(x)"),
        (17, "ReduceL2<axes = [-1]>(x)"),
    ],
)
def test_attributes_that_are_operands_now(opset, text):
    body = f"g (float[1, 2, 7, 9] x) => (float[] z) {{ y = {text} z = ReduceSum<keepdims = 0>(y) }}"
    check_equal(model(body, opset, two=np.array([2, 3], "f4")), x=IMAGE)
