"""Every card's gradient runs in float32 on onnxruntime and agrees with the reference evaluator."""

import numpy as np
import onnx.reference
import pytest

from graphopt.onnxio.ort_gaps import UNKNOWN_OPS
from graphopt.onnxio.write import inlined, lower
from graphopt.passes.gradients.backward import gradients
from graphopt.passes.select.decompose import Decompose
from graphopt.passes.select.functional import functional
from tests.ops.harness import NEW_OPS, build
from tests.ops.test_gradients import ALL

RANDOM = {"Dropout"}  # the two evaluators draw other numbers


def run_onnxruntime(model, feeds):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


@pytest.mark.parametrize(("card", "case", "symbolic"), ALL)
def test_gradient_runs(card, case, symbolic, rng):
    built = build(card.type, case, rng, symbolic=symbolic, dtype="f4")
    g = built.program.recorder()
    seeds = [g.Sin(g.Add(result, 1.0)) for result in built.results]
    found = gradients(built.results, built.wrt, seeds)
    fetch = [v for v in found if v is not None]
    step = Decompose(UNKNOWN_OPS).run(functional(built.program, fetch=fetch))
    model = inlined(lower(step).model)
    feeds = {i.name: built.feeds[i.name] for i in model.graph.input}
    expected = onnx.reference.ReferenceEvaluator(model, new_ops=NEW_OPS).run(None, feeds)
    for value, right in zip(run_onnxruntime(model, feeds), expected, strict=True):
        assert value.dtype == right.dtype
        assert value.shape == right.shape
        if card.type not in RANDOM:
            np.testing.assert_allclose(value, right, rtol=1e-4, atol=1e-4)
