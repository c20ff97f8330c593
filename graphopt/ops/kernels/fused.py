"""Ops of onnxruntime that do what several of the standard do: ``passes.fuse`` writes them.

onnxruntime's optimizers would put them in, too, but behind all other nodes: so they run last of
what can run, wherever they are in a Program. No file holds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphopt.ir.model.schema import Attr, AttrDef, Formal, OpDef, register_composite
from graphopt.ir.types.types import Dim, Inferred, TensorType

DOMAIN = "com.microsoft"
PRODUCT = f"{DOMAIN}::FusedMatMul"  # alpha A B of stacks, each transposed or not
ACTIVATED = f"{DOMAIN}::FusedGemm"  # a function of a Gemm


def _multiplied(types: Sequence[TensorType | None], attrs: Mapping[str, Attr]) -> list[Inferred]:
    a, b = types[0], types[1]
    assert a is not None
    assert b is not None
    if a.shape is None or b.shape is None or a.shape[:-2] != b.shape[:-2]:
        return [Inferred(a.dtype, None)]
    rows: Dim = a.shape[-1 if attrs["transA"] else -2]
    columns: Dim = b.shape[-2 if attrs["transB"] else -1]
    return [Inferred(a.dtype, (*a.shape[:-2], rows, columns))]


FLAGS = {
    "transA": AttrDef("INT", required=False, default=0),
    "transB": AttrDef("INT", required=False, default=0),
    "alpha": AttrDef("FLOAT", required=False, default=1.0),
}
GEMM = FLAGS | {
    "beta": AttrDef("FLOAT", required=False, default=1.0),
    "activation": AttrDef("STRING", required=True, default=None),
}

for _definition in (
    OpDef(
        PRODUCT, DOMAIN, 1, (Formal("A"), Formal("B")), (Formal("Y"),), FLAGS, infer=_multiplied,
    ),
    OpDef(
        ACTIVATED, DOMAIN, 1, (Formal("A"), Formal("B"), Formal("C", optional=True)),
        (Formal("Y"),), GEMM, infer=_multiplied,
    ),
):  # fmt: skip
    register_composite(_definition)
