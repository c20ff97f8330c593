"""A factor per channel of a convolution's gradient goes to its filters, which are small."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Variable
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.patterns import Becomes, Site, ints, same_shape
from graphopt.passes.kernels.walk import Forms, take


@dataclass(frozen=True)
class ScaleFilters(Pass):
    """The two gradients of a convolution whose dY is u times a number per channel, over u.

    What a normalization behind it comes to: one pass over a tensor as large as dY less.

    >>> from graphopt.ir.text.parse import parse_step
    >>> import graphopt.ops
    >>> s = parse_step('''
    ... step
    ... feed x : f32[2, 3, 4]
    ... feed u : f32[2, 5, 4]
    ... feed slope : f32[5]
    ... param w : f32[5, 3, 1]
    ... s : f32[5, 1] = Unsqueeze(slope, [1])
    ... dy : f32[2, 5, 4] = Mul(u, s)
    ... dx : f32[2, 3, 4] = ConvInputGradient(dy, w, x, dilations=[1], pads=[0, 0], strides=[1])
    ... -> dx
    ... ''')
    >>> print(ScaleFilters().run(s).text(where=False))
    step : opset 21, 3 ops, 3 feeds, 1 param
      feed x : f32[2, 3, 4]
      feed u : f32[2, 5, 4]
      feed slope : f32[5]
      param w : f32[5, 3, 1]
      -- forward
      reshape_0 : f32[5, 1, 1] = Reshape(slope, [-1, 1, 1])
      mul_0 : f32[5, 3, 1] = Mul(w, reshape_0)
      dx : f32[2, 3, 4] = ConvInputGradient(u, mul_0, x, strides=[1], dilations=[1], pads=[0, 0])
      -> dx
    """

    def needed(self, step: Step) -> bool:
        """Whether there is such a gradient."""
        return any(op.type in SCALED_FORMS for block in step.blocks for op in block.ops)

    def change(self, step: Step) -> None:
        """Take the forms, in one walk."""
        take(step, SCALED_FORMS)


def _factored(s: Site, op: Operator) -> tuple[Variable, Variable] | None:
    """dY as u and a factor [m, *1] for filters [m, c, *k], if it is their product."""
    whole = op.operand("dY")
    product = s.maker(whole, "Mul")
    if product is None:
        return None
    u, spread = product.operands()
    column = s.maker(spread, "Unsqueeze")
    if column is None or not same_shape(u, whole):
        return None
    factor, axes = column.operands()
    rank = op.operand("W").ndim
    if factor.ndim != 1 or ints(axes) != [*range(1, rank - 1)]:
        return None
    return u, s.emit(op, "Reshape", factor, s.number(-1, *[1] * (rank - 1)))


def input_gradient(s: Site, op: Operator) -> Becomes | None:
    """dX of u times a factor = dX of u, over filters times the factor."""
    found = _factored(s, op)
    if found is None:
        return None
    filters = s.emit(op, "Mul", op.operand("W"), found[1])
    return Becomes(op.type, (found[0], filters, op.operand("X")), op.attrs)


def filter_gradient(s: Site, op: Operator) -> Becomes | None:
    """dW of u times a factor = dW of u, times the factor."""
    found = _factored(s, op)
    if found is None:
        return None
    over_u = s.emit(op, op.type, op.operand("X"), found[0], op.operand("W"), **op.attrs)
    return Becomes("Mul", (over_u, found[1]))


SCALED_FORMS: Forms = {
    "ConvFilterGradient": [filter_gradient],
    "ConvInputGradient": [input_gradient],
}
