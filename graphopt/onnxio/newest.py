"""Definitions newer than onnxruntime that mean what an older one means, which can stand in."""

from __future__ import annotations

from functools import cache

from graphopt.ir.model.schema import OpDef, op_def
from graphopt.onnxio.ort_gaps import NEWEST_OPSET

# Worded anew, or with further dtypes and attributes; alike for what the older definition takes.
REWORDED = frozenset({"BitShift", "Mod", "Range", "SpaceToDepth"})


@cache
def is_restated(type: str, opset: int) -> bool:
    """Whether an op's definition at ``opset`` only adds to the last one that onnxruntime knows.

    An operand or an attribute that the older one does not take still needs the newer one.
    """
    if opset <= NEWEST_OPSET or "::" in type:
        return False
    newer, older = op_def(type, opset), op_def(type, NEWEST_OPSET)
    if older.since > NEWEST_OPSET or older.since == newer.since:
        return False
    return type in REWORDED or (_doc(older) == _doc(newer) and _shape(older) == _shape(newer))


def _doc(definition: OpDef) -> str:
    return "" if definition.schema is None else str(definition.schema.doc)


def _shape(definition: OpDef) -> tuple[object, ...]:
    """What a node of the op may have."""
    defaults = {name: str(a) for name, a in definition.attributes.items()}
    formals = (definition.inputs, definition.outputs)
    return (defaults, *[[(f.name, f.optional, f.variadic) for f in side] for side in formals])
