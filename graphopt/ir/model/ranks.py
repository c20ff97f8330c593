"""The ranks that an op demands of its operands, for values of which nothing tells the rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType

Attrs = Mapping[str, Any]
Operands = Sequence["Variable | None"]
RanksRule = Callable[[Attrs, Operands], Mapping[int, "int | None"]]  # ranks by operand

FIXED: Mapping[str, Mapping[int, int]] = {
    "AffineGrid": {0: 3},
    "BatchNormalization": {1: 1, 2: 1, 3: 1, 4: 1},
    "Col2Im": {0: 3},
    "DepthToSpace": {0: 4},
    "Gemm": {0: 2, 1: 2},
    "GroupNormalization": {1: 1, 2: 1},
    "InstanceNormalization": {1: 1, 2: 1},
    "GRU": {0: 3, 1: 3, 2: 3, 3: 2, 4: 1, 5: 3},
    "LSTM": {0: 3, 1: 3, 2: 3, 3: 2, 4: 1, 5: 3, 6: 3, 7: 2},
    "MaxRoiPool": {0: 4, 1: 2},
    "RNN": {0: 3, 1: 3, 2: 3, 3: 2, 4: 1, 5: 3},
    "RoiAlign": {0: 4, 1: 2, 2: 1},
    "SpaceToDepth": {0: 4},
    "STFT": {0: 3, 2: 1},
    "ai.onnx.preview::FlexAttention": {0: 4, 1: 4, 2: 4},
}


def _attended(attrs: Attrs, operands: Operands) -> dict[int, int | None]:
    """With the number of heads as an attribute, the heads share a dim."""
    rank = 3 if attrs.get("q_num_heads") else 4
    return {0: rank, 1: rank, 2: rank, 4: 4, 5: 4}


def _pooled(attrs: Attrs, operands: Operands) -> dict[int, int | None]:
    return {0: 2 + len(attrs["kernel_shape"])}


def _convolved(attrs: Attrs, operands: Operands) -> dict[int, int | None]:
    """Image and filter have the same rank; pads hold two numbers for each spatial dim."""
    lengths = {len(attrs.get(name) or ()) for name in ("kernel_shape", "strides", "dilations")}
    spatial = max(*lengths, len(attrs.get("pads") or ()) // 2)
    found = [v.tensor_type.rank for v in operands[:2] if v is not None] + [2 + spatial]
    rank = next((r for r in found if r is not None and r > 2), None)
    return {0: rank, 1: rank, 2: 1}


def _summed(attrs: Attrs, operands: Operands) -> dict[int, int | None]:
    """One dim per letter."""
    terms = attrs["equation"].replace(" ", "").partition("->")[0].split(",")
    return {k: None if "." in t else len(t) for k, t in enumerate(terms)}


def _resized(attrs: Attrs, operands: Operands) -> dict[int, int | None]:
    """One scale or size for each dim."""
    given = next((v for v in operands[2:] if v is not None), None)
    shape = None if given is None or attrs.get("axes") else given.tensor_type.shape
    return {0: shape[0] if shape and isinstance(shape[0], int) else None}


RANKS_RULES: Mapping[str, RanksRule] = {
    "Attention": _attended,
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), _pooled),
    **dict.fromkeys(("Conv", "ConvTranspose"), _convolved),
    "Einsum": _summed,
    "Resize": _resized,
}


def settle(type: str, operands: Operands, attrs: Attrs, fresh: Callable[[], str]) -> None:
    """Give operands of unknown rank the one that the op needs, with symbols for dims."""
    if not any(v is not None and v.tensor_type.shape is None for v in operands):
        return
    open_ = {k: v for k, v in enumerate(operands) if v is not None and _is_open(v)}
    ranks = RANKS_RULES[type](attrs, operands) if type in RANKS_RULES else FIXED.get(type, {})
    for k, v in open_.items():
        rank = ranks.get(k)
        if rank is not None:
            v.tensor_type = TensorType(v.dtype, tuple(fresh() for _ in range(rank)))


def _is_open(v: Variable) -> bool:
    return isinstance(v.tensor_type, TensorType) and v.tensor_type.shape is None
