"""How fast this machine multiplies matrices and copies memory: what floors are computed from.

python -m tests.benchmarks.rates
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

THREADS = 2
SIZE = 1024  # of the matrices
BYTES = 1 << 27  # of the memory each thread copies, beyond the caches


def best_seconds(run: Callable[[], object], times: int = 40) -> float:
    """The fastest of some runs, apart from each other: others may use the machine too."""
    found = []
    for _ in range(times):
        time.sleep(0.02)
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def _by_onnxruntime(a: np.ndarray) -> Callable[[], object]:
    matrices = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n in "abc"]
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", matrices[:2], matrices[2:])
    model = helper.make_model(
        graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]
    ).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"a": a, "b": a})


def flops_per_second() -> float:
    """Of a product of two square f32 matrices, by numpy or onnxruntime, whichever is faster."""
    a = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype("f4")
    out = np.empty_like(a)
    by_numpy = best_seconds(lambda: np.matmul(a, a, out=out))
    return 2.0 * SIZE**3 / min(by_numpy, best_seconds(_by_onnxruntime(a)))


def bytes_per_second() -> float:
    """Read and written, each counted, by one copy in each thread."""
    pairs = [(np.ones(BYTES, "u1"), np.ones(BYTES, "u1")) for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        copy = lambda pair: np.copyto(*pair)  # noqa: E731
        seconds = best_seconds(lambda: list(pool.map(copy, pairs)))
    return 2.0 * BYTES * THREADS / seconds


if __name__ == "__main__":
    json.dump({"flops": flops_per_second(), "bytes": bytes_per_second()}, sys.stdout)
