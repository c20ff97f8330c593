"""One step of a recurrent layer.

A cell adds the input's share of its gates, x W_ihᵀ + b_ih, and the hidden state's, h W_hhᵀ + b_hh:
with G gates, ``hidden`` states and ``input`` features weight_ih is [G · hidden, input], weight_hh
[G · hidden, hidden], and the biases are [G · hidden]. All start from U(-1 / √hidden, 1 / √hidden).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from graphopt.errors import ArgumentError
from graphopt.initializer import Uniform
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.where import here
from graphopt.nn.layer.layers import Layer, LayerAttr, required
from graphopt.scoping import recorder
from graphopt.tensor.operands import TensorLike, as_variable, choice, need_rank, with_dims

States: TypeAlias = tuple[Variable, ...]  # the hidden state, and of LSTM the cell state: [n, h]


class Cell(Layer):
    """Base of the cells: weights, and one step.

    ``input_size`` is the number of the input's features, ``hidden_size`` that of the hidden state.
    ``weight_ih_attr``, ``weight_hh_attr``, ``bias_ih_attr`` and ``bias_hh_attr`` say how the
    parameters are made; False for a bias leaves it out.

    Raises:
        ArgumentError: ``hidden_size`` is not positive, or a weight's attr is False.
    """

    GATES = 1
    STATES = 1

    def __init__(
        self, input_size: int, hidden_size: int, weight_ih_attr: LayerAttr = None,
        weight_hh_attr: LayerAttr = None, bias_ih_attr: LayerAttr = None,
        bias_hh_attr: LayerAttr = None, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        kind = type(self).__name__
        if hidden_size <= 0:
            raise ArgumentError(
                f"{kind}: hidden_size must be positive, not {hidden_size}", where=here()
            )
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self.GATES * hidden_size
        weight = self._drawn([rows, input_size], weight_ih_attr)
        self.weight_ih = required(weight, f"{kind}: weight_ih_attr")
        weight = self._drawn([rows, hidden_size], weight_hh_attr)
        self.weight_hh = required(weight, f"{kind}: weight_hh_attr")
        self.bias_ih = self._drawn([rows], bias_ih_attr, is_bias=True)
        self.bias_hh = self._drawn([rows], bias_hh_attr, is_bias=True)

    def _drawn(
        self, shape: list[int], attr: LayerAttr, *, is_bias: bool = False
    ) -> Parameter | None:
        """A parameter from U(-1 / √hidden, 1 / √hidden), biases too."""
        bound = 1 / math.sqrt(self.hidden_size)
        initializer = Uniform(-bound, bound)
        return self.create_parameter(shape, attr, is_bias=is_bias, default_initializer=initializer)

    def project(self, g: Tape, x: Variable) -> Variable:
        """Record on ``g`` the input's share of the gates.

        x: [*n, input]   result: [*n, G · hidden]
        """
        y = g.MatMul(x, g.Transpose(self.weight_ih, perm=[1, 0]))
        return y if self.bias_ih is None else g.Add(y, self.bias_ih)

    def recur(self, g: Tape, hidden: Variable) -> Variable:
        """Record on ``g`` the hidden state's share of the gates.

        hidden: [n, hidden]   result: [n, G · hidden]
        """
        share: Variable = g.Gemm(hidden, self.weight_hh, self.bias_hh, transB=1)
        return share

    def step(self, g: Tape, share: Variable, states: States) -> States:
        """Record on ``g`` the next ``states``, given the input's ``share`` of the gates."""
        raise NotImplementedError

    def zeros(self, g: Tape, x: Variable, axis: int) -> States:
        """Record on ``g`` states of 0 for each sample of ``x``, which are along ``axis``."""
        sizes = g.dims(g.dim_of(x, axis), self.hidden_size)
        zero = g.Expand(g.const(0.0, x.dtype), sizes)
        batch = (x.tensor_type.shape or ())[axis]
        return (with_dims(zero, [batch, self.hidden_size]),) * self.STATES

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.input_size}, {self.hidden_size}"

    def _stepped(self, inputs: TensorLike, states: States | None) -> States:
        """The states after the inputs; the first states are 0 unless given."""
        g = recorder(inputs, *(states or ()))
        x = as_variable(g, inputs)
        need_rank(x, type(self).__name__, 2)
        return self.step(g, self.project(g, x), self.zeros(g, x, 0) if states is None else states)


class _OneState(Cell):
    """A cell whose output is its only state."""

    def forward(
        self, inputs: TensorLike, states: Variable | None = None
    ) -> tuple[Variable, Variable]:
        """Record a step: the output and the next state, which are one and the same.

        inputs: [n, input]   states: [n, hidden], zeros by default
        """
        [h] = self._stepped(inputs, None if states is None else (states,))
        return h, h


