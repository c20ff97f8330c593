"""A factor per channel of a convolution's gradient goes to its filters, which are small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.passes.engine.change import Change
from graphopt.passes.engine.dead import drop_dead
from graphopt.passes.engine.patterns import Becomes, ints, same_shape
from graphopt.passes.simplify.rewrite import Sweep


@dataclass(frozen=True)
class ScaleFilters(Change):
    """The two gradients of a convolution whose dY is u times a number per channel, over u.

    What a normalization behind it comes to: one pass over a tensor as large as dY less.

    >>> from graphopt.ir.text.parse import parse
    >>> import graphopt.ops
    >>> p = parse('''
    ... feed x : f32[2, 3, 4]
    ... feed u : f32[2, 5, 4]
    ... feed slope : f32[5]
    ... param w : f32[5, 3, 1]
    ... s : f32[5, 1] = Unsqueeze(slope, [1])
    ... dy : f32[2, 5, 4] = Mul(u, s)
    ... dx : f32[2, 3, 4] = ConvInputGradient(dy, w, x, dilations=[1], pads=[0, 0], strides=[1])
    ... ''')
    >>> print(ScaleFilters(keep=("dx",)).run(p).text(where=False))
    program : opset 21, 3 ops, 3 feeds, 1 param
      feed x : f32[2, 3, 4]
      feed u : f32[2, 5, 4]
      feed slope : f32[5]
      param w : f32[5, 3, 1]
      -- forward
      reshape_0 : f32[5, 1, 1] = Reshape(slope, [-1, 1, 1])
      mul_0 : f32[5, 3, 1] = Mul(w, reshape_0)
      dx : f32[2, 3, 4] = ConvInputGradient(u, mul_0, x, strides=[1], dilations=[1], pads=[0, 0])
    """

    keep: tuple[str, ...] = ()

    def needed(self, program: Program) -> bool:
        """Whether there is such a gradient."""
        return any(op.type in FORMS for block in program.blocks for op in block.ops)

    def change(self, program: Program) -> None:
        """Take the forms, in one walk."""
        Walk(program, self.keep).run()
        drop_dead(program, self.keep)


class Walk(Sweep):
    """A sweep with rules of its own."""

    def _apply(self, op: Operator) -> Becomes | None:
        self.made = []
        form = FORMS.get(op.type)
        return None if form is None else form(self, op)

    def factored(self, op: Operator) -> tuple[Variable, Variable] | None:
        """dY as u and a factor [m, *1] for filters [m, c, *k], if it is their product."""
        whole = op.operand("dY")
        product = self.maker(whole, "Mul")
        if product is None:
            return None
        u, spread = product.operands()
        column = self.maker(spread, "Unsqueeze")
        if column is None or not same_shape(u, whole) or not self.still(product, u):
            return None
        factor, axes = column.operands()
        rank = op.operand("W").ndim
        settled = self.still(product, spread) and self.still(column, factor)
        if factor.ndim != 1 or ints(axes) != [*range(1, rank - 1)] or not settled:
            return None
        dims = self.program.constant(np.array([-1, *[1] * (rank - 1)]))
        return u, self.emit(op, "Reshape", factor, dims)


def input_gradient(s: Walk, op: Operator) -> Becomes | None:
    """dX of u times a factor = dX of u, over filters times the factor."""
    found = s.factored(op)
    if found is None:
        return None
    filters = s.emit(op, "Mul", op.operand("W"), found[1])
    return Becomes(op.type, (found[0], filters, op.operand("X")), op.attrs)


def filter_gradient(s: Walk, op: Operator) -> Becomes | None:
    """dW of u times a factor = dW of u, times the factor."""
    found = s.factored(op)
    if found is None:
        return None
    over_u = s.emit(op, op.type, op.operand("X"), found[0], op.operand("W"), **op.attrs)
    return Becomes("Mul", (over_u, found[1]))


FORMS: Mapping[str, Callable[[Walk, Operator], Becomes | None]] = {
    "ConvFilterGradient": filter_gradient,
    "ConvInputGradient": input_gradient,
}
