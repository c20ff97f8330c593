"""Einstein's summation as matrix products."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.errors import ArgumentError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import here
from graphopt.scoping import recorder
from graphopt.tensor.diagonals import diagonal
from graphopt.tensor.manipulation import reshape
from graphopt.tensor.operands import TensorLike, as_variable


def einsum(equation: str, *operands: TensorLike) -> Variable:
    """Products of elements of the ``operands``, summed over the labels that the result lacks.

    ``equation`` labels the dims of each operand and, behind "->", those of the result: "ij,jk->ik"
    is a matrix product. A label that comes twice in an operand takes its diagonal; "..." stands for
    dims without a label, which are broadcast. Without "->" the result has the labels that come
    once, in alphabetical order.

    >>> einsum("ij,kj->ik", x, x), einsum("...ii->...", image)
    (<Variable matmul_0 : f32[N, N]>, <Variable reducesum_0 : f32[N, 3]>)

    Raises:
        ArgumentError: ``equation`` does not fit the ``operands``.
    """
    g = recorder(*operands)
    values = [as_variable(g, v) for v in operands]
    terms, result = _parse(equation, values)
    parts = [_without_repeats(v, t) for v, t in zip(values, terms, strict=True)]
    parts = _without_ones(g, parts)
    done = parts[0]
    for k, part in enumerate(parts[1:], 1):
        kept = set(result).union(*(p.labels for p in parts[k + 1 :]))
        done = _product(g, done, part, kept)
    return done.only(g, set(result)).ordered(g, result).value


def _parse(equation: str, values: Sequence[Variable]) -> tuple[list[str], str]:
    """The labels of each operand and of the result; those of "..." are digits, from the right.

    Without "->" the result has the labels that come once, sorted, behind those of "...".
    """
    inputs, arrow, result = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(values) or not all(re.fullmatch(TERM, t) for t in [*terms, result]):
        raise _unfit(equation, values)
    letters = [t.replace("...", "") for t in terms]
    depths = [v.ndim - len(t) for v, t in zip(values, letters, strict=True)]
    dots = ["..." in t for t in terms]
    if any(d < 0 or (d and not dot) for d, dot in zip(depths, dots, strict=True)):
        raise _unfit(equation, values)
    depth = max((d for d, dot in zip(depths, dots, strict=True) if dot), default=0)
    if depth > len(DIGITS) or (depth and arrow and "..." not in result):
        raise _unfit(equation, values)
    if not arrow:
        once = [c for c in set(inputs) if c.isalpha() and inputs.count(c) == 1]
        result = "..." + "".join(sorted(once))
    found = [
        t.replace("...", DIGITS[len(DIGITS) - d :]) for t, d in zip(terms, depths, strict=True)
    ]
    result = result.replace("...", DIGITS[len(DIGITS) - depth :])
    if len(set(result)) != len(result) or not set(result) <= set("".join(found)):
        raise _unfit(equation, values)
    return found, result


TERM = r"[A-Za-z]*(\.\.\.)?[A-Za-z]*"
DIGITS = "0123456789"


def _unfit(equation: str, values: Sequence[Variable]) -> ArgumentError:
    return ArgumentError(
        f"einsum: {equation!r} does not fit the operands",
        operands=[(v.name, v.tensor_type) for v in values],
        where=here(),
        fix="give one term per operand, and one letter per dim or '...' for dims without one",
    )


def _without_repeats(x: Variable, labels: str) -> _Labelled:
    """The diagonal over every label that comes more than once."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            first, second = labels.index(c), labels.rindex(c)
            sizes = x.shape[first], x.shape[second]
            if -1 not in sizes and sizes[0] != sizes[1]:
                raise ArgumentError(
                    f"einsum: the dims of {x.name} labelled {c!r} differ",
                    operands=[(x.name, x.tensor_type)],
                    where=here(),
                )
            x = diagonal(x, 0, first, second)
            left = [d for k, d in enumerate(labels) if k not in (first, second)]
            labels = "".join([*left, c])
    return _Labelled(x, labels)


def _without_ones(g: Tape, parts: list[_Labelled]) -> list[_Labelled]:
    """Without dims of 1 whose label another operand has with another size: they are broadcast."""
    wide = {c for p in parts for c, d in zip(p.labels, p.value.shape, strict=True) if d != 1}
    return [p.squeezed(g, wide) for p in parts]


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

    def squeezed(self, g: Tape, labels: set[str]) -> _Labelled:
        """Without its dims of 1 among the labels."""
        sizes = [*zip(self.labels, self.value.shape, strict=True)]
        gone = [k for k, (c, d) in enumerate(sizes) if d == 1 and c in labels]
        if not gone:
            return self
        left = "".join(c for k, c in enumerate(self.labels) if k not in gone)
        return _Labelled(g.Squeeze(self.value, gone), left)

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
