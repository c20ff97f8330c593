"""Sums of products over named dims."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.equation import DOTS, broadcast, explicit, letters_besides, sides
from graphopt.ir.types.types import Dim, Inferred, TensorType
from graphopt.ops.registry.cases import case, fixed
from graphopt.ops.registry.registry import Grads, gradient, unranked

Term = tuple[Variable, str]  # an operand and a letter for each of its dims


@gradient(
    "Einsum",
    cases=[
        case(Inputs=[(2, 3), (3, 4)], attrs={"equation": "ij,jk"}),
        case(Inputs=[(2, 3), (3, 4), (4, 2)], attrs={"equation": "iB, Bk, ki -> kB"}),
        case(Inputs=[(2, 3, 4)], attrs={"equation": "ijk->j"}),
        case(Inputs=[(2, 3), (4,)], attrs={"equation": "ij,k->i"}),
        case(Inputs=[(2, 3, 3)], attrs={"equation": "bii->bi"}),
        case(Inputs=[(3, 3)], attrs={"equation": "ii"}),
        case(Inputs=[(3, 3, 2, 3), (3,)], attrs={"equation": "iiji,i->ij"}),
        case(Inputs=[(), (2, 3)], attrs={"equation": ",ij->ji"}),
        case(Inputs=[(5, 2, 3), (1, 3, 4)], attrs={"equation": "...ij,...jk->...ik"}),
        case(Inputs=[fixed((1, 2, 3)), fixed((5, 3, 4))], attrs={"equation": "...ij,...jk->...ik"}),
        case(Inputs=[(2, 4, 1, 3), (3, 5)], attrs={"equation": "i...j, jk -> k..."}),
        case(Inputs=[(2, 3), (2, 1)], attrs={"equation": "...,..."}),
    ],
)
def einsum(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = the products of the operands' elements, summed over letters that Y lacks.

    Inputs, Y: [one dim per letter]. The gradient of an operand is the same with dY in its place.
    """
    operands = list(op.reads())
    if any(v.tensor_type.shape is None for v in operands):
        return {"Inputs": _of_open_ranks(g, op, operands, dY)}
    letters, result = explicit(op.attrs["equation"], [v.ndim for v in operands])
    terms = list(zip(operands, letters, strict=True))
    return {
        "Inputs": [
            _without(g, term, [(dY, result), *terms[:k], *terms[k + 1 :]])
            for k, term in enumerate(terms)
        ]
    }


def _of_open_ranks(
    g: Tape, op: Operator, operands: Sequence[Variable], dY: Variable
) -> list[Variable | None]:
    """Gradients of operands of unknown rank: the equation with its dots, over the others and dY.

    An operand with a letter that the others lack is refused.
    """
    letters, result = sides(op.attrs["equation"])
    terms = list(zip(operands, letters, strict=True))
    found: list[Variable | None] = []
    for k, left in enumerate(letters):
        others = [(dY, result), *terms[:k], *terms[k + 1 :]]
        named = left.replace(DOTS, ".")
        if len(set(named)) < len(named) or not set(named) <= set("".join(t for _, t in others)):
            raise unranked(op)
        equation = ",".join(t for _, t in others) + "->" + left
        found.append(g.Einsum(*[v for v, _ in others], equation=equation))
    return found


def _without(g: Tape, term: Term, others: list[Term]) -> Variable:
    """The sum of products of ``others`` that leaves the letters of ``term``.

    The second and later dims of a repeated letter get letters of their own, tied to it by an
    identity matrix.
    """
    X, letters = term
    others = list(others)
    unused = letters_besides("".join([letters, *(t for _, t in others)]))
    left = ""
    for axis, c in enumerate(letters):
        if c in left:
            left += next(unused)
            others.append((_identity(g, X, axis), c + left[-1]))
        else:
            left += c
    reached = "".join(t for _, t in others)
    dX = _product(g, others, "".join(c for c in left if c in reached))
    alone = [axis for axis, c in enumerate(left) if c not in reached]
    return _spread(g, dX, X, alone) if alone else dX


def _spread(g: Tape, dX: Variable, X: Variable, axes: list[int]) -> Variable:
    """dX repeated along new axes: those of the letters that X alone has."""
    sizes = g.dims(*[g.dim_of(X, k) if k in axes else 1 for k in range(X.ndim)])
    spread: Variable = g.Expand(g.Unsqueeze(dX, axes), sizes)
    kept = iter(dX.tensor_type.shape or ())
    shape = X.tensor_type.shape or ()
    dims = tuple(d if k in axes else next(kept) for k, d in enumerate(shape))
    spread.tensor_type = TensorType(dX.dtype, dims)
    return spread


def _identity(g: Tape, X: Variable, axis: int) -> Variable:
    """The identity matrix of the size of a dim of X."""
    n = g.dim_of(X, axis)
    matrix: Variable = g.EyeLike(g.Expand(g.full(1.0, X), g.dims(n, n)))
    return matrix


def _product(g: Tape, terms: Sequence[Term], left: str) -> Variable:
    """One Einsum, with the dims that broadcasting gives it: onnx takes a letter's first dim."""
    equation = ",".join(letters for _, letters in terms) + "->" + left
    Y: Variable = g.Einsum(*[v for v, _ in terms], equation=equation)
    dims = [broadcast([_dim_of(term, c) for term in terms if c in term[1]]) for c in left]
    Y.tensor_type = Inferred(Y.dtype, tuple(dims)).closed(g.program.fresh_symbol)
    return Y


def _dim_of(term: Term, letter: str) -> Dim:
    shape = term[0].tensor_type.shape
    assert shape is not None
    return shape[term[1].index(letter)]
