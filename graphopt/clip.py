"""Gradient clipping, before regularization. Users find the classes as ``nn.ClipGradBy…``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphopt.errors import ArgumentError
from graphopt.ir.model.operator import Role
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.literals import number
from graphopt.ir.types.where import at

Pairs = list[tuple[Parameter, Variable]]
Clip = Callable[[Tape, Variable], Variable]


class ClipGradBase:
    """Base of the clip classes: a call maps (parameter, gradient) pairs to clipped pairs.

    Pairs without a gradient are dropped. Gradients of parameters with ``need_clip=False`` pass
    through, and do not count in a global norm.
    """

    def __call__(self, params_grads: Sequence[tuple[Parameter, Variable | None]]) -> Pairs:
        """Record the clipping ops over (parameter, gradient) pairs, ``params_grads``."""
        pairs = [(p, grad) for p, grad in params_grads if grad is not None]
        chosen = [(p, grad) for p, grad in pairs if p.need_clip]
        if not chosen:
            return pairs
        g = Tape(chosen[0][0].block, role=Role.CLIP, made_by="clip")
        clip = self.clipper(g, [grad for _, grad in chosen])
        return [(p, _clipped(g, p, grad, clip) if p.need_clip else grad) for p, grad in pairs]

    def clipper(self, g: Tape, grads: Sequence[Variable]) -> Clip:
        """The function that clips one gradient; ``grads`` are all that are clipped together.

        ``g`` is the tape that records what they share.
        """
        raise NotImplementedError


def _clipped(g: Tape, parameter: Parameter, grad: Variable, clip: Clip) -> Variable:
    with at(parameter.where):
        return clip(g, grad)


class ClipGradByValue(ClipGradBase):
    """Every element of a gradient into [``min``, ``max``]; ``min`` is by default -``max``.

    >>> import graphopt as go
    >>> print(go.nn.ClipGradByValue(0.5))
    Clip Gradient By Value, min = -0.500000, max=0.500000

    Raises:
        ArgumentTypeError: a bound is not a number.
        ArgumentError: ``max`` is not positive and ``min`` is not given, or ``min`` is above it.
    """

    def __init__(self, max: float, min: float | None = None) -> None:
        self.max = number("ClipGradByValue: max", max)
        if min is None and self.max <= 0:
            raise ArgumentError(f"ClipGradByValue: max must be positive, not {max}")
        self.min = -self.max if min is None else number("ClipGradByValue: min", min)
        if self.min > self.max:
            raise ArgumentError(f"ClipGradByValue: min {min} is above max {max}")

    def clipper(self, g: Tape, grads: Sequence[Variable]) -> Clip:
        """The function that clips a gradient to the bounds."""
        return lambda g, grad: g.Clip(grad, self.min, self.max)

    def __str__(self) -> str:
        return f"Clip Gradient By Value, min = {self.min:f}, max={self.max:f}"


class ClipGradByNorm(ClipGradBase):
    """Each gradient g by its own 2-norm: g clip_norm / max(norm(g), clip_norm).

    ``clip_norm`` is the largest norm that is left as it is. The norm is taken in float32 (float64
    where the gradient is).

    >>> import graphopt as go
    >>> print(go.nn.ClipGradByNorm(1.0))
    Gradient Clip By Norm, clip_norm=1.000000

    Raises:
        ArgumentTypeError: ``clip_norm`` is not a number.
        ArgumentError: ``clip_norm`` is not positive.
    """

    def __init__(self, clip_norm: float) -> None:
        self.clip_norm = number("ClipGradByNorm: clip_norm", clip_norm)
        if self.clip_norm <= 0:
            raise ArgumentError(f"ClipGradByNorm: clip_norm must be positive, not {clip_norm}")

    def clipper(self, g: Tape, grads: Sequence[Variable]) -> Clip:
        """The function that scales a gradient by its own norm."""

        def clip(g: Tape, grad: Variable) -> Variable:
            norm = g.Sqrt(_sum_of_squares(g, grad, _wide([grad])))
            return _scaled(g, grad, norm, self.clip_norm)

        return clip

    def __str__(self) -> str:
        return f"Gradient Clip By Norm, clip_norm={self.clip_norm:f}"


class ClipGradByGlobalNorm(ClipGradBase):
    """All gradients by their common 2-norm G: g clip_norm / max(G, clip_norm).

    ``clip_norm`` is the largest G that is left as it is. The norm is taken in float32 (float64
    where a gradient is). ``group_name`` and ``auto_skip_clip`` are accepted as in Paddle and change
    nothing: what is clipped together are the parameters of an optimizer, or of one of its groups.

    >>> import graphopt as go
    >>> optimizer = go.optimizer.SGD(0.1, grad_clip=go.nn.ClipGradByGlobalNorm(1.0))

    Raises:
        ArgumentTypeError: ``clip_norm`` is not a number.
    """

    def __init__(
        self, clip_norm: float, group_name: str = "default_group", auto_skip_clip: bool = False
    ) -> None:
        self.clip_norm = number("ClipGradByGlobalNorm: clip_norm", clip_norm)
        self.group_name = group_name
        self.auto_skip_clip = auto_skip_clip

    def clipper(self, g: Tape, grads: Sequence[Variable]) -> Clip:
        """The function that scales a gradient by the norm of all ``grads`` together."""
        wide = _wide(grads)
        squares = [_sum_of_squares(g, grad, wide) for grad in grads]
        norm = g.Sqrt(squares[0] if len(squares) == 1 else g.Sum(*squares))
        return lambda g, grad: _scaled(g, grad, norm, self.clip_norm)

    def __str__(self) -> str:
        return f"Gradient Clip By GlobalNorm, global_norm={self.clip_norm:f}"


def _wide(grads: Sequence[Variable]) -> np.dtype:
    """The dtype of norms: the squares of halves would overflow."""
    return max((np.dtype("f4"), *(v.dtype for v in grads)), key=lambda d: d.itemsize)


def _sum_of_squares(g: Tape, grad: Variable, dtype: np.dtype) -> Variable:
    return g.ReduceSumSquare(g.cast(grad, dtype), keepdims=0)


def _scaled(g: Tape, grad: Variable, norm: Variable, clip_norm: float) -> Variable:
    factor = g.Div(clip_norm, g.Max(norm, clip_norm))
    return g.Mul(grad, g.cast(factor, grad.dtype))
