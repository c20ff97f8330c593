"""RNN, GRU and LSTM as scans over time, through which they are differentiated.

What does not depend on the state is computed for all steps at once, before the scan. Shapes name
the time t, the batch n, the input i, the hidden state h and the directions d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from graphopt.errors import GradientError
from graphopt.ir.edit import control
from graphopt.ir.edit.control import Results
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import Dim, TensorType
from graphopt.ops.maths.cell_activation import Activation, activations
from graphopt.ops.registry.cases import case
from graphopt.ops.registry.registry import decomposition

Step: TypeAlias = Callable[[Tape, list[Variable], list[Variable]], list[Variable]]
REVERSE, BOTH = {"direction": "reverse"}, {"direction": "bidirectional"}


@dataclass(frozen=True)
class Direction:
    """What one direction computes with.

    W: [m h, i]   R: [m h, h]   Wb, Rb: [m h]   P: [3 h]   states: [n, h] each.
    """

    W: Variable
    R: Variable
    Wb: Variable | None
    Rb: Variable | None
    P: Variable | None
    states: list[Variable]
    activations: list[Activation]
    reverse: bool


# Records, for one direction, what a scan reads and its step. The first variable is X: [t, n, i].
Cell: TypeAlias = Callable[[Tape, Operator, Direction, Variable], tuple[list[Variable], Step]]


@decomposition(
    "GRU",
    cases=[
        case(X=(3, 2, 4), W=(1, 9, 4), R=(1, 9, 3), attrs={"hidden_size": 3}),
        case(X=(3, 2, 2), W=(2, 9, 2), R=(2, 9, 3), B=(2, 18), initial_h=(2, 2, 3), results=2,
             attrs={"hidden_size": 3, "linear_before_reset": 1, **BOTH}),
        case(X=(3, 2, 2), W=(1, 6, 2), R=(1, 6, 2), B=(1, 12), results=2,
             attrs={"hidden_size": 2, **REVERSE}),
    ],
    nondiff=["sequence_lens"],
)  # fmt: skip
def gru(g: Tape, op: Operator) -> list[Variable]:
    """H = (1 - z) g(x W' + (r H) R' + b) + z H with z, r = f(x W' + H R' + b).

    X: [t, n, i]   W: [d, 3 h, i]   R: [d, 3 h, h]   B: [d, 6 h]   Y: [t, d, n, h]   Y_h: [d, n, h]
    """
    return _recur(g, op, _gru, ["Sigmoid", "Tanh"], ["initial_h"])


@decomposition(
    "LSTM",
    cases=[
        case(X=(3, 2, 4), W=(1, 12, 4), R=(1, 12, 3), attrs={"hidden_size": 3}),
        case(X=(3, 2, 2), W=(2, 12, 2), R=(2, 12, 3), B=(2, 24), initial_h=(2, 2, 3), results=3,
             attrs={"hidden_size": 3, **BOTH}),
        case(X=(3, 2, 2), W=(1, 8, 2), R=(1, 8, 2), B=(1, 16), initial_c=(1, 2, 2), P=(1, 6),
             results=3, attrs={"hidden_size": 2, **REVERSE}),
    ],
    nondiff=["sequence_lens"],
)  # fmt: skip
def lstm(g: Tape, op: Operator) -> list[Variable]:
    """H = o h(C), C = k C + i g(x W' + H R' + b) with i, o, k = f(x W' + H R' + P C + b).

    X: [t, n, i]   W: [d, 4 h, i]   R: [d, 4 h, h]   B: [d, 8 h]   P: [d, 3 h]   Y: [t, d, n, h]
    Y_h, Y_c: [d, n, h]
    """
    return _recur(g, op, _lstm, ["Sigmoid", "Tanh", "Tanh"], ["initial_h", "initial_c"])


@decomposition(
    "RNN",
    cases=[
        case(X=(3, 2, 4), W=(1, 3, 4), R=(1, 3, 3), attrs={"hidden_size": 3}),
        case(X=(3, 2, 2), W=(2, 3, 2), R=(2, 3, 3), B=(2, 6), initial_h=(2, 2, 3), results=2,
             attrs={"hidden_size": 3, **BOTH}),
        case(X=(3, 2, 2), W=(1, 2, 2), R=(1, 2, 2), B=(1, 4), results=2,
             attrs={"hidden_size": 2, **REVERSE}),
    ],
    nondiff=["sequence_lens"],
)  # fmt: skip
def rnn(g: Tape, op: Operator) -> list[Variable]:
    """H = f(x W' + H R' + b).

    X: [t, n, i]   W: [d, h, i]   R: [d, h, h]   B: [d, 2 h]   Y: [t, d, n, h]   Y_h: [d, n, h]
    """
    return _recur(g, op, _rnn, ["Tanh"], ["initial_h"])


def _gru(g: Tape, op: Operator, d: Direction, X: Variable) -> tuple[list[Variable], Step]:
    f, f_h = d.activations
    linear = op.attrs["linear_before_reset"] != 0
    R_z, R_r, R_h = g.Split(d.R, num_outputs=3, axis=0, outputs=3)  # [h, h]
    R_zr = g.Concat(R_z, R_r, axis=0)  # [2 h, h]
    sizes = g.dims(g.dim_of(R_zr, 0), g.dim_of(R_h, 0))
    bias, b_h = d.Rb, None
    if d.Rb is not None and linear:
        b_zr, b_h = g.Split(d.Rb, sizes, axis=0, outputs=2)
        bias = g.Concat(b_zr, g.zeros_like(b_h), axis=0)
    x_zr, x_h = g.Split(_projection(g, d, X, bias), sizes, axis=2, outputs=2)

    def step(g: Tape, states: list[Variable], slices: list[Variable]) -> list[Variable]:
        (H,), (x_zr, x_h) = states, slices
        gates = f(g, g.Gemm(H, R_zr, x_zr, transB=1))
        z, r = g.Split(gates, num_outputs=2, axis=1, outputs=2)  # [n, h]
        if linear:
            inner = g.Add(x_h, g.Mul(r, g.Gemm(H, R_h, b_h, transB=1)))
        else:
            inner = g.Gemm(g.Mul(r, H), R_h, x_h, transB=1)
        return [g.Add(g.Mul(g.Sub(1.0, z), f_h(g, inner)), g.Mul(z, H))]

    return [x_zr, x_h], step


def _lstm(g: Tape, op: Operator, d: Direction, X: Variable) -> tuple[list[Variable], Step]:
    f, f_c, f_h = d.activations
    f_h = replace(f_h, bound=None)  # onnxruntime clips the operands of the gates only
    coupled = op.attrs["input_forget"] != 0
    p_i, p_o, p_k = (None,) * 3 if d.P is None else g.Split(d.P, num_outputs=3, outputs=3)

    def step(g: Tape, states: list[Variable], slices: list[Variable]) -> list[Variable]:
        (H, C), (x,) = states, slices
        gates = g.Gemm(H, d.R, x, transB=1)  # [n, 4 h]
        i, o, k, c = g.Split(gates, num_outputs=4, axis=1, outputs=4)
        i = f(g, _peep(g, i, p_i, C))
        k = g.Sub(1.0, i) if coupled else f(g, _peep(g, k, p_k, C))
        C = g.Add(g.Mul(k, C), g.Mul(i, f_c(g, c)))
        o = f(g, _peep(g, o, p_o, C))
        return [g.Mul(o, f_h(g, C)), C]

    return [_projection(g, d, X, d.Rb)], step


def _rnn(g: Tape, op: Operator, d: Direction, X: Variable) -> tuple[list[Variable], Step]:
    (f,) = d.activations

    def step(g: Tape, states: list[Variable], slices: list[Variable]) -> list[Variable]:
        (H,), (x,) = states, slices
        return [f(g, g.Gemm(H, d.R, x, transB=1))]

    return [_projection(g, d, X, d.Rb)], step


def _projection(g: Tape, d: Direction, X: Variable, Rb: Variable | None) -> Variable:
    """X W' + Wb + Rb, for all steps in one product: [t, n, m h]."""
    product: Variable = g.MatMul(X, g.Transpose(d.W, perm=[1, 0]))
    return product if d.Wb is None else g.Add(product, g.Add(d.Wb, Rb))


