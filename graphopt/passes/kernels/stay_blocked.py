"""Keeps channels in blocks between convolutions: reorderings move behind what is in between."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ops.kernels.blocked import DOMAIN
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.patterns import (
    Becomes,
    Site,
    first,
    ints,
    result_of,
    same_shape,
    scalar,
)
from graphopt.passes.kernels.walk import Forms, take

FROM, TO, CONV = f"{DOMAIN}::ReorderOutput", f"{DOMAIN}::ReorderInput", f"{DOMAIN}::Conv"
MEAN = f"{DOMAIN}::GlobalAveragePool"
FLOAT_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class StayBlocked(Pass):
    """Apply ``BLOCKED_FORMS``: f(ReorderOutput(x)) = ReorderOutput(f(x)), element by element.

    What comes to nothing is ReorderInput(ReorderOutput(x)) = x, where blocks are full.

    >>> from graphopt.ir.text.parse import parse_step
    >>> import graphopt.ops
    >>> s = parse_step('''
    ... step
    ... feed x : f32[2, 16, 5, 5]
    ... a : f32[2, 16, 5, 5] = com.microsoft.nchwc::ReorderOutput(x, channels=16)
    ... b : f32[2, 16, 5, 5] = Relu(a)
    ... y : f32[2, 16, 5, 5] = com.microsoft.nchwc::ReorderInput(b)
    ... z : f32[2, 16, 5, 5] = Neg(y)
    ... -> z
    ... ''')
    >>> print(StayBlocked().run(s).text(where=False))
    step : opset 21, 2 ops, 1 feed, 0 params
      feed x : f32[2, 16, 5, 5]
      -- forward
      relu_0 : f32[2, 16, 5, 5] = Relu(x)
      z : f32[2, 16, 5, 5] = Neg(relu_0)
      -> z
    """

    def needed(self, step: Step) -> bool:
        """Whether anything is in blocks."""
        return any(op.type == FROM for block in step.blocks for op in block.ops)

    def change(self, step: Step) -> None:
        """Take the forms, in one walk."""
        take(step, BLOCKED_FORMS)


def _inner(s: Site, x: Variable | None) -> Variable | None:
    """What x is in blocks, if a reordering without missing channels makes it of that."""
    op = s.maker(x, FROM)
    if op is None or x is None:
        return None
    found = first(op)
    return found if same_shape(found, x) else None


def there_and_back(s: Site, op: Operator) -> Variable | None:
    """ReorderInput(ReorderOutput(x)) = x."""
    return _inner(s, first(op))


def element_by_element(s: Site, op: Operator) -> Becomes | None:
    """f(ReorderOutput(x), ReorderOutput(y)) = ReorderOutput(f(x, y)); y may be a number."""
    y = result_of(op)
    operands: list[Variable] = []
    for x in op.operands():
        found = x if scalar(x) is not None and _spreads(x, y) else _inner(s, x)
        if found is None or not (isinstance(x, Constant) or same_shape(x, y)):
            return None
        operands.append(found)
    if all(isinstance(x, Constant) for x in operands):
        return None
    made = _with_relu(s, op, operands[0]) if op.type == "Relu" else None
    if made is None:
        made = s.emit(op, op.type, *operands, **op.attrs)
    return Becomes(FROM, (made,), {"channels": y.shape[1]})


def _spreads(number: Variable, y: Variable) -> bool:
    return math.prod(number.shape) == 1 and number.ndim <= y.ndim


def _with_relu(s: Site, op: Operator, x: Variable) -> Variable | None:
    """Relu(Conv(x)) as one op, where nothing else reads the convolution."""
    conv = s.maker(x, CONV)
    if conv is None or not s.once(x) or not s.once(first(op)) or "activation" in conv.attrs:
        return None
    if any(v is None for v in conv.inputs):
        return None
    return s.emit(op, CONV, *conv.operands(), **conv.attrs, activation="Relu")


def mask(s: Site, op: Operator) -> Becomes | None:
    """Cast(X > 0) of a result of Relu = min(X times the largest float, 1): one op, and quicker.

    A number below the smallest normal one may give less than 1.
    """
    above = s.maker(first(op), "Greater")
    if above is None or result_of(op).dtype != np.float32 or not s.once(first(op)):
        return None
    x, zero = above.operands()
    if scalar(zero) != 0 or x.dtype != np.float32 or not same_shape(x, result_of(op)):
        return None
    behind = _inner(s, x)
    made = s.maker(x if behind is None else behind, "Relu", CONV)
    if made is None or (made.type == CONV and made.attrs.get("activation") != "Relu"):
        return None
    return Becomes("HardSigmoid", (x,), {"alpha": FLOAT_MAX, "beta": 0.0})


def mean_of_channels(s: Site, op: Operator) -> Becomes | None:
    """ReduceMean(ReorderOutput(x), [2, 3]): blocks of means are in the order of channels."""
    x, axes = _inner(s, first(op)), ints(op.maybe("axes"))
    if x is None or axes is None or sorted(a % 4 for a in axes) != [2, 3]:
        return None
    target = s.program.constant(np.array(result_of(op).shape, np.int64))
    return Becomes("Reshape", (s.emit(op, MEAN, x), target))


BLOCKED_FORMS: Forms = {
    TO: [there_and_back],
    "Add": [element_by_element],
    "Cast": [mask],
    "HardSigmoid": [element_by_element],
    "Mul": [element_by_element],
    "ReduceMean": [mean_of_channels],
    "Relu": [element_by_element],
    "Sub": [element_by_element],
}
