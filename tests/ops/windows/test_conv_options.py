"""Options of convolutions and poolings that the reference evaluator lacks, on onnxruntime.

The reference evaluator knows ConvTranspose with groups of one channel only, splits the elements
that ceil_mode adds between both ends, and gives MaxPool no Indices where all strides are 1.
onnxruntime has no float64 kernel for the ops that are linear in their operands; their differences
are exact, so float32 serves.
"""

import numpy as np
import pytest

from graphopt.errors import GradientError
from graphopt.ir.model.schema import Attr
from graphopt.ir.types.types import TensorType
from graphopt.ops.registry.cases import case, fixed, i64
from graphopt.passes.gradients.backward import gradients
from tests.ops import harness
from tests.ops.harness import build
from tests.ops.on_onnxruntime import assert_gradient, evaluate

LINEAR = [
    ("Conv", case(X=(2, 4, 5), W=fixed((6, 2, 3)), B=fixed((6,)), attrs={"group": 2})),
    ("Conv", case(X=(2, 4, 6, 7), W=fixed((4, 2, 3, 2)), attrs={
        "group": 2, "strides": [2, 3], "dilations": [1, 2], "pads": [1, 0, 2, 1]})),
    ("Conv", case(X=(2, 3, 5, 4), W=fixed((6, 1, 2, 2)), attrs={
        "group": 3, "strides": [2, 1], "auto_pad": "SAME_UPPER"})),
    ("Conv", case(X=(1, 2, 8), W=fixed((2, 2, 2)), attrs={
        "strides": [3], "auto_pad": "SAME_LOWER"})),
    ("Conv", case(X=(1, 2, 8), W=fixed((2, 2, 2)), attrs={"strides": [5]})),
    ("Conv", case(X=(2, 4, 3, 4, 5), W=fixed((6, 2, 2, 2, 2)), attrs={
        "group": 2, "strides": [1, 2, 2], "pads": [1, 0, 0, 0, 1, 0]})),
    ("ConvTranspose", case(X=(2, 4, 3), W=fixed((4, 3, 2)), B=fixed((6,)), attrs={
        "group": 2, "strides": [2], "output_padding": [1]})),
    ("ConvTranspose", case(X=(1, 4, 3, 2), W=fixed((4, 1, 3, 2)), attrs={
        "group": 4, "dilations": [1, 2], "pads": [1, 0, 0, 1]})),
    ("ConvTranspose", case(X=(1, 2, 2, 2, 3), W=fixed((2, 2, 2, 1, 2)), attrs={
        "group": 2, "strides": [1, 2, 1]})),
    ("ConvTranspose", case(X=(1, 2, 3, 2), W=fixed((2, 1, 4, 2)), attrs={
        "strides": [2, 3], "auto_pad": "SAME_UPPER"})),
    ("AveragePool", case(X=(1, 2, 8), attrs={
        "kernel_shape": [4], "strides": [3], "ceil_mode": 1})),
    ("AveragePool", case(X=(1, 1, 7, 5), attrs={
        "kernel_shape": [4, 3], "strides": [3, 2], "ceil_mode": 1, "pads": [1, 1, 0, 1]})),
    ("AveragePool", case(X=(1, 1, 7, 5), attrs={
        "kernel_shape": [4, 3], "strides": [3, 2], "ceil_mode": 1, "pads": [1, 1, 0, 1],
        "count_include_pad": 1})),
    ("AveragePool", case(X=(1, 1, 9), attrs={
        "kernel_shape": [3], "strides": [3], "dilations": [2], "ceil_mode": 1, "pads": [2, 1]})),
    ("AveragePool", case(X=(1, 1, 9), attrs={
        "kernel_shape": [2], "strides": [3], "auto_pad": "SAME_LOWER"})),
    ("GlobalAveragePool", case(X=(2, 3, 4))),
    ("LpPool", case(X=(1, 1, 8), attrs={
        "kernel_shape": [4], "strides": [3], "ceil_mode": 1, "p": 1})),
]  # fmt: skip

PIECEWISE = [
    ("MaxPool", case(X=(2, 2, 5), attrs={"kernel_shape": [3]})),
    ("MaxPool", case(X=(1, 2, 4, 5), attrs={"kernel_shape": [2, 3], "pads": [1, 1, 0, 2]})),
    ("MaxPool", case(X=(1, 2, 4, 5), attrs={
        "kernel_shape": [2, 2], "strides": [2, 2], "storage_order": 1})),
    ("MaxPool", case(X=(1, 1, 7, 5), attrs={
        "kernel_shape": [3, 3], "strides": [3, 2], "ceil_mode": 1, "auto_pad": "SAME_LOWER"})),
    ("MaxPool", case(X=(1, 2, 3, 3, 4), attrs={
        "kernel_shape": [2, 2, 3], "pads": [1, 0, 0, 0, 1, 1]})),
    ("MaxPool", case(X=(1, 2, 4, 3, 5), attrs={
        "kernel_shape": [2, 2, 2], "strides": [2, 1, 2], "ceil_mode": 1})),
]  # fmt: skip

OUTPUT_SHAPES: list[dict[str, Attr]] = [
    {"output_shape": [6, 8], "strides": [2, 3]},
    {"output_shape": [8, 9], "strides": [2, 3]},  # longer than the windows reach
    {"output_shape": [6, 5], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"output_shape": [8, 5], "strides": [2, 2], "output_padding": [1, 0]},
]


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("type", "case"), LINEAR)
def test_linear_ops(type, case, symbolic, rng):
    assert_gradient(type, case, rng, dtype="f4", step=0.05, symbolic=symbolic)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("type", "case"), PIECEWISE)