def _peep(g: Tape, x: Variable, p: Variable | None, C: Variable) -> Variable:
    """The operand of a gate that may look at the cell: [n, h]        p: [h]."""
    return x if p is None else g.Add(x, g.Mul(p, C))


def _recur(
    g: Tape, op: Operator, cell: Cell, functions: Sequence[str], initial: Sequence[str]
) -> list[Variable]:
    """Y and the last states, the batch before the directions (and the time) with layout 1."""
    _check_ranks(op)
    X, batch_first = op.operand("X"), op.attrs["layout"] == 1
    if batch_first:
        X = g.Transpose(X, perm=[1, 0, 2])
    steps = Steps.of(g, op, X)
    found = [_run(g, op, cell, d, X, steps) for d in _directions(g, op, X, functions, initial)]
    Y, *last = (list(parts) for parts in zip(*found, strict=True))
    joined = [_joined(g, Y, 1), *[_joined(g, v, 0) for v in last]]
    if not batch_first:
        return joined
    return [g.Transpose(v, perm=[v.ndim - 2, *range(v.ndim - 2), v.ndim - 1]) for v in joined]


def _check_ranks(op: Operator) -> None:
    unknown = [(v.name, v.tensor_type) for v in op.operands() if v.tensor_type.shape is None]
    if unknown:
        raise GradientError(
            f"the gradient of {op.type} needs operands of known rank",
            operands=unknown,
            where=op.where,
            fix="give them a shape, by a Reshape to dims of which one may be -1",
        )


