"""Every formula: as a function in a file it computes what its portable body says."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.onnxio.write import inlined, lower
from graphopt.ops.registry.cases import Draw
from graphopt.ops.registry.registry import FORMULAS
from graphopt.passes.kernels.formulate import Formulate
from graphopt.passes.select.functional import functional

ALL = [
    pytest.param(card, case, id=f"{name}-{number}")
    for name, card in sorted(FORMULAS.items())
    for number, case in enumerate(card.cases)
]


def recorded(card, case, rng):
    """A Program with the formula as one op, its result and its feeds."""
    program = Program()
    operands: list[Variable] = []
    feeds = {}
    for name in card.input_names:
        spec = case.inputs[name]
        if not isinstance(spec, Draw):
            operands.append(program.constant(np.asarray(spec)))
            continue
        feeds[name] = spec.sample(rng, spec.shape).astype("f4")
        variable = program.global_block().create_var(name, spec.shape)
        variable.is_data = True
        operands.append(variable)
    result: Variable = program.recorder().emit(card.type, *operands, **case.attrs)
    return program, result, feeds


def evaluate(model, feeds):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})[0]


@pytest.mark.parametrize(("card", "case"), ALL)
def test_function_equals_body(card, case, rng):
    program, result, feeds = recorded(card, case, rng)
    step = functional(program, fetch=[result], feed=[*feeds])
    lowered = lower(step)
    onnx.checker.check_model(lowered.model, full_check=True)
    assert [f.name for f in lowered.model.functions] == [card.type]
    portable = Formulate().run(step)
    assert card.type not in [op.type for op in portable.global_block().ops]
    body = lower(portable).model
    expected = evaluate(body, feeds)
    assert expected.shape == tuple(result.shape)
    for model in (lowered.model, inlined(lowered.model)):
        np.testing.assert_allclose(evaluate(model, feeds), expected, rtol=1e-6, atol=1e-6)
