"""Attention as a layer."""

from __future__ import annotations

from graphopt.errors import ArgumentError
from graphopt.ir.tape import Tape
from graphopt.ir.variable import Variable
from graphopt.ir.where import here
from graphopt.nn import functional
from graphopt.nn.functional.attention import attention_weights
from graphopt.nn.layer.common import Linear
from graphopt.nn.layer.layers import Layer, LayerAttr
from graphopt.scoping import recorder
from graphopt.tensor.manipulation import reshape
from graphopt.tensor.operands import TensorLike


class MultiHeadAttention(Layer):
    """Attention in several heads between linear maps.

    query: [n, t, embed_dim]   key: [n, s, kdim]   value: [n, s, vdim]   result: [n, t, embed_dim]

    A bool ``attn_mask`` is False where blocked, a float one is added; it broadcasts to
    [n, num_heads, t, s]. With need_weights the weights are given too.

    >>> tokens = image.program.global_block().create_var("tokens", ["N", 5, 8])
    >>> MultiHeadAttention(8, num_heads=2)(tokens)
    <Variable add_3 : f32[N, 5, 8]>

    Raises:
        ArgumentError: num_heads does not divide embed_dim.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        kdim: int | None = None,
        vdim: int | None = None,
        need_weights: bool = False,
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ArgumentError(
                f"MultiHeadAttention: {num_heads} heads do not divide {embed_dim}", where=here()
            )
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.need_weights = need_weights
        attrs = weight_attr, bias_attr
        self.q_proj = Linear(embed_dim, embed_dim, *attrs)
        self.k_proj = Linear(embed_dim if kdim is None else kdim, embed_dim, *attrs)
        self.v_proj = Linear(embed_dim if vdim is None else vdim, embed_dim, *attrs)
        self.out_proj = Linear(embed_dim, embed_dim, *attrs)

    def forward(
        self,
        query: TensorLike,
        key: TensorLike | None = None,
        value: TensorLike | None = None,
        attn_mask: TensorLike | None = None,
    ) -> Variable | tuple[Variable, Variable]:
        """The mixed values; key and value are the query unless given."""
        key = query if key is None else key
        g = recorder(query, key, value, attn_mask)
        q = self._heads(g, self.q_proj.forward(query))  # [n, h, t, d]
        k = self._heads(g, self.k_proj.forward(key))  # [n, h, s, d]
        v = self._heads(g, self.v_proj.forward(key if value is None else value))
        weights = attention_weights(g, q, k, attn_mask)  # [n, h, t, s]
        if self.dropout:
            weights = functional.dropout(weights, self.dropout, training=self.training)
        mixed = g.Transpose(g.MatMul(weights, v), perm=[0, 2, 1, 3])  # [n, t, h, d]
        y = self.out_proj.forward(reshape(mixed, [0, 0, self.embed_dim]))
        return (y, weights) if self.need_weights else y

    def _heads(self, g: Tape, x: Variable) -> Variable:
        """[n, t, e] as [n, h, t, e / h]."""
        split = reshape(x, [0, 0, self.num_heads, self.embed_dim // self.num_heads])
        return g.Transpose(split, perm=[0, 2, 1, 3])

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.embed_dim}, num_heads={self.num_heads}"
