"""Sequences and optionals: the gradient of a sequence is a sequence of as many gradients.

Where an element has no gradient it is zeros, so that every sum is element by element. The gradient
of an optional is that of what it holds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphopt.ir.edit import control
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import ContainerType, TensorType, to_onnx_dtype
from graphopt.ops.registry.registry import Grads, gradient, zero_gradient

zero_gradient(
    "the result is a count or a truth value, or empty",
    "OptionalHasElement", "SequenceEmpty", "SequenceLength",
)  # fmt: skip


@gradient("ConcatFromSequence", cases=[])
def concat_from_sequence(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the elements of S one after the other, or stacked        S: seq([*m, n, *s])."""
    S, axis = op.operand("input_sequence"), op.attrs["axis"]
    if op.attrs["new_axis"]:
        return {"input_sequence": g.SplitToSequence(dY, axis=axis, keepdims=0)}

    def size(g: Tape, k: Variable) -> Variable:
        return g.Gather(g.Shape(g.SequenceAt(S, k)), [axis])  # [1]

    (sizes,) = control.loop(g, g.SequenceLength(S), [], lambda g, k, _: ([], [size(g, k)]))
    return {"input_sequence": g.SplitToSequence(dY, g.Reshape(sizes, [-1]), axis=axis)}


@gradient("Optional", cases=[])
def optional(g: Tape, op: Operator, dO: Variable) -> Grads:
    """O = X, as what may be absent        X: [*n], or a sequence."""
    return {"input": dO}


@gradient("OptionalGetElement", cases=[])
def optional_get_element(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = what O holds        Y: [*n], or a sequence."""
    return {"input": dY}


@gradient("SequenceAt", cases=[], nondiff=["position"])
def sequence_at(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the element of S at a position        S: seq([*n])."""
    S = op.operand("input_sequence")
    at = _from_start(g, op.operand("position"), S)

    def element(g: Tape, k: Variable) -> Variable:
        here = g.Equal(k, at)
        return control.cond(g, here, lambda g: [dY], lambda g: [_zeros_at(g, S, k)])[0]

    return {"input_sequence": _each(g, S, element)}


@gradient("SequenceConstruct", cases=[])
def sequence_construct(g: Tape, op: Operator, dS: Variable) -> Grads:
    """S = the operands as a sequence        operands: [*n]."""
    return {"inputs": [g.SequenceAt(dS, k) for k in range(len(op.inputs))]}


@gradient("SequenceErase", cases=[], nondiff=["position"])
def sequence_erase(g: Tape, op: Operator, dR: Variable) -> Grads:
    """R = S without the element at a position, by default the last        S: seq([*n])."""
    S, position = op.operand("input_sequence"), op.maybe("position")
    at = _from_start(g, g.const(-1) if position is None else position, S)

    def element(g: Tape, k: Variable) -> Variable:
        moved = g.Sub(k, g.cast(g.Greater(k, at), np.dtype("i8")))  # what was behind has moved up
        here = g.Equal(k, at)
        kept = lambda g: [g.SequenceAt(dR, moved)]  # noqa: E731
        return control.cond(g, here, lambda g: [_zeros_at(g, S, k)], kept)[0]

    return {"input_sequence": _each(g, S, element)}


@gradient("SequenceInsert", cases=[], nondiff=["position"])
def sequence_insert(g: Tape, op: Operator, dR: Variable) -> Grads:
    """R = S with T before a position, by default behind the last        S: seq([*n])   T: [*n]."""
    position = op.maybe("position")
    at: Variable = g.const(-1)
    if position is not None:
        at = _from_start(g, position, op.operand("input_sequence"))
    return {"input_sequence": g.SequenceErase(dR, at), "tensor": g.SequenceAt(dR, at)}


@gradient("SplitToSequence", cases=[], nondiff=["split"])
def split_to_sequence(g: Tape, op: Operator, dS: Variable) -> Grads:
    """S = X cut along an axis        X: [*m, n, *s]   S: seq([*m, k, *s]), or seq([*m, *s])."""
    single = op.maybe("split") is None and not op.attrs["keepdims"]
    return {"input": g.ConcatFromSequence(dS, axis=op.attrs["axis"], new_axis=int(single))}


def gradient_type(v: Variable) -> TensorType:
    """The type of a variable's gradient."""
    held = v.tensor_type
    return held.element if isinstance(held, ContainerType) and held.kind == "optional" else held


def zeros(g: Tape, like: Variable) -> Variable:
    """A gradient of zeros; an empty one for an optional that holds nothing."""
    held = like.tensor_type
    if not isinstance(held, ContainerType):
        return g.zeros_like(like)
    if held.kind == "optional":
        some = lambda g: [zeros(g, g.OptionalGetElement(like))]  # noqa: E731
        none = lambda g: [_nothing(g, held.element)]  # noqa: E731
        return control.cond(g, g.OptionalHasElement(like), some, none)[0]
    return _each(g, like, lambda g, k: _zeros_at(g, like, k))


def _nothing(g: Tape, held: TensorType) -> Variable:
    if isinstance(held, ContainerType):
        return empty_sequence(g, held)
    return g.const(np.zeros([0] * (held.rank or 0), held.dtype))


def _zeros_at(g: Tape, S: Variable, k: Variable) -> Variable:
    return g.zeros_like(g.SequenceAt(S, k))


def add_sequences(g: Tape, a: Variable, b: Variable) -> Variable:
    """Element by element."""
    return _each(g, a, lambda g, k: g.Add(g.SequenceAt(a, k), g.SequenceAt(b, k)))


def empty_sequence(g: Tape, like: TensorType) -> Variable:
    """An empty sequence of a type."""
    empty: Variable = g.SequenceEmpty(dtype=to_onnx_dtype(like.dtype))
    empty.tensor_type = like
    return empty


def _each(g: Tape, like: Variable, make: Callable[[Tape, Variable], Variable]) -> Variable:
    """A sequence as long as ``like``, of what ``make`` gives for each position."""
    empty = empty_sequence(g, like.tensor_type)

    def body(g: Tape, k: Variable, held: list[Variable]) -> tuple[list[Variable], list[Variable]]:
        return [g.SequenceInsert(held[0], make(g, k))], []

    (made,) = control.loop(g, g.SequenceLength(like), [empty], body)
    made.tensor_type = like.tensor_type
    return made


def _from_start(g: Tape, position: Variable, S: Variable) -> Variable:
    """A position counted from the start, which no longer depends on what is in the sequence."""
    at = g.cast(position, np.dtype("i8"))
    return g.Where(g.Less(at, 0), g.Add(at, g.SequenceLength(S)), at)
