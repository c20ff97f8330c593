"""Attention: means of values, weighted by how well keys match a query."""

from __future__ import annotations

import math

import numpy as np

from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.nn.functional.common import dropout
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, named


def attention_weights(
    g: Tape, q: Variable, k: Variable, mask: TensorLike | None, *, causal: bool = False
) -> Variable:
    """softmax(q kᵀ / √d + mask): how much each query takes from each key.

    q: [*n, t, d]   k: [*n, s, d]   mask: broadcasts to [*n, t, s]   result: [*n, t, s]

    A bool mask is True where a query may take from a key. With ``causal`` the t-th query takes from
    the first t keys only.
    """
    scaled = g.Mul(q, g.const(1 / math.sqrt(q.shape[-1]), q.dtype))
    scores = g.MatMul(scaled, g.swap(k))  # [*n, t, s]
    blocked = g.const(-np.inf, q.dtype)
    if causal:
        sizes = g.Concat(g.dim_of(q, -2), g.dim_of(k, -2), axis=0)  # t, s
        scores = g.Where(g.Trilu(g.Expand(g.const(True), sizes), upper=0), scores, blocked)
    if mask is not None:
        bias = as_variable(g, mask)
        allowed = bias.dtype == np.bool_
        scores = g.Where(bias, scores, blocked) if allowed else g.Add(scores, bias)
    return g.Softmax(scores, axis=-1)


def scaled_dot_product_attention(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    attn_mask: TensorLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    training: bool = True,
    name: str | None = None,
) -> Variable:
    """softmax(q kᵀ / √d + mask) v for each head: values mixed by how well their keys match a query.

    query: [n, t, h, d]   key, value: [n, s, h, d]   result: [n, t, h, d]

    ``attn_mask`` broadcasts to [n, h, t, s]: bools, True where a query may take from a key, or
    floats that are added. With ``is_causal`` the t-th query takes from the first t keys only. While
    ``training``, ``dropout_p`` is the probability with which a weight of the mixture is dropped.

    Vaswani et al.: Attention Is All You Need, 2017.

    >>> tokens = image.program.global_block().create_var("tokens", ["N", 5, 2, 8])
    >>> scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True)
    <Variable transpose_4 : f32[N, 5, 2, 8]>

    Raises:
        ArgumentTypeError: ``dropout_p`` is not a number.
        ArgumentError: it is not in [0, 1].
    """
    g = recorder(query, key, value, attn_mask)
    q, k, v = (g.Transpose(as_variable(g, x), perm=[0, 2, 1, 3]) for x in (query, key, value))
    weights = attention_weights(g, q, k, attn_mask, causal=is_causal)  # [n, h, t, s]
    weights = dropout(weights, dropout_p, training=training) if dropout_p else weights
    return named(g.Transpose(g.MatMul(weights, v), perm=[0, 2, 1, 3]), name)