def _joined(g: Tape, parts: Sequence[Variable], axis: int) -> Variable:
    """What the directions give, along a new dim."""
    rows = [g.Unsqueeze(v, [axis]) for v in parts]
    return rows[0] if len(rows) == 1 else g.Concat(*rows, axis=axis)


@dataclass(frozen=True)
class Steps:
    """The steps of the sequences of a batch: how many, and whether each is one of them.

    lengths: i64[n]   going: bool[t, n, 1], None where all have the full length
    """

    lengths: Variable
    going: Variable | None

    @classmethod
    def of(cls, g: Tape, op: Operator, X: Variable) -> Steps:
        """The steps of an op over X: [t, n, i]."""
        t, n, given = _dim(X, 0), _dim(X, 1), op.maybe("sequence_lens")
        if given is None:
            full = g.Expand(g.dim_of(X, 0), g.dim_of(X, 1))
            return cls(_shaped(full, n), None)
        lengths = g.cast(given, np.dtype("i8"))
        steps = g.Range(0, g.Squeeze(g.dim_of(X, 0), [0]), 1)
        going = g.Less(g.Unsqueeze(steps, [1, 2]), g.Unsqueeze(lengths, [1]))
        return cls(lengths, _shaped(going, t, n, 1))

    def reversed(self, g: Tape, x: Variable) -> Variable:
        """Each sequence from its last step to its first, and what follows it: [t, n, *s]."""
        return typed(g.ReverseSequence(x, self.lengths), x)


def _shaped(x: Variable, *dims: Dim) -> Variable:
    x.tensor_type = TensorType(x.dtype, dims)
    return x


def _run(
    g: Tape, op: Operator, cell: Cell, d: Direction, X: Variable, steps: Steps
) -> list[Variable]:
    """One direction: Y [t, n, h], zero where a sequence has ended, and the last states [n, h]."""
    scanned, step = cell(g, op, d, steps.reversed(g, X) if d.reverse else X)

    def body(g: Tape, states: list[Variable], slices: list[Variable]) -> tuple[Results, Results]:
        made = step(g, states, slices[: len(scanned)])
        after = [typed(new, old) for new, old in zip(made, states, strict=True)]
        if steps.going is not None:  # a state stays as it is when its sequence has ended
            pairs = zip(after, states, strict=True)
            after = [g.Where(slices[-1], new, old) for new, old in pairs]
        return after, after[:1]

    mask = [] if steps.going is None else [steps.going]
    *last, Y = control.scan(g, d.states, [*scanned, *mask], body)
    if steps.going is not None:
        Y = g.Where(steps.going, Y, 0.0)
    return [steps.reversed(g, Y) if d.reverse else Y, *last]


def _directions(
    g: Tape, op: Operator, X: Variable, default: Sequence[str], initial: Sequence[str]
) -> list[Direction]:
    """One or two, each with its part of the operands        X: [t, n, i]."""
    backward = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    which = backward[op.attrs["direction"]]
    count, layout = len(which), op.attrs["layout"]
    W, R, B, P = (_each(g, op.maybe(name), count) for name in "WRBP")
    given = [_each(g, op.maybe(name), count, axis=layout) for name in initial]
    functions = activations(op, list(default) * count)
    found = []
    for k, reverse in enumerate(which):
        w, r, b = W[k], R[k], B[k]
        assert w is not None
        assert r is not None
        Wb, Rb = (None, None) if b is None else g.Split(b, num_outputs=2, outputs=2)
        states = [_state(g, v[k], X, r) for v in given]
        own = functions[k * len(default) : (k + 1) * len(default)]
        found.append(Direction(w, r, Wb, Rb, P[k], states, own, reverse))
    return found


def _each(g: Tape, x: Variable | None, count: int, axis: int = 0) -> list[Variable | None]:
    """What each direction has of an operand."""
    if x is None:
        return [None] * count
    parts = [x] if count == 1 else g.Split(x, num_outputs=count, axis=axis, outputs=count)
    return [g.Squeeze(part, [axis]) for part in parts]


def _state(g: Tape, given: Variable | None, X: Variable, R: Variable) -> Variable:
    """The state before the first step, zeros by default: [n, h]   X: [t, n, i]   R: [m h, h]."""
    if given is None:
        given = g.Expand(g.full(0.0, X), g.dims(g.dim_of(X, 1), g.dim_of(R, 1)))
    return _shaped(given, _dim(X, 1), _dim(R, 1))


def _dim(x: Variable, axis: int) -> Dim:
    assert x.tensor_type.shape is not None
    return x.tensor_type.shape[axis]
