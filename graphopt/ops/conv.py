"""Convolutions, with one, two or three spatial dims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphopt.errors import GradientError
from graphopt.ir.operator import Operator
from graphopt.ir.schema import Attr
from graphopt.ir.tape import Tape, typed
from graphopt.ir.variable import Variable
from graphopt.ops.cases import case, fixed
from graphopt.ops.registry import Grads, gradient
from graphopt.ops.windows import Window, ints, kernel_shape, scattered, taps, windows

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
]  # fmt: skip


@gradient("Conv", cases=CONVS)
def conv(g: Tape, op: Operator, dY: Variable) -> Grads:
    """Y = X * W + B        X: [n, c, *i]   W: [m, c / group, *k]   B: [m]   Y: [n, m, *o]."""
    X, W, group = op.operand("X"), op.operand("W"), op.attrs["group"]
    found = windows(op, X, dY, kernel_shape(op, W))
    return {
        "X": typed(scattered(g, dY, W, found, X, group), X),
        "W": filter_gradient(g, X, dY, W, sliding(op, found), group),
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
    found = _transposed_windows(op, dY, X, kernel_shape(op, W))
    attrs = sliding(op, found)
    return {
        "X": typed(g.Conv(dY, W, group=group, **attrs), X),
        "W": filter_gradient(g, dY, X, W, attrs, group),
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
    op: Operator, big: Variable, small: Variable, kernel: Sequence[int]
) -> list[Window]:
    """The windows over the result of a ConvTranspose, each giving one element of its operand."""
    rank = len(kernel)
    extra = ints(op, "output_padding", [0] * rank)
    lengths = op.attrs.get("output_shape")
    auto = op.attrs["auto_pad"]
    plain = "VALID" if auto.startswith("SAME") else auto
    found = windows(op, big, small, kernel, plain)
    found = [replace(w, lower=auto != "SAME_UPPER") for w in found]
    if lengths is not None:
        return [
            w.padded(max(_reach(op, w) + e - length, 0))
            for w, e, length in zip(found, extra, lengths[-rank:], strict=True)
        ]
    if auto.startswith("SAME"):
        return [w.padded(max(w.span + e - w.stride, 0)) for w, e in zip(found, extra, strict=True)]
    return found


def _reach(op: Operator, w: Window) -> int:
    """The elements between the start of the first window and the end of the last."""
    if isinstance(w.count, int):
        return (w.count - 1) * w.stride + w.span
    raise GradientError(
        "the gradient of ConvTranspose with output_shape needs the spatial dims of X",
        operands=[("X", op.operand("X").tensor_type)],
        where=op.where,
        fix="give X static spatial dims, or the op pads in place of output_shape",
    )


def filter_gradient(
    g: Tape, big: Variable, small: Variable, W: Variable, attrs: dict[str, Attr], group: int
) -> Variable:
    """dW[j, c, k] = sum over n, o of small[n, j, o] big[n, c, o stride + k dilation - head].

    big: [n, group c, *i]   small: [n, group m, *o]   W: [group m, c, *k]. A Conv lays the windows
    of ``big`` out as columns, then the sum is one MatMul.
    """
    kernel = W.shape[2:]
    if len(kernel) == 3:
        return _filter_gradient_3d(g, big, small, W, attrs, group)
    swapped = [1, 0, *range(2, big.ndim)]
    columns = g.Transpose(big, perm=swapped)  # [group c, n, *i]
    if set(kernel) | {*attrs["strides"]} != {1} or any(attrs.get("pads", [1])):
        columns = g.Conv(g.Unsqueeze(columns, [1]), taps(g, (1, *kernel), big), **_deeper(attrs))
    rows = g.Transpose(small, perm=swapped)  # [group m, n, *o]
    groups = [group] if group > 1 else []
    rows = g.reshape(rows, *groups, W.shape[0] // group, -1)  # [group, m, n o]
    columns = g.reshape(columns, *groups, _size(W), -1)  # [group, c k, n o]
    return g.reshape_like(g.MatMul(rows, g.swap(columns)), W)


def _deeper(attrs: dict[str, Attr]) -> dict[str, Attr]:
    """The attributes with one more spatial dim in front, along which nothing slides."""
    deeper = {k: [1, *v] for k, v in attrs.items() if k in ("strides", "dilations")}
    if "pads" not in attrs:
        return {**deeper, "auto_pad": attrs["auto_pad"]}
    half = len(attrs["pads"]) // 2
    return {**deeper, "pads": [0, *attrs["pads"][:half], 0, *attrs["pads"][half:]]}


def _filter_gradient_3d(
    g: Tape, big: Variable, small: Variable, W: Variable, attrs: dict[str, Attr], group: int
) -> Variable:
    """The same with one MatMul per sample: a Conv has no fourth spatial dim for the samples."""
    single = g.reshape(big, -1, 1, *[g.dim_of(big, axis) for axis in (2, 3, 4)])  # [n c, 1, *i]
    columns = g.Conv(single, taps(g, W.shape[2:], big), **attrs)  # [n c, k, *o]
    columns = g.reshape(columns, g.dim_of(big, 0), group, _size(W), -1)  # [n, group, c k, o]
    rows = g.reshape(small, 0, group, W.shape[0] // group, -1)  # [n, group, m, o]
    dW = g.ReduceSum(g.MatMul(rows, g.swap(columns)), [0], keepdims=0)  # [group, m, c k]
    return g.reshape_like(dW, W)


def _size(W: Variable) -> int:
    """The elements of one filter: c k."""
    size = 1
    for dim in W.shape[1:]:
        size *= dim
    return size
