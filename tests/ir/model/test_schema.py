"""Types that were inferred before are remembered, where they depend on what they are asked with."""

import numpy as np
import pytest

from graphopt.ir.model.schema import AttrDef, Formal, OpDef, infer
from graphopt.ir.types.types import TensorType, inferred

F32 = TensorType(np.dtype("f4"), (2, 3))


def counting(calls, **options):
    """A definition of ours that notes each inference in ``calls``."""

    def own(types, attrs):
        calls.append((tuple(types), dict(attrs)))
        return [inferred(types[0])]

    attributes = {"k": AttrDef("INT", required=True, default=None)}
    formals = (Formal("x"),)
    return OpDef("Own", "graphopt", 1, formals, (Formal("y"),), attributes, infer=own, **options)


@pytest.mark.parametrize(
    ("types", "attrs", "count"),
    [
        ([F32], {"k": 1}, 1),
        ([F32], {"k": 2}, 2),
        ([TensorType(np.dtype("f8"), (2, 3))], {"k": 1}, 2),
        ([TensorType(np.dtype("f4"), (3, 2))], {"k": 1}, 2),
    ],
)
def test_equal_questions_are_asked_once(types, attrs, count):
    calls: list = []
    definition = counting(calls)
    for _ in range(2):
        assert infer(definition, [F32], {}, {"k": 1}, 1) == [inferred(F32)]
        assert infer(definition, types, {}, attrs, 1) == [inferred(types[0])]
    assert len(calls) == count


def test_another_definition_of_the_name_is_another_question():
    calls: list = []
    for _ in range(2):
        infer(counting(calls), [F32], {}, {"k": 1}, 1)
    assert len(calls) == 2


def test_an_op_with_blocks_is_asked_each_time():
    """What it gives changes with its blocks."""
    calls: list = []
    definition = counting(calls, has_blocks=True)
    for _ in range(2):
        infer(definition, [F32], {}, {"k": 1}, 1)
    assert len(calls) == 2
