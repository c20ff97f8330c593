"""Ops that call a body of the user's, other than control flow."""

from __future__ import annotations

from graphopt.ir.edit import control
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import ContainerType, container, to_onnx_dtype
from graphopt.ops.registry.cases import case
from graphopt.ops.registry.registry import Grad, decomposition

FLEX = "ai.onnx.preview::FlexAttention"


@decomposition(
    FLEX,
    cases=[
        case(Q=(2, 2, 3, 4), K=(2, 2, 5, 4), V=(2, 2, 5, 3)),
        case(Q=(1, 4, 3, 4), K=(1, 2, 5, 4), V=(1, 2, 5, 4), attrs={"scale": 0.25}),
    ],
)
def flex_attention(g: Tape, op: Operator) -> Variable:
    """Y = prob_mod(softmax(score_mod(scale Q K'))) V        Q: [n, h, q, d]   K, V: [n, k, s, d].

    Heads of Q share those of K and V in groups of h / k.
    """
    Q, K, V = op.operand("Q"), op.operand("K"), op.operand("V")
    scale = op.attrs.get("scale") or g.Pow(g.cast(g.dim_of(Q, 3), Q.dtype), -0.5)
    groups, size = g.dim_of(K, 1), g.Div(g.dim_of(Q, 1), g.dim_of(K, 1))
    grouped = g.Reshape(Q, g.dims(g.dim_of(Q, 0), groups, size, g.dim_of(Q, 2), g.dim_of(Q, 3)))
    scores = g.MatMul(g.Mul(grouped, scale), g.swap(g.Unsqueeze(K, [2])))  # [n, k, h / k, q, s]
    precision = op.attrs.get("softmax_precision")
    scores = g.Cast(scores, to=precision) if precision else scores
    heads = g.dims(*(g.dim_of(Q, k) for k in (0, 1, 2)), g.dim_of(K, 2))
    whole = g.reshape(scores, *(g.dim_of(Q, k) for k in (0, 1, 2)), g.dim_of(K, 2))
    probs = _modified(g, op, "prob_mod", g.Softmax(_modified(g, op, "score_mod", whole)))
    probs = g.Reshape(g.cast(probs, Q.dtype), g.shape_of(scores))
    mixed = g.MatMul(probs, g.Unsqueeze(V, [2]))  # [n, k, h / k, q, d]
    result = op.outputs[0]
    assert result is not None
    return typed(g.Reshape(mixed, g.dims(g.Slice(heads, [0], [3]), g.dim_of(V, 3))), result)


def _modified(g: Tape, op: Operator, name: str, x: Variable) -> Variable:
    block = op.attrs.get(name)
    return x if block is None else typed(control.inline(g, block, [x])[0], x)


@decomposition("SequenceMap", cases=[])
def sequence_map(g: Tape, op: Operator) -> list[Grad]:
    """S' = the body's results for each element of S        S: seq([*n])."""
    first, *others = op.operands()
    body = op.attrs["body"]
    empty = [_empty(g, v) for v in body.outputs]

    def step(g: Tape, k: Variable, made: list[Variable]) -> tuple[list[Variable], list[Variable]]:
        operands = [_element(g, v, k) for v in (first, *others)]
        results = control.inline(g, body, operands)
        return [g.SequenceInsert(s, y) for s, y in zip(made, results, strict=True)], []

    return [*control.loop(g, g.SequenceLength(first), empty, step)]


def _element(g: Tape, v: Variable, k: Variable) -> Variable:
    """Element k of a sequence; a tensor is the same for all."""
    return g.SequenceAt(v, k) if isinstance(v.tensor_type, ContainerType) else v


def _empty(g: Tape, element: Variable) -> Variable:
    empty: Variable = g.SequenceEmpty(dtype=to_onnx_dtype(element.dtype))
    empty.tensor_type = container("seq", element.tensor_type)
    return empty
