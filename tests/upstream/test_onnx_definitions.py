"""Known bugs of onnx's shape inference and of its function bodies."""

import numpy as np
import onnx
from onnx.reference.op_run import RuntimeTypeError
from onnx.shape_inference import InferenceError

from tests.upstream.one_op import bug, on_reference, one_op


@bug("graphopt/ops/moves/movement.py: concat gives the parts of a Split their types")
def test_split_by_fed_sizes_keeps_the_rank():
    model = one_op("Split", np.ones((4, 3), "f4"), np.array([1, 3]), results=2)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    for output in inferred.graph.output:
        assert len(output.type.tensor_type.shape.dim) == 2


@bug(
    "tests/ops/layers/test_normalization_options.py, which does not check the model", InferenceError
)
def test_mean_variance_normalization_with_default_axes_is_a_valid_model():
    model = one_op("MeanVarianceNormalization", np.ones((2, 3, 2, 2), "f4"))
    model.graph.output[0].type.CopyFrom(model.graph.input[0].type)
    onnx.checker.check_model(model, full_check=True)


@bug(
    "graphopt/ir/edit/function_body.py, whose constants take the operands' dtype", RuntimeTypeError
)
def test_mean_variance_normalization_of_float64():
    (found,) = on_reference("MeanVarianceNormalization", np.array([[[[1.0, 3.0]]]]))
    np.testing.assert_allclose(found, [[[[-1.0, 1.0]]]], rtol=1e-8)
