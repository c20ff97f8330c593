"""Every op of the standard has its place: a rule, a decomposition, a body, or a reason for zero."""

import onnx
import pytest

from graphopt.errors import GradientError
from graphopt.ir.model.program import Program
from graphopt.ops.registry.registry import CARDS, DECOMPOSITIONS, ZERO
from graphopt.passes.gradients.backward import gradients

BY_THE_ENGINE = {"If", "Loop", "Scan", "SequenceMap"}  # their blocks are differentiated
REFUSED = {"BitCast"}  # numbers of one type read as another's bits: no derivative to speak of


def standard():
    """The newest definition of every op that is not deprecated."""
    names = {s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}
    newest = [onnx.defs.get_schema(name, onnx.defs.onnx_opset_version(), "") for name in names]
    return [s for s in newest if not s.deprecated]


def test_every_op_has_a_place():
    known = {*CARDS, *DECOMPOSITIONS, *ZERO, *BY_THE_ENGINE, *REFUSED}
    bodies = {s.name for s in standard() if s.has_function or s.has_context_dependent_function}
    assert {s.name for s in standard()} - known - bodies == set()


def test_an_op_has_one_place():
    assert not set(ZERO) & {*CARDS, *DECOMPOSITIONS}


def test_bits_read_as_another_type_are_refused():
    program = Program()
    x = program.global_block().create_var("x", [2], "float32")
    y = program.recorder().BitCast(x, to=onnx.TensorProto.FLOAT)
    with pytest.raises(GradientError, match="BitCast"):
        gradients([y], [x])
