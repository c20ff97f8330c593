"""Every composite: its trace types it, and as a function it computes what its body says."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.text.verify import verify
from graphopt.onnxio.write import inlined, lower
from graphopt.ops.registry.cases import Draw
from graphopt.ops.registry.registry import COMPOSITES
from graphopt.passes.select.functional import functional

ALL = [
    pytest.param(card, case, id=f"{name}-{number}")
    for name, card in sorted(COMPOSITES.items())
    for number, case in enumerate(card.cases)
]


def declare(program, card, case, rng, dtype):
    values: dict[str, np.ndarray] = {}
    operands: list[Variable | None] = []
    for name in card.input_names:
        spec = case.inputs.get(name)
        if spec is None:
            operands.append(None)
            continue
        assert isinstance(spec, Draw)
        value = spec.sample(rng, spec.shape)
        value = value.astype(dtype) if value.dtype.kind == "f" else value
        variable = program.global_block().create_var(name, value.shape, value.dtype)
        variable.persistable = name in card.updates
        variable.is_data = not variable.persistable
        values[name] = value
        operands.append(variable)
    return values, operands


def record(card, case, rng, dtype="f4"):
    """The composite as one op, and its body written out, in one Program."""
    program = Program()
    values, operands = declare(program, card, case, rng, dtype)
    body = card.body(Tape(program.global_block()), *operands, **case.attrs)
    present = [name for name in card.updates if name in body]
    state = [program.global_block().var(name) for name in present]
    program.recorder().emit(card.type, *operands, into=state, **case.attrs)
    return (
        program,
        values,
        [v for v in operands if v is not None],
        [body[n] for n in present],
        state,
    )


@pytest.mark.parametrize(("card", "case"), ALL)
def test_function_equals_body(card, case, rng):
    program, values, inputs, body, state = record(card, case, rng)
    verify(program)
    lowered = lower(functional(program, fetch=body, feed=[v.name for v in inputs]))
    onnx.checker.check_model(lowered.model, full_check=True)
    assert [f.name for f in lowered.model.functions] == [card.type]
    for model in (lowered.model, inlined(lowered.model)):
        session = ort.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        names = [*lowered.fetched, *lowered.next_state.values()]
        found = session.run(names, values)
        for expected, actual in zip(found[: len(body)], found[len(body) :], strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("card", "case"), ALL)
def test_results_have_the_types_of_what_they_replace(card, case, rng):
    for dtype in ("f4", "f8"):
        program, _, inputs, body, state = record(card, case, rng, dtype)
        assert [v.tensor_type for v in body] == [v.tensor_type for v in state]
        assert program.global_block().ops[-1].type == card.type
        assert inputs


def test_two_traces_are_two_functions(rng):
    card = COMPOSITES["ASGD"]
    program = Program()
    block = program.global_block()
    lr = block.create_var("lr", [])
    for prefix, n in (("a", 3), ("b", 3), ("c", 4)):
        w, d, dw = (block.create_var(f"{prefix}{k}", [2], persistable=k != "dw")
                    for k in ("w", "d", "dw"))  # fmt: skip
        y = block.create_var(f"{prefix}y", [n, 2], persistable=True)
        m = block.create_var(f"{prefix}m", [1], "int64", persistable=True)
        program.recorder().emit("ASGD", w, dw, d, y, m, lr, into=[w, d, y, m])
    model = lower(functional(program)).model
    assert [f.name for f in model.functions] == ["ASGD", "ASGD_1"]
    assert [node.op_type for node in model.graph.node] == ["ASGD", "ASGD", "ASGD_1"]
    assert card.updates == ("w", "d", "y", "m")
