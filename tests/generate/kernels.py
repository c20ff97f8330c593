"""Write ``kernels.json``: for how many of an op's node cases onnxruntime's CPU has a kernel.

To be run when onnx or onnxruntime changes; ``op_table`` reads it.
"""

import json
import warnings
from pathlib import Path

import onnx
import onnxruntime
from onnx.backend.test.loader import load_model_tests

from graphopt.ir.model.schema import OPSET
from graphopt.onnxio.write import IR_VERSION

TARGET = Path(__file__).with_name("kernels.json")


def has_kernel(model: onnx.ModelProto, type: str) -> bool:
    """Whether onnxruntime loads a model of one op, at the opset of a Program or at its own."""
    stated = {opset.version for opset in model.opset_import if not opset.domain}
    usual = {OPSET} if onnx.defs.has(type, OPSET) or not stated else set()
    return any(_loads(model, opset) for opset in usual | stated)


def _loads(model: onnx.ModelProto, version: int) -> bool:
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    proto.ir_version = min(proto.ir_version, IR_VERSION)
    for opset in proto.opset_import:
        if not opset.domain:
            opset.version = version
    try:
        onnxruntime.InferenceSession(proto.SerializeToString())
    except Exception:  # of many types
        return False
    return True


def main() -> None:
    """Load all cases that are about one op."""
    warnings.simplefilter("ignore")
    onnxruntime.set_default_logger_severity(4)
    found: dict[str, list[int]] = {}
    for case in load_model_tests(kind="node"):
        assert case.model is not None
        node, *others = case.model.graph.node
        if others or "_expanded" in case.name:
            continue
        type = f"{node.domain}::{node.op_type}".removeprefix("ai.onnx::").removeprefix("::")
        counts = found.setdefault(type, [0, 0])
        counts[0] += has_kernel(case.model, type)
        counts[1] += 1
    stored = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    cases = ",\n".join(f"  {json.dumps(op)}: {found[op]}" for op in sorted(found))
    TARGET.write_text(f'{json.dumps(stored)[:-1]}, "cases": {{\n{cases}\n}}}}\n')


if __name__ == "__main__":
    main()
