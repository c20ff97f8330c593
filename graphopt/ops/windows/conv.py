"""Convolutions, with one, two or three spatial dims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import Attr
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import Dim
from graphopt.ops.registry.cases import case, fixed
from graphopt.ops.registry.registry import Grads, gradient
from graphopt.ops.windows.conv_gradient import filter_gradient, input_gradient
from graphopt.ops.windows.windows import Window, ints, kernel_shape, ranked, reach, span_of, windows

CONVS = [
    case(X=(2, 3, 5), W=fixed((2, 3, 3)), B=fixed((2,))),
    case(X=(2, 2, 6), W=fixed((2, 1, 2)), attrs={"group": 2, "strides": [2], "pads": [1, 0]}),
    case(X=(2, 2, 4, 5), W=fixed((3, 2, 2, 3)), B=fixed((3,)), attrs={"pads": [1, 0, 0, 2]}),
    case(X=(1, 2, 6, 5), W=fixed((2, 2, 3, 2)), attrs={"strides": [2, 3], "dilations": [1, 2]}),
    case(X=(2, 2, 3, 3), W=fixed((3, 2, 1, 1))),
    case(X=(1, 2, 3, 4), W=fixed((3, 2, 1, 1)), attrs={"strides": [2, 2]}),
    case(X=(1, 1, 5, 4), W=fixed((2, 1, 3, 2)), attrs={"auto_pad": "SAME_UPPER"}),
    case(X=(1, 1, 6, 5), W=fixed((2, 1, 4, 2)), attrs={"auto_pad": "SAME_LOWER",
                                                       "strides": [3, 2]}),
    case(X=(1, 1, 5, 4), W=fixed((2, 1, 2, 2)), attrs={"auto_pad": "VALID", "strides": [2, 1]}),
    case(X=(2, 2, 3, 2, 3), W=fixed((2, 1, 2, 1, 2)), attrs={"group": 2, "strides": [1, 1, 2]}),
    case(X=(2, 4, 5), W=fixed((6, 2, 3)), B=fixed((6,)), attrs={"group": 2, "pads": [1, 0]}),
    case(X=(1, 4, 5, 6), W=(4, 2, 2, 3), attrs={"group": 2, "strides": [2, 3]}),
]  # fmt: skip


@gradient("Conv", cases=CONVS)
def conv(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X * W + B        X: [n, c, *i]   W: [m, c / group, *k]   B: [m]   Y: [n, m, *o]."""
    X, W, group = op.operand("X"), op.operand("W"), op.attrs["group"]
    kernel = kernel_shape(op, W)
    rank = 2 + len(kernel)
    found = windows(op, ranked(g, X, rank), ranked(g, dY, rank), kernel)
    attrs = sliding(op, found)
    return {
        "X": input_gradient(g, dY, W, X, found, attrs, group),
        "W": filter_gradient(g, X, dY, W, kernel, attrs, group),
        "B": channel_sums(g, dY),
    }


