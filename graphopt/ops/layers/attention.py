"""Attention and rotary embeddings in terms of products, so that scores are not kept but redone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import Dim, from_onnx_dtype
from graphopt.ops.registry.cases import Draw, bools, case, fixed, ints
from graphopt.ops.registry.registry import Grad, decomposition
from graphopt.ops.tools.counting import up_to

HEADS: dict[str, Any] = {"Q": (2, 2, 3, 4), "K": (2, 2, 5, 4), "V": (2, 2, 5, 3)}
PAST: dict[str, Any] = {"past_key": (2, 2, 2, 4), "past_value": (2, 2, 2, 3)}
PACKED: dict[str, Any] = {"Q": fixed((2, 3, 8)), "K": fixed((2, 4, 4)), "V": fixed((2, 4, 6))}
CACHED = Draw((2,), lambda *_: np.array([3, 5]))  # valid keys


@decomposition(
    "Attention",
    cases=[
        case(**HEADS),
        case(**HEADS, attn_mask=bools((3, 5)), attrs={"is_causal": 1, "scale": 0.25}),
        case(**HEADS, attn_mask=(2, 1, 3, 5), attrs={"softcap": 1.5}),
        case(Q=(2, 4, 3, 4), K=(2, 2, 5, 4), V=(2, 2, 5, 3), attn_mask=(4, 3, 5)),
        case(**PACKED, attrs={"q_num_heads": 4, "kv_num_heads": 2, "is_causal": 1}),
        case(**HEADS, **PAST, attrs={"is_causal": 1}, results=3),
        case(**HEADS, nonpad_kv_seqlen=CACHED, attn_mask=(3, 5), attrs={"is_causal": 1}),
    ],
    nondiff=["nonpad_kv_seqlen"],
)
def attention(g: Tape, op: Operator) -> list[Grad]:
    """Y = softmax(c Q K' + mask) V        Q: [n, h, q, d]   K: [n, k, s, d]   V: [n, k, s, e].

    Y: [n, h, q, e]. Heads may be packed: Q: [n, q, h d] and so on. Every h / k heads of Q share
    one of K and V. The keys and values of the past go before K and V.
    """
    Q = _unpacked(g, op, "Q", "q_num_heads")
    K, V = (_with_past(g, op, *names) for names in (("K", "past_key"), ("V", "past_value")))
    scores = _times(g, g.Mul(Q, _scale(g, op, Q)), g.swap(K))  # [n, h, q, s]
    capped = _capped(g, op, scores)
    masked = _masked(g, op, capped, K)
    P = _probabilities(g, op, masked)
    Y = g.cast(_times(g, g.cast(P, V.dtype), V), Q.dtype)
    shown = [scores, capped, masked, P][op.attrs["qk_matmul_output_mode"]]
    return [_packed(g, op, Y), K, V, shown]


@decomposition(
    "RotaryEmbedding",
    cases=[
        case(X=(2, 3, 4, 6), cos_cache=(2, 4, 3), sin_cache=(2, 4, 3)),
        case(
            X=(2, 4, 12),
            cos_cache=(5, 3),
            sin_cache=(5, 3),
            position_ids=ints((2, 4), 5),
            attrs={"num_heads": 2, "interleaved": 1},
        ),
        case(
            X=(2, 3, 4, 6),
            cos_cache=(5, 1),
            sin_cache=(5, 1),
            position_ids=ints((2, 4), 5),
            attrs={"rotary_embedding_dim": 2},
        ),
    ],
    nondiff=["position_ids"],
)
def rotary_embedding(g: Tape, op: Operator) -> Variable:
    """Y = pairs of X turned by their angles        X, Y: [n, h, t, d]   sin, cos: [n, t, r / 2].

    Heads may be packed: X: [n, t, h d]. With positions the angles are rows of sin, cos: [m, r / 2].
    Elements after the first r are copied.
    """
    X = _unpacked(g, op, "X", "num_heads")
    cos, sin = _angles(g, op, "cos_cache"), _angles(g, op, "sin_cache")
    r = op.attrs["rotary_embedding_dim"]
    turned = g.Slice(X, [0], [r], [-1]) if r else X
    a, b = _pairs(g, op, turned)
    real, imaginary = g.Sub(g.Mul(cos, a), g.Mul(sin, b)), g.Add(g.Mul(sin, a), g.Mul(cos, b))
    if op.attrs["interleaved"]:
        both = [g.Unsqueeze(part, [-1]) for part in (real, imaginary)]
        Y = g.reshape(g.Concat(*both, axis=-1), 0, 0, 0, -1)
    else:
        Y = g.Concat(real, imaginary, axis=-1)
    if r:
        Y = g.Concat(Y, g.Slice(X, [r], [np.iinfo(np.int64).max], [-1]), axis=-1)
    return _packed(g, op, Y)


def _unpacked(g: Tape, op: Operator, name: str, heads: str) -> Variable:
    """An operand as [n, h, t, d]."""
    x = op.operand(name)
    if x.ndim == 4:
        return x
    return g.Transpose(g.reshape(x, 0, 0, op.attrs[heads], -1), perm=[0, 2, 1, 3])


def _packed(g: Tape, op: Operator, Y: Variable) -> Variable:
    """[n, h, t, d] as the op's first operand has it."""
    if next(op.reads()).ndim == 4:
        return Y
    return g.reshape(g.Transpose(Y, perm=[0, 2, 1, 3]), 0, 0, -1)


def _with_past(g: Tape, op: Operator, name: str, past: str) -> Variable:
    new, old = _unpacked(g, op, name, "kv_num_heads"), op.maybe(past)
    return new if old is None else g.Concat(old, new, axis=2)


def _dim(x: Variable, axis: int) -> Dim:
    return (x.tensor_type.shape or ())[axis % x.ndim]


def _scale(g: Tape, op: Operator, Q: Variable) -> Variable:
    """The factor of the scores; 1 / sqrt(d) if it is not given."""
    d = _dim(Q, 3)
    if "scale" in op.attrs:
        return g.full(float(np.float32(op.attrs["scale"])), Q)  # as a model holds it
    if isinstance(d, int):
        return g.full(1.0 / math.sqrt(d), Q)
    found: Variable = g.Reciprocal(g.Sqrt(g.cast(g.dim_of(Q, -1), Q.dtype)))
    return found


def _times(g: Tape, A: Variable, B: Variable) -> Variable:
    """A B, for groups of heads of A that share one of B: [n, h, q, b].

    A: [n, h, q, a]   B: [n, k, a, b]
    """
    if _dim(A, 1) == _dim(B, 1):
        return g.MatMul(A, B)
    rows = g.reshape(A, 0, g.dim_of(B, 1), -1, 0)  # [n, k, (h / k) q, a]
    return g.reshape(g.MatMul(rows, B), 0, g.dim_of(A, 1), -1, 0)


def _capped(g: Tape, op: Operator, scores: Variable) -> Variable:
    cap = float(np.float32(op.attrs["softcap"]))  # as a model holds it
    return g.Mul(g.Tanh(g.Div(scores, cap)), cap) if cap else scores


def _masked(g: Tape, op: Operator, scores: Variable, K: Variable) -> Variable:
    """Scores with the mask added, -inf where a query may not see a key: [n, h, q, s]."""
    mask = _mask(g, op, K)
    seen = _seen(g, op, scores)
    if mask is not None and mask.dtype == np.bool_:
        seen.append(mask)
    elif mask is not None:
        scores = g.Add(scores, mask)
    if not seen:
        return scores
    allowed = seen[0]
    for condition in seen[1:]:
        allowed = g.And(allowed, condition)
    return g.Where(allowed, scores, -math.inf)


def _mask(g: Tape, op: Operator, K: Variable) -> Variable | None:
    """The mask; keys that it lacks at the end are not seen."""
    mask = op.maybe("attn_mask")
    if mask is None or _dim(mask, -1) == _dim(K, 2):
        return mask
    lacking = g.dims(0, g.Sub(g.dim_of(K, 2), g.dim_of(mask, -1)))
    fill = None if mask.dtype == np.bool_ else -math.inf
    return g.Pad(mask, lacking, fill, [-1])


def _seen(g: Tape, op: Operator, scores: Variable) -> list[Variable]:
    """Conditions for a query to see a key, by their positions: broadcast to [n, h, q, s]."""
    left, right = (op.attrs.get(f"{side}_window_size", -1) for side in ("left", "right"))
    right = 0 if op.attrs["is_causal"] else right
    cached = op.maybe("nonpad_kv_seqlen")
    keys = up_to(g, g.dim_of(scores, 3))  # [s]
    seen: list[Variable] = []
    if left >= 0 or right >= 0:
        ahead = g.Sub(keys, _query_positions(g, op, scores))  # [q, s] or [n, 1, q, s]
        seen += [g.LessOrEqual(ahead, right)] if right >= 0 else []
        seen += [g.GreaterOrEqual(ahead, -left)] if left >= 0 else []
    if cached is not None:
        seen.append(g.Less(keys, g.Unsqueeze(cached, [1, 2, 3])))  # [n, 1, 1, s]
    return seen


def _query_positions(g: Tape, op: Operator, scores: Variable) -> Variable:
    """The position of each query among the keys: [q, 1], or [n, 1, q, 1] with an outer cache."""
    count, past, cached = g.dim_of(scores, 2), op.maybe("past_key"), op.maybe("nonpad_kv_seqlen")
    rows: Variable = g.Unsqueeze(up_to(g, count), [1])
    if past is not None:
        rows = g.Add(rows, g.dim_of(past, 2))
    elif cached is not None:
        rows = g.Add(rows, g.Unsqueeze(g.Sub(cached, count), [1, 2, 3]))
    return rows


def _probabilities(g: Tape, op: Operator, masked: Variable) -> Variable:
    """Softmax over the keys in no less than the scores' precision; 0 where a query sees none."""
    dtype = masked.dtype
    stated = from_onnx_dtype(op.attrs.get("softmax_precision", 1))
    masked = g.cast(masked, max(dtype, stated, key=lambda t: t.itemsize))
    highest = g.ReduceMax(masked, [-1], keepdims=1)
    some = g.Greater(highest, -math.inf)  # [n, h, q, 1]
    P = g.Softmax(g.Where(some, masked, 0.0), axis=-1)
    return g.cast(g.Mul(P, g.cast(some, P.dtype)), dtype)


def _angles(g: Tape, op: Operator, name: str) -> Variable:
    """The cosines or sines: [n, 1, t, r / 2]."""
    cache, positions = op.operand(name), op.maybe("position_ids")
    rows = cache if positions is None else g.Gather(cache, positions, axis=0)  # [n, t, r / 2]
    return g.Unsqueeze(rows, [1])


def _pairs(g: Tape, op: Operator, x: Variable) -> tuple[Variable, Variable]:
    """The first and the second number of each pair: [n, h, t, r / 2]."""
    if op.attrs["interleaved"]:
        pairs = g.reshape(x, 0, 0, 0, -1, 2)
        a, b = g.Split(pairs, axis=-1, num_outputs=2, outputs=2)
        return g.Squeeze(a, [-1]), g.Squeeze(b, [-1])
    a, b = g.Split(x, axis=-1, num_outputs=2, outputs=2)
    return a, b
