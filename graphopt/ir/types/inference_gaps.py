"""What onnx's type inference gets wrong, or leaves open although the rank is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from graphopt.ir.types.equation import broadcast, explicit
from graphopt.ir.types.types import Dim, Inferred, TensorType

Open: TypeAlias = "Dim | None"
Dims: TypeAlias = "tuple[Open, ...]"
Shapes: TypeAlias = Sequence[
    Any
]  # a tuple of dims for each operand, None for one that is not there
Data: TypeAlias = Mapping[int, np.ndarray]
DimsRule: TypeAlias = Callable[[Shapes, Data, Mapping[str, Any]], Sequence["Dims | None"]]

MOST_OPERANDS = 7  # of an op below


def repaired(
    type: str,
    inputs: Sequence[TensorType | None],
    data: Data,
    attrs: Mapping[str, Any],
    found: Sequence[Inferred],
) -> list[Inferred]:
    """The types that onnx found, with the dims of the op's rule below where it has one."""
    if type not in DIMS_RULES or any(t is not None and t.shape is None for t in inputs):
        return list(found)
    shapes = [None if t is None else t.shape for t in inputs]
    dims = [*DIMS_RULES[type](shapes + [None] * MOST_OPERANDS, data, attrs), *[None] * len(found)]
    return [f if d is None else replace(f, dims=d) for f, d in zip(found, dims, strict=False)]


def like_operand(shapes: Shapes, data: Data, attrs: Mapping[str, Any]) -> list[Dims | None]:
    """onnx has no inference for the op."""
    return [shapes[0]]


def array_feature_extractor(
    shapes: Shapes, data: Data, attrs: Mapping[str, Any]
) -> list[Dims | None]:
    """onnx gives no shape for a vector, which is one row."""
    x, indices = shapes[:2]
    known = all(isinstance(d, int) for d in indices)
    return [(*(x[:-1] or (1,)), int(np.prod(indices)) if known else None)]


def attention(shapes: Shapes, data: Data, attrs: Mapping[str, Any]) -> list[Dims | None]:
    """onnx gives products of open dims as 0, and no shape with an open past."""
    packed, past = len(shapes[0]) == 3, shapes[4]
    q_heads, heads = attrs.get("q_num_heads"), attrs.get("kv_num_heads")
    q = _unpacked(shapes[0], q_heads)  # [n, h, q, d]
    k, v = (_unpacked(shape, heads) for shape in shapes[1:3])  # [n, k, s, d], [n, k, s, e]
    total = _sum(k[2], past[2] if past else 0)
    result = (q[0], q[2], _product(q[1], v[3])) if packed else (*q[:3], v[3])
    return [result, (*k[:2], total, k[3]), (*v[:2], total, v[3]), (*q[:3], total)]


def _unpacked(shape: Any, heads: int | None) -> Dims:  # noqa: ANN401 - a tuple of dims
    if len(shape) == 4 or heads is None:
        return (*shape, None)[:4]
    n, t, width = shape
    return n, heads, t, width // heads if isinstance(width, int) else None


def _sum(a: Open, b: Open) -> Open:
    if a == 0 or b == 0:
        return b if a == 0 else a
    return a + b if isinstance(a, int) and isinstance(b, int) else None


def _product(a: Open, b: Open) -> Open:
    return a * b if isinstance(a, int) and isinstance(b, int) else None


def dft(shapes: Shapes, data: Data, attrs: Mapping[str, Any]) -> list[Dims | None]:
    """onnx gives no shape while the axis is open."""
    if shapes[2] is None or 2 in data:
        return [None]
    real = attrs["inverse"] and attrs["onesided"]
    return [(*[None] * (len(shapes[0]) - 1), 1 if real else 2)]


def einsum(shapes: Shapes, data: Data, attrs: Mapping[str, Any]) -> list[Dims | None]:
    """onnx gives a letter the first dim it has, even if that is 1 and another is not."""
    known = [shape for shape in shapes if shape is not None]
    terms, result = explicit(attrs["equation"], [len(shape) for shape in known])
    dims: dict[str, list[Dim]] = {}
    for term, shape in zip(terms, known, strict=True):
        for letter, dim in zip(term, shape, strict=True):
            dims.setdefault(letter, []).append(dim)
    return [tuple(broadcast(dims[letter]) for letter in result)]


def stft(shapes: Shapes, data: Data, attrs: Mapping[str, Any]) -> list[Dims | None]:
    """onnx takes an absent ``onesided`` for 0, and gives no shape while a length is open."""
    n, t, _ = shapes[0]
    length: Open = shapes[2][0] if shapes[2] else t
    if shapes[3] is not None:
        length = int(data[3].item()) if 3 in data else None
    if not isinstance(length, int):
        return [(n, None, None if attrs["onesided"] else length, 2)]
    known = 1 in data and isinstance(t, int)
    frames = (t - length) // int(data[1].item()) + 1 if known else None
    return [(n, frames, length // 2 + 1 if attrs["onesided"] else length, 2)]


def scores(shapes: Shapes, data: Data, attrs: Mapping[str, Any]) -> list[Dims | None]:
    """onnx has no inference for the op. A vector is one row."""
    return [(_rows(shapes[0]), attrs.get("targets", 1))]


def side_by_side(shapes: Shapes, data: Data, attrs: Mapping[str, Any]) -> list[Dims | None]:
    """onnx has no inference for the op. A vector is one row."""
    widths = attrs.get("inputdimensions")
    return [(_rows(shapes[0]), sum(widths) if widths else None)]


def _rows(shape: Any) -> Open:  # noqa: ANN401 - a tuple of dims
    return shape[0] if len(shape) == 2 else 1


DIMS_RULES: dict[str, DimsRule] = {
    "Attention": attention,
    "DFT": dft,
    "Einsum": einsum,
    "GroupNormalization": like_operand,
    "MeanVarianceNormalization": like_operand,
    "STFT": stft,
    "ai.onnx.ml::ArrayFeatureExtractor": array_feature_extractor,
    "ai.onnx.ml::FeatureVectorizer": side_by_side,
    "ai.onnx.ml::Imputer": like_operand,
    "ai.onnx.ml::LinearRegressor": scores,
    "ai.onnx.ml::Normalizer": like_operand,
    "ai.onnx.ml::SVMRegressor": scores,
    "ai.onnx.ml::Scaler": like_operand,
}
