"""Recurrent layers, unrolled over the known number of time steps.

The input's share of the gates is one product for all steps; a step is one product of the hidden
state, and a few elementwise ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from graphopt.errors import ArgumentError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.nn import functional
from graphopt.nn.layer.layers import Layer, LayerAttr
from graphopt.nn.layer.rnn_cell import Cell, GRUCell, LSTMCell, SimpleRNNCell, States
from graphopt.scoping import recorder
from graphopt.tensor.manipulation import concat, stack, unbind
from graphopt.tensor.operands import TensorLike, as_variable, choice, need_rank

Attrs: TypeAlias = tuple[LayerAttr, LayerAttr, LayerAttr, LayerAttr]


class _Recurrent(Layer):
    """Layers of cells; the second of two directions runs from the last step to the first."""

    CELL: type[Cell]

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, direction: str = "forward",
        time_major: bool = False, dropout: float = 0.0, weight_ih_attr: LayerAttr = None,
        weight_hh_attr: LayerAttr = None, bias_ih_attr: LayerAttr = None,
        bias_hh_attr: LayerAttr = None, name: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name)
        kind, both = type(self).__name__, ["bidirect", "bidirectional"]
        choice(kind, "direction", direction, ["forward", *both])
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.time_major, self.dropout = time_major, dropout
        self.directions = 1 + (direction in both)
        attrs: Attrs = (weight_ih_attr, weight_hh_attr, bias_ih_attr, bias_hh_attr)
        self._cells: list[Cell] = []
        for layer in range(num_layers):
            size = input_size if layer == 0 else hidden_size * self.directions
            for suffix in ("", "_reverse")[: self.directions]:
                cell = self._cell(size, attrs)
                self._cells.append(cell)
                for part, parameter in cell.own_parameters():
                    setattr(self, f"{part}_l{layer}{suffix}", parameter)

    def _cell(self, size: int, attrs: Attrs) -> Cell:
        return self.CELL(size, self.hidden_size, *attrs)

    def _run(
        self,
        inputs: TensorLike,
        initial: Sequence[Variable] | None,
        sequence_length: TensorLike | None,
    ) -> tuple[Variable, States]:
        """The outputs, and the last states [layers · directions, n, hidden]."""
        g = recorder(inputs, sequence_length, *(initial or ()))
        x = as_variable(g, inputs)
        self._check(x)
        valid = None
        if sequence_length is not None:
            valid = _valid(g, as_variable(g, sequence_length), x.shape[self._time])
        ends: list[States] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = functional.dropout(x, self.dropout, training=self.training)
            first = layer * self.directions
            cells = range(first, first + self.directions)
            found = [self._run_cell(g, k, x, initial, valid) for k in cells]
            x = found[0][0] if len(found) == 1 else concat([y for y, _ in found], axis=-1)
            ends += [end for _, end in found]
        return x, tuple(stack(v, axis=0) for v in zip(*ends, strict=True))

    @property
    def _time(self) -> int:
        """The axis of time; that of the batch is the other one."""
        return 0 if self.time_major else 1

    def _run_cell(
        self,
        g: Tape,
        k: int,
        x: Variable,
        initial: Sequence[Variable] | None,
        valid: Sequence[Variable] | None,
    ) -> tuple[Variable, States]:
        """The outputs of one cell in the order of time, and its last states."""
        cell, backwards = self._cells[k], k % self.directions == 1
        if initial is None:
            start = cell.zeros(g, x, 1 - self._time)
        else:
            start = tuple(g.Gather(v, np.array(k), axis=0) for v in initial)
        shares = unbind(cell.project(g, x), self._time)  # t times [n, gates · hidden]
        outputs, end = _unrolled(g, cell, shares, start, valid, backwards=backwards)
        return stack(outputs, axis=self._time), end

    def _check(self, x: Variable) -> None:
        need_rank(x, type(self).__name__, 3)
        if x.shape[self._time] < 1:
            raise ArgumentError(
                f"{type(self).__name__} needs a known number of time steps",
                operands=[(x.name, x.tensor_type)],
                where=here(),
                fix=f"give dim {self._time} in static.data; sequence_length is for shorter ones",
            )

    def extra_repr(self) -> str:
        """Sizes."""
        layers = f", num_layers={self.num_layers}" if self.num_layers != 1 else ""
        return f"{self.input_size}, {self.hidden_size}{layers}"


def _valid(g: Tape, lengths: Variable, steps: int) -> list[Variable]:
    """Whether each sequence has a step, for every step: [n, 1] each        lengths: int[n]."""
    lengths = g.Unsqueeze(lengths, [1])
    return [g.Greater(lengths, g.const(k, lengths.dtype)) for k in range(steps)]


def _unrolled(
    g: Tape,
    cell: Cell,
    shares: Sequence[Variable],
    states: States,
    valid: Sequence[Variable] | None,
    *,
    backwards: bool,
) -> tuple[list[Variable], States]:
    """The outputs in the order of time, and the last states.

    Behind a sequence's end outputs are 0, and states stay as they are.
    """
    outputs: dict[int, Variable] = {}
    steps = range(len(shares))
    for k in reversed(steps) if backwards else steps:
        new = cell.step(g, shares[k], states)
        outputs[k] = new[0]
        if valid is not None:
            outputs[k] = g.Where(valid[k], new[0], g.const(0.0, new[0].dtype))
            new = tuple(g.Where(valid[k], v, old) for v, old in zip(new, states, strict=True))
        states = new
    return [outputs[k] for k in steps], states


class _OneState(_Recurrent):
    """Layers of cells whose output is their only state."""

    def forward(
        self,
        inputs: TensorLike,
        initial_states: Variable | None = None,
        sequence_length: TensorLike | None = None,
    ) -> tuple[Variable, Variable]:
        """Record all steps of ``inputs``: the outputs, and the last states.

        ``initial_states`` are zeros by default. Where ``sequence_length`` says that a sequence is
        shorter than t, the outputs behind its end are 0 and its state stays as it is.

        Raises:
            ArgumentError: t is not known, or ``inputs`` do not have 3 dims.
        """
        initial = None if initial_states is None else [initial_states]
        outputs, [h] = self._run(inputs, initial, sequence_length)
        return outputs, h


class SimpleRNN(_OneState):
    """Layers of ``SimpleRNNCell``; called with (inputs, initial_states, sequence_length).

    inputs: [n, t, input]   initial_states: [layers · directions, n, hidden]   sequence_length:
    int[n]   results: outputs [n, t, directions · hidden], and the last states, as the initial ones

    The number of steps t must be known while recording. Parameters are weight_ih_l0, weight_hh_l0,
    bias_ih_l0, bias_hh_l0, then l1, …; those of the second direction end in _reverse.

    Args:
        input_size: features of an input.
        hidden_size: elements of a state.
        num_layers: layers; the outputs of one are the inputs of the next.
        direction: 'forward', or 'bidirect' (also 'bidirectional'): a second cell a layer goes from
            the last step to the first, and its outputs stand behind those of the first cell.
        time_major: whether inputs and outputs are [t, n, features].
        dropout: the probability with which inputs of a layer but the first are dropped in training.
        activation: 'tanh' or 'relu'.
        weight_ih_attr: how the weights of inputs are made.
        weight_hh_attr: how the weights of states are made.
        bias_ih_attr: how the biases beside inputs are made; False for none.
        bias_hh_attr: how the biases beside states are made; False for none.
        name: the prefix of the layer's own name; the parameters are named after the cells.

    >>> steps = image.program.global_block().create_var("steps", ["N", 5, 4])
    >>> outputs, h = SimpleRNN(4, 3)(steps)
    >>> outputs, h
    (<Variable concat_1 : f32[N, 5, 3]>, <Variable concat_2 : f32[1, N, 3]>)

    Raises:
        ArgumentError: an unknown ``direction`` or ``activation``, ``hidden_size`` is not positive,
            or a weight's attr is False.
    """

    CELL = SimpleRNNCell

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, direction: str = "forward",
        time_major: bool = False, dropout: float = 0.0, activation: str = "tanh",
        weight_ih_attr: LayerAttr = None, weight_hh_attr: LayerAttr = None,
        bias_ih_attr: LayerAttr = None, bias_hh_attr: LayerAttr = None, name: str | None = None,
    ) -> None:  # fmt: skip
        self.activation = activation
        super().__init__(
            input_size, hidden_size, num_layers, direction, time_major, dropout,
            weight_ih_attr, weight_hh_attr, bias_ih_attr, bias_hh_attr, name,
        )  # fmt: skip

    def _cell(self, size: int, attrs: Attrs) -> Cell:
        return SimpleRNNCell(size, self.hidden_size, self.activation, *attrs)


class GRU(_OneState):
    """Layers of ``GRUCell``; called with (inputs, initial_states, sequence_length).

    The operands, their shapes and the arguments are those of ``SimpleRNN``: ``input_size``,
    ``hidden_size``, ``num_layers``, ``direction``, ``time_major``, ``dropout``,
    ``weight_ih_attr``, ``weight_hh_attr``, ``bias_ih_attr``, ``bias_hh_attr``, ``name``.

    >>> steps = image.program.global_block().create_var("steps", ["N", 5, 4])
    >>> outputs, h = GRU(4, 3, direction="bidirect")(steps)
    >>> outputs, h
    (<Variable concat_4 : f32[N, 5, 6]>, <Variable concat_5 : f32[2, N, 3]>)
    """

    CELL = GRUCell


class LSTM(_Recurrent):
    """Layers of ``LSTMCell``; called with (inputs, initial_states, sequence_length).

    States are pairs (h, c). All else is as in ``SimpleRNN``, the arguments too: ``input_size``,
    ``hidden_size``, ``num_layers``, ``direction``, ``time_major``, ``dropout``,
    ``weight_ih_attr``, ``weight_hh_attr``, ``bias_ih_attr``, ``bias_hh_attr``, ``name``.

    >>> steps = image.program.global_block().create_var("steps", ["N", 5, 4])
    >>> outputs, (h, c) = LSTM(4, 3)(steps)
    >>> outputs, c
    (<Variable concat_1 : f32[N, 5, 3]>, <Variable concat_3 : f32[1, N, 3]>)
    """

    CELL = LSTMCell

    def forward(
        self,
        inputs: TensorLike,
        initial_states: Sequence[Variable] | None = None,
        sequence_length: TensorLike | None = None,
    ) -> tuple[Variable, States]:
        """Record all steps of ``inputs``: the outputs, and the last (h, c).

        ``initial_states`` (h, c) are zeros by default. Where ``sequence_length`` says that a
        sequence is shorter than t, the outputs behind its end are 0 and its states stay as they
        are.

        Raises:
            ArgumentError: t is not known, or ``inputs`` do not have 3 dims.
        """
        return self._run(inputs, initial_states, sequence_length)
