"""Weight decay: what is added to a parameter's gradient."""

from __future__ import annotations

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.literals import number


class WeightDecayRegularizer:
    """Base of the regularizers: ``decay`` records the gradient of the penalty.

    ``coeff`` is the factor of the penalty.

    Raises:
        ArgumentError: ``coeff`` is None.
        ArgumentTypeError: ``coeff`` is not a number.
    """

    def __init__(self, coeff: float) -> None:
        if coeff is None:
            raise ArgumentError(f"{type(self).__name__} needs a coefficient", fix="e.g. 1e-4")
        self.coeff = number(f"{type(self).__name__}: coeff", coeff)

    def decay(self, g: Tape, parameter: Parameter) -> Variable:
        """The gradient of the penalty for ``parameter``, recorded by ``g``."""
        raise NotImplementedError

    def __str__(self) -> str:
        return f"{type(self).__name__}, coeff={self.coeff:f}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.coeff!r})"


class L1Decay(WeightDecayRegularizer):
    """The penalty coeff sum |w|: adds coeff sign(w) to a gradient, with sign(0) = 0.

    ``coeff`` is a number, 0 unless given.

    >>> str(L1Decay(0.1))
    'L1Decay, coeff=0.100000'

    Raises:
        ArgumentError: ``coeff`` is None.
        ArgumentTypeError: ``coeff`` is not a number.
    """

    def __init__(self, coeff: float = 0.0) -> None:
        super().__init__(coeff)

    def decay(self, g: Tape, parameter: Parameter) -> Variable:
        """The gradient coeff sign(w)."""
        return g.Mul(g.Sign(parameter), self.coeff)


class L2Decay(WeightDecayRegularizer):
    """The penalty coeff / 2 sum w²: adds coeff w to a gradient.

    ``coeff`` is a number, 0 unless given.

    >>> str(L2Decay(0.3))
    'L2Decay, coeff=0.300000'

    Raises:
        ArgumentError: ``coeff`` is None.
        ArgumentTypeError: ``coeff`` is not a number.
    """

    def __init__(self, coeff: float = 0.0) -> None:
        super().__init__(coeff)

    def decay(self, g: Tape, parameter: Parameter) -> Variable:
        """The gradient coeff w."""
        return g.Mul(parameter, self.coeff)


def as_regularizer(value: object) -> WeightDecayRegularizer | None:
    """The regularizer that ``value`` stands for: a number is L2Decay, None is none.

    Raises:
        ArgumentTypeError: ``value`` is something else.
    """
    if value is None or isinstance(value, WeightDecayRegularizer):
        return value
    if isinstance(value, (int, float)):
        return L2Decay(float(value))
    raise ArgumentTypeError(
        f"unknown regularization type {type(value).__name__}",
        fix="pass a float (L2), L1Decay(coeff) or L2Decay(coeff)",
    )
