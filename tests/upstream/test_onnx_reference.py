"""Known bugs of onnx's reference evaluator. One that passes is fixed: drop our way round it."""

import importlib.util
import math

import numpy as np
import onnx.parser
import onnx.reference
import pytest
from onnx.reference.op_run import RuntimeImplementationError

from tests.upstream.one_op import OPSET, bug, on_reference


def square(n: int) -> np.ndarray:
    """0, 1, .. as [1, 1, n, n]."""
    return np.arange(n * n, dtype="f4").reshape(1, 1, n, n)


@bug("tests/ops/harness.py, which replaces Erf")
def test_erf_of_float64_has_its_digits():
    spec = importlib.util.find_spec("onnx.reference.ops.op_erf")
    assert spec is not None
    assert spec.loader is not None
    untouched = importlib.util.module_from_spec(spec)  # the module in use is the replaced one
    spec.loader.exec_module(untouched)
    (found,) = on_reference("Erf", np.array([0.3]), new_ops=[untouched.Erf])
    np.testing.assert_allclose(found, [math.erf(0.3)], rtol=1e-12)


@bug("tests/ops/indexing/test_indexing.py, which runs on onnxruntime", ValueError)
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pads_may_be_negative(mode):
    x = np.arange(6.0).reshape(2, 3)
    (found,) = on_reference("Pad", x, np.array([0, -1, 0, 0]), mode=mode)
    np.testing.assert_array_equal(found, x[:, 1:])


@bug("graphopt/ops/tools/positions.py, in pick_elements", ValueError)
def test_gather_elements_may_leave_out_ends():
    x = np.arange(12.0).reshape(3, 4)
    (found,) = on_reference("GatherElements", x, np.array([[2, 0]]), axis=0)
    np.testing.assert_array_equal(found, [[x[2, 0], x[0, 1]]])


@bug("graphopt/ops/tools/positions.py, in pick_elements", ValueError)
def test_gather_elements_of_a_long_axis():
    """np.choose takes at most 64 arrays."""
    x = np.arange(260.0).reshape(65, 2, 2)
    indices = np.full((1, 2, 2), 64)
    (found,) = on_reference("GatherElements", x, indices, axis=0)
    np.testing.assert_array_equal(found, x[64:])


