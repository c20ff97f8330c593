"""Models of one op, run by onnx's reference evaluator and by onnxruntime."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
from onnx.reference.op_run import OpRun

OPSET = 21


def bug(where: str, raises: type[Exception] = AssertionError):
    """A bug of a dependency: the test states what is right, ``where`` is our way round it."""
    return pytest.mark.xfail(strict=True, raises=raises, reason=f"worked round in {where}")


def one_op(type: str, *operands: np.ndarray, results: int = 1, **attrs) -> onnx.ModelProto:
    """Inputs i0, i1, ..; outputs o0, o1, .. without a type."""
    inputs = [
        onnx.helper.make_tensor_value_info(
            f"i{k}", onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape
        )
        for k, v in enumerate(operands)
    ]
    outputs = [onnx.ValueInfoProto(name=f"o{k}") for k in range(results)]
    node = onnx.helper.make_node(type, [v.name for v in inputs], [v.name for v in outputs], **attrs)
    graph = onnx.helper.make_graph([node], "one_op", inputs, outputs)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def on_reference(
    type: str,
    *operands: np.ndarray,
    results: int = 1,
    new_ops: Sequence[type[OpRun]] = (),
    **attrs,
) -> list[np.ndarray]:
    model = one_op(type, *operands, results=results, **attrs)
    session = onnx.reference.ReferenceEvaluator(model, new_ops=list(new_ops))
    return [np.asarray(v) for v in session.run(None, _feeds(operands))]


def on_onnxruntime(type: str, *operands: np.ndarray, results: int = 1, **attrs) -> list[np.ndarray]:
    model = onnx.shape_inference.infer_shapes(one_op(type, *operands, results=results, **attrs))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: list[np.ndarray] = session.run(None, _feeds(operands))
    return found


def _feeds(operands: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"i{k}": v for k, v in enumerate(operands)}
