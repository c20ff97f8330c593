"""Batch normalization in blocks equals the portable one, on onnxruntime, to float32 rounding."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from graphopt.ir.model.program import Program
from graphopt.onnxio.write import lower
from graphopt.ops.registry.formulations import AS_IS, MEASURED
from graphopt.passes.kernels.formulate import Formulate
from graphopt.passes.select.functional import functional
from graphopt.runtime.ort.channel_blocks import block_size
from graphopt.runtime.ort.providers.cpu import CPUPlace

TRAINING = {"training_mode": 1, "momentum": 0.7, "epsilon": 1e-3}
OPS: dict[str, tuple[tuple[str, ...], dict[str, Any], int]] = {
    "BatchNormalization": (("X", "scale", "B", "mean", "var"), TRAINING, 3),
    "BatchNormMoved": (("dY", "X"), {"epsilon": 1e-3}, 1),
    "BatchNormSlope": (("X", "scale"), {"epsilon": 1e-3}, 1),
    "BatchNormScaleGradient": (("dY", "X", "scale"), {"epsilon": 1e-3}, 1),
    "ReduceSum": (("X", "axes"), {"keepdims": 0}, 1),
}
SHAPES = [(4, 16, 5, 6), (1, 32, 3, 3), (3, 48, 1, 7), (2, 64, 8, 8)]


@pytest.fixture(scope="module")
def machine():
    size = block_size(CPUPlace())
    if not size:
        pytest.skip("this processor's kernels have no blocks")
    return replace(MEASURED, block=size)


def recorded(type, shape, offset=0.0):
    """A Program with one op, its results and its feeds."""
    program, rng = Program(), np.random.default_rng(sum(shape))
    names, attrs, results = OPS[type]
    operands: list[Any] = []
    feeds: dict[str, np.ndarray] = {}
    for name in names:
        if name == "axes":
            operands.append(program.constant(np.array([0, 2, 3])))
            continue
        found = shape if name in ("X", "dY") else shape[1:2]
        variable = program.global_block().create_var(name, list(found))
        variable.is_data = True
        operands.append(variable)
        feeds[name] = (rng.normal(size=found) + offset * (name == "X")).astype("f4")
        feeds[name] = np.abs(feeds[name]) if name == "var" else feeds[name]
    made = program.recorder().emit(type, *operands, outputs=results, **attrs)
    return program, made if results > 1 else (made,), feeds


def run(step, feeds):
    model = lower(step).model
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {v.name: feeds[v.name] for v in step.inputs()})


def both(machine, type, shape, offset=0.0):
    """The results of the portable form and of the one in blocks."""
    program, results, feeds = recorded(type, shape, offset)
    step = functional(program, fetch=results)
    expected = run(Formulate().run(step), feeds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AS_IS, type, lambda *_: float("inf"))
        formulated = Formulate(block=machine.block).run(step)
    types = {op.type for op in formulated.global_block().ops}
    assert "com.microsoft.nchwc::GlobalAveragePool" in types
    assert type not in types
    for v in results:
        assert formulated.global_block().var(v.name).tensor_type == v.tensor_type
    return expected, run(formulated, feeds)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("type", OPS)
def test_equals_the_portable_one(machine, type, shape):
    for a, b in zip(*both(machine, type, shape), strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-5, atol=2e-6 * max(1.0, np.abs(a).max()))


@pytest.mark.parametrize("type", [type for type in OPS if type.startswith("Batch")])
def test_a_mean_far_from_0_costs_no_digits_of_the_variance(machine, type):
    """The sum of the squares less the square of the sum would leave none of them."""
    for a, b in zip(*both(machine, type, (4, 16, 6, 6), offset=4000.0), strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-3 * max(1.0, np.abs(a).max()))


@pytest.mark.parametrize(
    ("type", "shape"),
    [
        ("BatchNormalization", (4, 12, 5, 5)),
        ("BatchNormMoved", (4, 16, 5)),
        ("BatchNormScaleGradient", (4, 8, 5, 5)),
    ],
)
def test_other_channels_and_ranks_stay_portable(machine, type, shape):
    program, _, _ = recorded(type, shape)
    formulated = Formulate(block=machine.block).run(functional(program))
    assert not any("nchwc" in op.type for op in formulated.global_block().ops)