class SimpleRNNCell(_OneState):
    """h' = tanh(x W_ihᵀ + b_ih + h W_hhᵀ + b_hh)        x: [n, input]   h: [n, hidden].

    ``activation`` 'relu' takes the place of 'tanh'. ``input_size``, ``hidden_size``,
    ``weight_ih_attr``, ``weight_hh_attr``, ``bias_ih_attr`` and ``bias_hh_attr`` are those of
    ``LSTMCell``.

    >>> y, h = SimpleRNNCell(4, 3)(x)
    >>> y
    <Variable tanh_0 : f32[N, 3]>

    Raises:
        ArgumentError: an unknown ``activation``, or as ``LSTMCell``.
    """

    PREFIX = "simple_rnn_cell"

    def __init__(
        self, input_size: int, hidden_size: int, activation: str = "tanh",
        weight_ih_attr: LayerAttr = None, weight_hh_attr: LayerAttr = None,
        bias_ih_attr: LayerAttr = None, bias_hh_attr: LayerAttr = None, name: str | None = None,
    ) -> None:  # fmt: skip
        self.activation = choice("SimpleRNNCell", "activation", activation, ["tanh", "relu"])
        super().__init__(
            input_size, hidden_size,
            weight_ih_attr, weight_hh_attr, bias_ih_attr, bias_hh_attr, name,
        )  # fmt: skip

    def step(self, g: Tape, share: Variable, states: States) -> States:
        """Record on ``g`` the next hidden state, given the input's ``share`` of the gates."""
        total = g.Add(share, self.recur(g, states[0]))
        return (g.Tanh(total) if self.activation == "tanh" else g.Relu(total),)


class LSTMCell(Cell):
    """c' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c'), of the gates i, f, g, o.

    i, f, g, o: x W_ihᵀ + b_ih + h W_hhᵀ + b_hh, cut in four   x: [n, input]   h, c: [n, hidden]

    ``input_size`` is the number of features of x, ``hidden_size`` that of h and c.
    ``weight_ih_attr``, ``weight_hh_attr``, ``bias_ih_attr`` and ``bias_hh_attr`` say how W_ih,
    W_hh, b_ih and b_hh are made; False for a bias leaves it out.

    Hochreiter, Schmidhuber: Long Short-Term Memory, 1997.

    >>> y, (h, c) = LSTMCell(4, 3)(x)
    >>> y
    <Variable mul_2 : f32[N, 3]>

    Raises:
        ArgumentError: ``hidden_size`` is not positive, or a weight's attr is False.
    """

    PREFIX = "lstm_cell"
    GATES = 4
    STATES = 2

    def step(self, g: Tape, share: Variable, states: States) -> States:
        """Record on ``g`` the next (h, c), given the input's ``share`` of the gates."""
        h, c = states
        gates = g.Add(share, self.recur(g, h))
        i, f, new, o = g.emit("Split", gates, outputs=4, axis=-1, num_outputs=4)
        c = g.Add(g.Mul(g.Sigmoid(f), c), g.Mul(g.Sigmoid(i), g.Tanh(new)))
        return g.Mul(g.Sigmoid(o), g.Tanh(c)), c

    def forward(
        self, inputs: TensorLike, states: Sequence[Variable] | None = None
    ) -> tuple[Variable, States]:
        """Record a step: the output h', and the next (h', c').

        inputs: [n, input]   states: a pair (h, c) of [n, hidden], zeros by default
        """
        h, c = self._stepped(inputs, None if states is None else tuple(states))
        return h, (h, c)


class GRUCell(_OneState):
    """h' = σ(z) h + (1 - σ(z)) tanh(x_c + σ(r) h_c)        x: [n, input]   h: [n, hidden].

    x_r, x_z, x_c are x W_ihᵀ + b_ih cut in three, h_r, h_z, h_c are h W_hhᵀ + b_hh cut in three;
    r = x_r + h_r, z = x_z + h_z. ``input_size``, ``hidden_size``, ``weight_ih_attr``,
    ``weight_hh_attr``, ``bias_ih_attr`` and ``bias_hh_attr`` are those of ``LSTMCell``, and so are
    the errors.

    Cho et al.: Learning Phrase Representations using RNN Encoder-Decoder, 2014.

    >>> y, h = GRUCell(4, 3)(x)
    >>> y
    <Variable add_4 : f32[N, 3]>
    """

    PREFIX = "gru_cell"
    GATES = 3

    def step(self, g: Tape, share: Variable, states: States) -> States:
        """Record on ``g`` the next hidden state, given the input's ``share`` of the gates."""
        [h] = states
        x_r, x_z, x_c = g.emit("Split", share, outputs=3, axis=-1, num_outputs=3)
        h_r, h_z, h_c = g.emit("Split", self.recur(g, h), outputs=3, axis=-1, num_outputs=3)
        reset, keep = g.Sigmoid(g.Add(x_r, h_r)), g.Sigmoid(g.Add(x_z, h_z))
        new = g.Tanh(g.Add(x_c, g.Mul(reset, h_c)))
        return (g.Add(g.Mul(g.Sub(h, new), keep), new),)
