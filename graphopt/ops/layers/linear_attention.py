"""Linear attention as a scan over time, through which it is differentiated."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.edit import control
from graphopt.ir.edit.control import Results
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.registry.cases import case
from graphopt.ops.registry.registry import decomposition

F32 = np.dtype(np.float32)
TWO = {"q_num_heads": 2, "kv_num_heads": 2}
GROUPED = {"q_num_heads": 4, "kv_num_heads": 2}


@decomposition(
    "LinearAttention",
    cases=[
        case(
            query=(2, 3, 4),
            key=(2, 3, 4),
            value=(2, 3, 6),
            attrs={**TWO, "update_rule": "linear"},
            results=2,
        ),
        case(
            query=(2, 3, 8),
            key=(2, 3, 4),
            value=(2, 3, 6),
            past_state=(2, 2, 2, 3),
            decay=(2, 3, 4),
            attrs={**GROUPED, "update_rule": "gated"},
            results=2,
        ),
        case(
            query=(2, 3, 8),
            key=(2, 3, 4),
            value=(2, 3, 6),
            decay=(2, 3, 2),
            beta=(2, 3, 1),
            attrs={**GROUPED, "scale": 0.7},
            results=2,
        ),
    ],
)
def linear_attention(g: Tape, op: Operator) -> list[Variable]:
    """Y_t = c q_t' S_t        S_t = a_t S + k_t (b_t (v_t - k_t' a_t S))'   S: [n, k, d, e].

    query: [n, t, h d]   key: [n, t, k d]   value: [n, t, k e]   Y: [n, t, h e]. Rules without
    'gated' have a_t = 1; those without 'delta' write v_t as it is. Every h / k heads of the query
    share a state.
    """
    heads, rule = op.attrs["kv_num_heads"], op.attrs["update_rule"]
    shared = op.attrs["q_num_heads"] // heads
    q = g.Mul(_steps(g, op, "query", heads, shared, -1), _scale(g, op))  # [t, n, k, h / k, d]
    k, v = (_steps(g, op, name, heads, 1, -1) for name in ("key", "value"))
    a = [_steps(g, op, "decay", heads, -1, 1)] if "gated" in rule else []  # [t, n, k, d or 1, 1]
    b = [_steps(g, op, "beta", -1, 1, 1)] if "delta" in rule else []  # [t, n, k or 1, 1, 1]

    def step(g: Tape, states: list[Variable], now: list[Variable]) -> tuple[Results, Results]:
        S, (q, k, v, *rest) = states[0], now
        if a:
            S = g.Mul(S, g.Exp(rest[0]))
        if b:
            v = g.Mul(g.Sub(v, g.MatMul(k, S)), rest[-1])
        S = typed(g.Add(S, g.MatMul(g.swap(k), v)), states[0])
        return [S], [g.MatMul(q, S)]

    S, Y = control.scan(g, [_first_state(g, op, k, v)], [q, k, v, *a, *b], step)
    packed = g.reshape(g.Transpose(Y, perm=[1, 0, 2, 3, 4]), 0, 0, -1)
    return [
        made if like is None else g.cast(made, like.dtype)
        for made, like in zip((packed, S), [*op.outputs, None], strict=False)
    ]


def _steps(g: Tape, op: Operator, name: str, *dims: int) -> Variable:
    """An operand by time, in no less than float32: [t, n, *dims]."""
    x = op.operand(name)
    x = g.cast(x, max(x.dtype, F32, key=_itemsize))
    return g.Transpose(g.reshape(x, 0, 0, *dims), perm=[1, 0, 2, 3, 4])


def _scale(g: Tape, op: Operator) -> float | Variable:
    """The factor of the result; 1 / sqrt(d) if it is not given."""
    query, given = op.operand("query"), op.attrs["scale"]
    assert query.tensor_type.shape is not None
    width, heads = query.tensor_type.shape[2], op.attrs["q_num_heads"]
    if given:
        return float(given)
    if isinstance(width, int):
        return 1.0 / math.sqrt(width // heads)
    depth = g.cast(g.Div(g.dim_of(query, 2), heads), max(query.dtype, F32, key=_itemsize))
    found: Variable = g.Reciprocal(g.Sqrt(depth))
    return found


def _itemsize(dtype: np.dtype) -> int:
    return dtype.itemsize


def _first_state(g: Tape, op: Operator, k: Variable, v: Variable) -> Variable:
    """The state before the first step: zeros if none is given."""
    past = op.maybe("past_state")
    if past is not None:
        return g.cast(past, k.dtype)
    shape = g.dims(g.dim_of(k, 1), op.attrs["kv_num_heads"], g.dim_of(k, 4), g.dim_of(v, 4))
    zeros: Variable = g.Expand(g.full(0.0, k), shape)
    return zeros