@bug("tests/ops/windows/test_conv_options.py, which runs on onnxruntime", ValueError)
@pytest.mark.parametrize(("channels", "filters"), [(4, 1), (2, 2)])
def test_conv_transpose_in_groups_of_channels(channels, filters):
    X, W = np.ones((1, channels, 3)), np.ones((channels, filters, 2))
    (found,) = on_reference("ConvTranspose", X, W, group=2)
    right = np.broadcast_to([1.0, 2.0, 2.0, 1.0], (1, 2 * filters, 4)) * (channels // 2)
    np.testing.assert_array_equal(found, right)


@bug("the cases of graphopt/ops/windows/pooling.py, and tests/ops/windows/test_conv_options.py")
@pytest.mark.parametrize("spatial", [(4,), (2, 2, 2)])
def test_global_max_pool_of_any_rank(spatial):
    X = np.arange(2.0 * 3 * math.prod(spatial)).reshape(2, 3, *spatial)
    (found,) = on_reference("GlobalMaxPool", X)
    axes = tuple(range(2, X.ndim))
    np.testing.assert_array_equal(found, X.max(axes, keepdims=True))


@bug("the cases of graphopt/ops/windows/pooling.py, and tests/ops/windows/test_conv_options.py")
def test_indices_of_max_pool_by_strides_of_one():
    _, found = on_reference("MaxPool", square(4), results=2, kernel_shape=[2, 2])
    np.testing.assert_array_equal(found[0, 0], [[5, 6, 7], [9, 10, 11], [13, 14, 15]])


@bug("tests/ops/windows/test_conv_options.py, which runs on onnxruntime")
def test_ceil_mode_adds_elements_behind():
    X = np.arange(8.0).reshape(1, 1, 8)
    (average,) = on_reference("AveragePool", X, kernel_shape=[4], strides=[3], ceil_mode=1)
    np.testing.assert_allclose(average, [[[1.5, 4.5, 6.5]]])  # of 0 to 3, 3 to 6, and 6 and 7


@bug("the cases of ops/layers/normalization.py, and ops/layers/test_normalization_options.py")
def test_lp_normalization_by_absolute_values():
    (found,) = on_reference("LpNormalization", np.array([[1.0, -3.0]]), p=1)
    np.testing.assert_allclose(found, [[0.25, -0.75]])


@bug("graphopt/ops/tools/positions.py, in pick_elements", ValueError)
def test_gather_elements_along_an_axis_from_the_end():
    x = np.arange(6.0).reshape(2, 3)
    (found,) = on_reference("GatherElements", x, np.array([[2], [0]]), axis=-1)
    np.testing.assert_array_equal(found, [[2], [3]])


@bug("tests/ops/harness.py, which defines it", RuntimeImplementationError)
def test_global_lp_pool_is_there():
    (found,) = on_reference("GlobalLpPool", np.array([[[3.0, 4.0]]]))
    assert found.tolist() == [[[5.0]]]


@bug("the cases of graphopt/ops/layers/norms.py, which have as many images as channels")
def test_lrn_of_all_channels():
    X = np.ones((1, 2, 1, 1))
    (found,) = on_reference("LRN", X, size=1, alpha=1.0, beta=1.0, bias=1.0)
    np.testing.assert_allclose(found, X / 2)


@bug("graphopt/ops/indexing/selection.py, whose OneHot is of integers", TypeError)
def test_one_hot_of_truth_values():
    (found,) = on_reference("OneHot", np.array([1]), np.array(2), np.array([False, True]))
    assert found.tolist() == [[False, True]]


@bug("the cases of graphopt/ops/indexing/selection.py", IndexError)
def test_unique_elements_of_a_matrix_in_order_of_appearance():
    found, *_ = on_reference("Unique", np.array([[2.0, 1.0], [2.0, 3.0]]), results=4, sorted=0)
    assert found.tolist() == [2, 1, 3]


def run(body: str, **feeds: np.ndarray) -> np.ndarray:
    text = f'<ir_version: 10, opset_import: ["": {OPSET}]> {body}'
    session = onnx.reference.ReferenceEvaluator(onnx.parser.parse_model(text))
    (found,) = session.run(None, feeds)
    return np.asarray(found)


@bug("tests/ops/containers/test_sequences.py, which runs on onnxruntime")
def test_sequence_insert_at_the_end():
    found = run(
        """g (float[1] a, float[1] b, int64 end) => (float[2] y) {
            s = SequenceConstruct(a)
            t = SequenceInsert(s, b, end)
            y = ConcatFromSequence <axis = 0> (t)
        }""",
        a=np.zeros(1, "f4"), b=np.ones(1, "f4"), end=np.array(1),
    )  # fmt: skip
    assert found.tolist() == [0, 1]


LOOP = """g (int64 n, bool go, float[1, 2] x) => (float[n, 1, 2] y) {{
    y = Loop(n, {go}) <body = b (int64 i, bool c) => (bool d, float[1, 2] z) {{
        d = Identity(c)
        z = Identity(x)
    }}>
}}"""
TWICE = {"n": np.array(2), "go": np.array(True), "x": np.ones((1, 2), "f4")}


@bug("graphopt/passes/gradients/iterations.py, whose stacks are of vectors")
def test_loop_stacks_matrices():
    assert run(LOOP.format(go="go"), **TWICE).shape == (2, 1, 2)


@bug("graphopt/ir/edit/control.py, whose Loops have a condition", TypeError)
def test_loop_without_a_condition_runs():
    assert run(LOOP.format(go=""), **TWICE).shape[0] == 2