@gradient(
    "ConvTranspose",
    cases=[
        case(X=(2, 3, 4), W=fixed((3, 2, 3)), B=fixed((2,))),
        case(X=(2, 2, 3, 2), W=fixed((2, 3, 2, 3)), B=fixed((3,)), attrs={"pads": [1, 0, 0, 2]}),
        case(X=(1, 2, 2, 3), W=fixed((2, 1, 3, 2)),
             attrs={"strides": [2, 3], "dilations": [1, 2], "output_padding": [1, 2]}),
        case(X=(2, 2, 3), W=fixed((2, 1, 2)), attrs={"group": 2, "strides": [2]}),
        case(X=(1, 2, 3, 2), W=fixed((2, 2, 3, 2)), attrs={"auto_pad": "SAME_UPPER"}),
        case(X=(1, 2, 2, 2), W=fixed((2, 1, 4, 3)),
             attrs={"auto_pad": "SAME_LOWER", "strides": [1, 2]}),
        case(X=(1, 2, 2, 3, 2), W=fixed((2, 2, 2, 1, 2)), attrs={"strides": [1, 2, 2]}),
    ],
)  # fmt: skip
def conv_transpose(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X *' W + B        X: [n, c, *i]   W: [c, m / group, *k]   B: [m]   Y: [n, m, *o]."""
    X, W, group = op.operand("X"), op.operand("W"), op.attrs["group"]
    kernel = kernel_shape(op, W)
    found = _transposed_windows(op, ranked(g, dY, 2 + len(kernel)), X, kernel)
    around, attrs = _padded(g, op, dY, found)
    return {
        "X": typed(g.Conv(around, W, group=group, **attrs), X),
        "W": filter_gradient(g, around, X, W, kernel, attrs, group),
        "B": channel_sums(g, dY),
    }


def channel_sums(g: Tape, x: Variable) -> Variable:
    """x summed over all dims but the channels'        x: [n, c, *i]   result: [c]."""
    return g.ReduceSum(x, [0, *range(2, x.ndim)], keepdims=0)


def sliding(op: Operator, found: Sequence[Window]) -> dict[str, Attr]:
    """The attributes that make a Conv slide over the windows."""
    attrs: dict[str, Attr] = {
        "strides": [w.stride for w in found],
        "dilations": [w.dilation for w in found],
    }
    if any(w.head is None for w in found):
        return {**attrs, "auto_pad": op.attrs["auto_pad"]}
    return {**attrs, "pads": [w.head for w in found] + [w.tail for w in found]}


def _transposed_windows(
    op: Operator, big: Variable, small: Variable, kernel: Sequence[Dim]
) -> list[Window]:
    """The windows over the result of a ConvTranspose, each giving one element of its operand."""
    auto = op.attrs["auto_pad"]
    plain = "VALID" if auto.startswith("SAME") else auto
    found = [replace(w, lower=auto != "SAME_UPPER") for w in windows(op, big, small, kernel, plain)]
    if "output_shape" not in op.attrs and not auto.startswith("SAME"):
        return found
    totals = [_total(op, w) for w in found]
    return [
        replace(w, head=None, tail=None) if total is None else w.padded(total)
        for w, total in zip(found, totals, strict=True)
    ]


def _total(op: Operator, w: Window) -> int | None:
    """The padding of a ConvTranspose whose length is stated: None where only a run can tell."""
    if w.span is None:
        return None
    if "output_shape" not in op.attrs:
        return max(w.span + _extra(op, w) - w.stride, 0)
    if not isinstance(w.count, int):
        return None
    return max((w.count - 1) * w.stride + w.span + _extra(op, w) - _stated_length(op, w), 0)


def _extra(op: Operator, w: Window) -> int:
    """The elements that a ConvTranspose adds behind the last window."""
    return ints(op, "output_padding", [0] * w.axis)[w.axis - 2]


def _stated_length(op: Operator, w: Window) -> int:
    """The length that a ConvTranspose is told to give."""
    shape: list[int] = op.attrs["output_shape"]
    return shape[len(shape) - op.operand("X").ndim + w.axis]


def _padded(
    g: Tape, op: Operator, dY: Variable, found: Sequence[Window]
) -> tuple[Variable, dict[str, Attr]]:
    """dY with the padding that only a run can tell, and the attributes of a Conv over it."""
    unknown = [w for w in found if w.head is None]
    if not unknown:
        return dY, sliding(op, found)
    totals = [_total_at_run_time(g, op, w) for w in unknown]
    heads = [g.Div(g.Add(t, int(w.lower)), 2) for t, w in zip(totals, unknown, strict=True)]
    tails = [g.Sub(t, h) for t, h in zip(totals, heads, strict=True)]
    around = g.Pad(dY, g.dims(*heads, *tails), None, [w.axis for w in unknown])
    return around, sliding(op, [w if w.head is not None else w.padded(0) for w in found])


def _total_at_run_time(g: Tape, op: Operator, w: Window) -> Variable:
    """The padding along the dim of a window, in front and behind together: i64[1]."""
    X, W = op.operand("X"), op.operand("W")
    if "output_shape" in op.attrs:
        total = g.Sub(reach(g, w, X, W), _stated_length(op, w) - _extra(op, w))
    else:
        total = g.Add(span_of(g, w, W), _extra(op, w) - w.stride)
    return g.Max(total, 0)
