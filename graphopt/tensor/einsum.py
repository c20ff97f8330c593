"""Einstein's summation as matrix products."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.errors import ArgumentError
from graphopt.ir.tape import Tape
from graphopt.ir.variable import Variable
from graphopt.ir.where import here
from graphopt.scoping import recorder
from graphopt.tensor.manipulation import reshape
from graphopt.tensor.operands import TensorLike, as_variable


def einsum(equation: str, *operands: TensorLike) -> Variable:
    """Products of elements, summed over the labels that the result does not have.

    Each operand's dims are named by a term of ``equation``, e.g. "ij,jk->ik".

    >>> einsum("ij,kj->ik", x, x)
    <Variable matmul_0 : f32[N, N]>

    Raises:
        ArgumentError: the equation does not fit the operands.
    """
    g = recorder(*operands)
    values = [as_variable(g, v) for v in operands]
    terms, result = _parse(equation, values)
    done = _Labelled(values[0], terms[0])
    for k in range(1, len(values)):
        kept = set(result).union(*terms[k + 1 :])
        done = _product(g, done, _Labelled(values[k], terms[k]), kept)
    return done.only(g, set(result)).ordered(g, result).value


def _parse(equation: str, values: Sequence[Variable]) -> tuple[list[str], str]:
    """The labels of each operand and of the result; by default those that come once, sorted."""
    text = equation.replace(" ", "")
    inputs, arrow, result = text.partition("->")
    terms = inputs.split(",")
    if not arrow:
        result = "".join(sorted(c for c in set(inputs) - {","} if inputs.count(c) == 1))
    fits = len(terms) == len(values) and all(
        re.fullmatch("[A-Za-z]*", t) and len(set(t)) == len(t) == v.ndim
        for t, v in zip(terms, values, strict=True)
    )
    if not fits or len(set(result)) != len(result) or not set(result) <= set(inputs):
        raise ArgumentError(
            f"einsum: {equation!r} does not fit the operands",
            operands=[(v.name, v.tensor_type) for v in values],
            where=here(),
            fix="give one term per operand and one letter per dim, each once in a term",
        )
    return terms, result


@dataclass(frozen=True)
class _Labelled:
    """A value and the labels of its dims."""

    value: Variable
    labels: str

    def only(self, g: Tape, kept: set[str]) -> _Labelled:
        """Summed over the labels that are not kept."""
        gone = [k for k, c in enumerate(self.labels) if c not in kept]
        if not gone:
            return self
        left = "".join(c for c in self.labels if c in kept)
        return _Labelled(g.ReduceSum(self.value, gone, keepdims=0), left)

    def ordered(self, g: Tape, labels: str) -> _Labelled:
        """With the same labels in another order."""
        if labels == self.labels:
            return self
        perm = [self.labels.index(c) for c in labels]
        return _Labelled(g.Transpose(self.value, perm=perm), labels)

    def size(self, g: Tape, labels: str) -> int | Variable:
        """The product of the dims of some labels."""
        axes = [self.labels.index(c) for c in labels]
        known = math.prod(d for k in axes if (d := self.value.shape[k]) != -1)
        total: int | Variable = known
        for axis in (k for k in axes if self.value.shape[k] == -1):
            dim = g.dim_of(self.value, axis)
            total = dim if isinstance(total, int) and total == 1 else g.Mul(dim, total)
        return total


def _product(g: Tape, x: _Labelled, y: _Labelled, kept: set[str]) -> _Labelled:
    """The product of two operands, summed over the labels that are not kept."""
    x, y = x.only(g, kept | set(y.labels)), y.only(g, kept | set(x.labels))
    batch = "".join(c for c in x.labels if c in y.labels and c in kept)
    summed = "".join(c for c in x.labels if c in y.labels and c not in kept)
    left = "".join(c for c in x.labels if c not in y.labels)
    right = "".join(c for c in y.labels if c not in x.labels)
    x, y = x.ordered(g, batch + left + summed), y.ordered(g, batch + summed + right)
    a = _merged(g, x, len(batch), left, summed)  # [*batch, left, summed]
    b = _merged(g, y, len(batch), summed, right)  # [*batch, summed, right]
    z = g.MatMul(a, b)  # [*batch, left, right]
    if len(left) != 1 or len(right) != 1:
        dims = [*(x.size(g, c) for c in left), *(y.size(g, c) for c in right)]
        z = reshape(z, [*[0] * len(batch), *dims])
    return _Labelled(z, batch + left + right)


def _merged(g: Tape, x: _Labelled, batch: int, first: str, second: str) -> Variable:
    """x with one dim for all labels of ``first`` and one for all of ``second``."""
    if len(first) == len(second) == 1:
        return x.value
    return reshape(x.value, [*[0] * batch, x.size(g, first), x.size(g, second)])
