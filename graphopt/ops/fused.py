"""onnxruntime's product with flags: a batch of matrices, transposed without being moved.

Its optimizer writes the op itself, but not where it has merged the transpose with another one. No
file holds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphopt.ir.schema import Attr, AttrDef, Formal, OpDef, register_composite
from graphopt.ir.types import Inferred, TensorType

PRODUCT = "com.microsoft::FusedMatMul"


def _multiplied(types: Sequence[TensorType | None], attrs: Mapping[str, Attr]) -> list[Inferred]:
    a, b = types
    assert a is not None
    assert b is not None
    assert a.shape is not None
    assert b.shape is not None
    row = a.shape[-1 if attrs["transA"] else -2]
    column = b.shape[-2 if attrs["transB"] else -1]
    return [Inferred(a.dtype, (*a.shape[:-2], row, column))]


register_composite(
    OpDef(
        PRODUCT,
        "com.microsoft",
        1,
        (Formal("A"), Formal("B")),
        (Formal("Y"),),
        {
            "transA": AttrDef("INT", required=False, default=0),
            "transB": AttrDef("INT", required=False, default=0),
        },
        infer=_multiplied,
    )
)