def test_max_pool(type, case, symbolic, rng):
    assert_gradient(type, case, rng, dtype="f8", step=1e-5, symbolic=symbolic)


@pytest.mark.parametrize("given", [None, i64(1, 2, 5, 7)])
def test_max_unpool_asks_each_evaluator_where_it_puts_its_elements(given, rng):
    """They differ where output_shape is given: onnxruntime counts I in that shape."""
    places = np.array([[[[5, 7], [13, 15]], [[16, 19], [24, 30]]]])
    attrs = {"kernel_shape": [2, 2], "strides": [2, 2]}
    sample = case(X=(1, 2, 2, 2), I=places, output_shape=given, attrs=attrs)
    built = build("MaxUnpool", sample, rng, symbolic=False, dtype="f4")
    (Y,) = built.results
    Y.tensor_type = TensorType(Y.dtype, ("n", "c", "h", "w"))  # onnx infers no rank
    grads = gradients([Y], built.wrt, [Y])
    for run in (evaluate, lambda *args: harness.evaluate(*args)[0]):
        np.testing.assert_array_equal(run(built.program, grads, built.feeds)[0], built.feeds["X"])


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("attrs", OUTPUT_SHAPES)
def test_conv_transpose_with_output_shape(attrs, symbolic, rng):
    sample = case(X=(1, 2, 3, 2), W=fixed((2, 2, 3, 4)), attrs=attrs)
    assert_gradient("ConvTranspose", sample, rng, dtype="f4", step=0.05, symbolic=symbolic)


SYMBOLIC_FILTERS = [
    ("Conv", case(X=(2, 2, 5), W=(3, 2, 3), attrs={"kernel_shape": [3]})),
    ("Conv", case(X=(1, 2, 6, 5), W=(2, 2, 3, 2), attrs={"strides": [2, 1], "pads": [1, 0, 2, 1]})),
    ("Conv", case(X=(1, 4, 5, 6), W=(6, 2, 2, 3), attrs={
        "group": 2, "strides": [2, 3], "auto_pad": "SAME_UPPER"})),
    ("Conv", case(X=(1, 2, 4, 3, 4), W=(2, 2, 2, 2, 2), attrs={"auto_pad": "SAME_LOWER"})),
    ("ConvTranspose", case(X=(1, 4, 3, 2), W=(4, 3, 3, 2), attrs={
        "group": 2, "strides": [2, 3], "output_padding": [1, 0]})),
    ("ConvTranspose", case(X=(1, 2, 3, 2), W=(2, 1, 4, 2), attrs={
        "strides": [2, 3], "auto_pad": "SAME_UPPER"})),
    *[("ConvTranspose", case(X=(1, 2, 3, 2), W=(2, 2, 3, 4), attrs=attrs))
      for attrs in OUTPUT_SHAPES],
]  # fmt: skip


@pytest.mark.parametrize(("type", "case"), SYMBOLIC_FILTERS)
def test_filters_of_symbolic_shape(type, case, rng):
    assert_gradient(type, case, rng, dtype="f4", step=0.05, symbolic=True)


def test_a_filter_needs_a_rank(rng):
    sample = case(X=(1, 2, 5), W=fixed((2, 2, 3)), attrs={"kernel_shape": [3]})
    built = build("Conv", sample, rng, symbolic=False)
    W = built.program.global_block().vars["W"]
    W.tensor_type = TensorType(W.dtype, None)
    with pytest.raises(GradientError, match="rank of its filter"):
        gradients(built.results, built.wrt)


@pytest.mark.parametrize("shape", [(1, 2, 6), (1, 2, 3, 4), (1, 1, 2, 3, 2)])
def test_ties_of_maxima_go_to_the_first(shape, rng):
    rank = len(shape) - 2
    attrs = {"kernel_shape": [2] * rank, "strides": [1] * rank}
    built = build("MaxPool", case(X=shape, attrs=attrs), rng, symbolic=False, dtype="f4")
    built.feeds["X"] = np.zeros(shape, np.float32)
    (grad,) = gradients(built.results, built.wrt)
    expected = np.zeros(shape, np.float32)
    expected[np.ix_(*[range(d) for d in shape[:2]], *[range(d - 1) for d in shape[2:]])] = 1
    np.testing.assert_array_equal(evaluate(built.program, [grad], built.feeds)[0], expected)


@pytest.mark.parametrize("shape", [(2, 2, 3), (1, 2, 2, 3), (1, 2, 2, 1, 3)])
def test_ties_of_global_maxima_go_to_the_first(shape, rng):
    built = build("GlobalMaxPool", case(X=shape), rng, symbolic=True, dtype="f4")
    built.feeds["X"] = np.ones(shape, np.float32)
    (grad,) = gradients(built.results, built.wrt)
    expected = np.zeros(shape, np.float32)
    expected.reshape(*shape[:2], -1)[..., 0] = 1
    np.testing.assert_array_equal(evaluate(built.program, [grad], built.feeds)[0], expected)


@pytest.mark.parametrize("type", ["Conv", "ConvTranspose", "AveragePool", "MaxPool"])
def test_static_shapes_need_no_shape_arithmetic(type, rng):
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 1]}
    sample = case(X=(2, 2, 6, 8), W=fixed((2, 2, 3, 3)), attrs=window)
    built = build(type, sample, rng, symbolic=False)
    gradients(built.results, built.wrt)
    made = {op.type for op in built.program.global_block().ops}
    assert not made & {"Shape", "Size", "Slice", "Pad", "Concat"}
