"""Einsum's equation with a letter for every dim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from string import ascii_letters

from graphopt.ir.types.types import Dim

DOTS = "..."


def sides(equation: str) -> tuple[list[str], str]:
    """The operands' terms and the result's, which has the letters that occur once by default.

    >>> sides("...ij, jk"), sides("i->")
    ((['...ij', 'jk'], '...ik'), (['i'], ''))
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow:
        once = sorted(c for c in left if c not in ",." and left.count(c) == 1)
        right = DOTS * (DOTS in left) + "".join(once)
    return left.split(","), right


def explicit(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result.

    >>> explicit("...ij, jk", [3, 2])
    (['aij', 'jk'], 'aik')
    """
    terms, right = sides(equation)
    spread = [rank - len(t) + len(DOTS) for t, rank in zip(terms, ranks, strict=True)]
    unused = letters_besides(equation)
    most = max((n for t, n in zip(terms, spread, strict=True) if DOTS in t), default=0)
    dots = "".join(next(unused) for _ in range(most))
    named = [t.replace(DOTS, dots[most - n :]) for t, n in zip(terms, spread, strict=True)]
    return named, right.replace(DOTS, dots)


def letters_besides(used: str) -> Iterator[str]:
    """Letters that are not in ``used``."""
    return (c for c in ascii_letters if c not in used)


def broadcast(dims: Sequence[Dim | None]) -> Dim | None:
    """What dims of one letter broadcast to; None where that is only known at run time.

    >>> broadcast([1, "N"]), broadcast(["N", 3]), broadcast(["N", "M"])
    ('N', 3, None)
    """
    wide = {d for d in dims if d != 1}
    known = [d for d in wide if isinstance(d, int)]
    if known or len(wide) < 2:
        return known[0] if known else next(iter(wide), 1)
    return None
