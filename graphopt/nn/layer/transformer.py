"""Attention as a layer, and the encoder made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphopt.errors import ArgumentError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.nn import functional
from graphopt.nn.functional.attention import attention_weights
from graphopt.nn.layer.common import Dropout, Linear
from graphopt.nn.layer.container import LayerList
from graphopt.nn.layer.layers import Layer, LayerAttr
from graphopt.nn.layer.norm import LayerNorm
from graphopt.scoping import recorder
from graphopt.tensor.manipulation import reshape
from graphopt.tensor.operands import TensorLike, as_variable, choice


class MultiHeadAttention(Layer):
    """Attention in several heads, between linear maps of its operands and of its result.

    query: [n, t, embed_dim]   key: [n, s, kdim]   value: [n, s, vdim]   result: [n, t, embed_dim]

    Called with (query, key, value, attn_mask); key is the query unless given, value the key.

    Args:
        embed_dim: features of queries and results.
        num_heads: heads; each has embed_dim / num_heads of the features.
        dropout: the probability with which a weight of the mixture is dropped in training.
        kdim: features of a key; ``embed_dim`` by default.
        vdim: features of a value; ``embed_dim`` by default.
        need_weights: whether the result is a pair: the mixed values and the weights, [n, num_heads,
            t, s].
        weight_attr: how the weights of the four linear maps are made.
        bias_attr: how their biases are made; False for none.

    Vaswani et al.: Attention Is All You Need, 2017.

    >>> tokens = image.program.global_block().create_var("tokens", ["N", 5, 8])
    >>> MultiHeadAttention(8, num_heads=2)(tokens)
    <Variable add_3 : f32[N, 5, 8]>

    Raises:
        ArgumentError: ``num_heads`` does not divide ``embed_dim``, or ``weight_attr`` is False.
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
        if num_heads < 1 or embed_dim % num_heads:
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
        """Record the mixture of ``value`` by how well each ``key`` matches each ``query``.

        ``attn_mask`` broadcasts to [n, num_heads, t, s]: bools, True where a query may take from a
        key, or floats that are added to the scores.
        """
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


class TransformerEncoderLayer(Layer):
    """Self-attention, then two linear maps at each place; each result is added to its input.

    src: [n, t, d_model]   result: [n, t, d_model]

    Called with (src, src_mask), a mask as in ``MultiHeadAttention``.

    Args:
        d_model: features of a place.
        nhead: heads of the attention.
        dim_feedforward: features between the two linear maps.
        dropout: the probability with which elements are dropped in training, before each sum and
            where the next two arguments do not say otherwise.
        activation: the name of the function between the linear maps, one of nn.functional.
        attn_dropout: the probability for the attention's weights.
        act_dropout: the probability behind the activation.
        normalize_before: whether each part normalizes its input; else each sum is normalized.
        weight_attr: how weights are made, or two of these: for the attention and for the linear
            maps.
        bias_attr: how biases are made, False for none; or two of these.
        layer_norm_eps: the epsilon of the two normalizations.

    Vaswani et al.: Attention Is All You Need, 2017.

    >>> tokens = image.program.global_block().create_var("tokens", ["N", 5, 8])
    >>> TransformerEncoderLayer(8, nhead=2, dim_feedforward=16)(tokens)
    <Variable layernormalization_1 : f32[N, 5, 8]>

    Raises:
        ArgumentError: ``nhead`` does not divide ``d_model``, an unknown ``activation``, or more
            than two attrs.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int,
        dropout: float = 0.1,
        activation: str = "relu",
        attn_dropout: float | None = None,
        act_dropout: float | None = None,
        normalize_before: bool = False,
        weight_attr: LayerAttr | Sequence[LayerAttr] = None,
        bias_attr: LayerAttr | Sequence[LayerAttr] = None,
        layer_norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.options = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        weights, biases = _attention_and_maps(weight_attr), _attention_and_maps(bias_attr)
        self.normalize_before = normalize_before
        self.activation = getattr(functional, choice(
            "TransformerEncoderLayer", "activation", activation, functional.__all__
        ))  # fmt: skip
        self.self_attn = MultiHeadAttention(
            d_model,
            nhead,
            dropout=dropout if attn_dropout is None else attn_dropout,
            weight_attr=weights[0],
            bias_attr=biases[0],
        )
        self.linear1 = Linear(d_model, dim_feedforward, weights[1], biases[1])
        self.dropout = Dropout(dropout if act_dropout is None else act_dropout)
        self.linear2 = Linear(dim_feedforward, d_model, weights[1], biases[1])
        self.norm1 = LayerNorm(d_model, epsilon=layer_norm_eps)
        self.norm2 = LayerNorm(d_model, epsilon=layer_norm_eps)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)

    def forward(self, src: TensorLike, src_mask: TensorLike | None = None) -> Variable:
        """Record the layer's result for ``src``; ``src_mask`` is as in ``MultiHeadAttention``."""
        x = as_variable(recorder(src, src_mask), src)
        x = self._added(x, lambda v: self.dropout1(self._attended(v, src_mask)), self.norm1)
        return self._added(x, lambda v: self.dropout2(self._mapped(v)), self.norm2)

    def _added(
        self, x: Variable, part: Callable[[Variable], Variable], norm: LayerNorm
    ) -> Variable:
        if self.normalize_before:
            return x + part(norm.forward(x))
        return norm.forward(x + part(x))

    def _attended(self, x: Variable, mask: TensorLike | None) -> Variable:
        y = self.self_attn.forward(x, attn_mask=mask)
        assert isinstance(y, Variable)
        return y

    def _mapped(self, x: Variable) -> Variable:
        hidden = self.activation(self.linear1.forward(x))
        return self.linear2.forward(self.dropout.forward(hidden))


def _attention_and_maps(
    attr: LayerAttr | Sequence[LayerAttr],
) -> tuple[LayerAttr, LayerAttr]:
    if not isinstance(attr, (list, tuple)):
        return attr, attr  # type: ignore[return-value]
    if len(attr) not in (1, 2):
        raise ArgumentError(
            f"TransformerEncoderLayer: {len(attr)} attrs are given",
            where=here(),
            fix="give one for all, or one for the attention and one for the linear maps",
        )
    return attr[0], attr[-1]


class TransformerEncoder(Layer):
    """Encoder layers one after another, each with parameters of its own.

    src: [n, t, d_model]   result: [n, t, d_model]

    ``encoder_layer`` is the first of ``num_layers`` layers, the others are made with its arguments.
    ``norm`` is a layer that is called with the last one's result.

    >>> tokens = image.program.global_block().create_var("tokens", ["N", 5, 8])
    >>> encoder = TransformerEncoder(TransformerEncoderLayer(8, 2, 16), num_layers=2)
    >>> encoder(tokens), len(encoder.parameters())
    (<Variable layernormalization_3 : f32[N, 5, 8]>, 32)
    """

    def __init__(
        self, encoder_layer: TransformerEncoderLayer, num_layers: int, norm: Layer | None = None
    ) -> None:
        super().__init__()
        others = [type(encoder_layer)(**encoder_layer.options) for _ in range(num_layers - 1)]
        self.layers = LayerList([encoder_layer, *others])
        self.norm = norm

    def forward(self, src: TensorLike, src_mask: TensorLike | None = None) -> Variable:
        """Record the layers' result for ``src``; ``src_mask`` is as in ``MultiHeadAttention``."""
        y = as_variable(recorder(src, src_mask), src)
        for layer in self.layers:
            y = layer(y, src_mask)
        return y if self.norm is None else self.norm(y)
