"""What a convolution's gradients are made of: two ops of graphopt's own, each with one sum.

Their bodies are plain ONNX. On onnxruntime's CPU ``passes.formulate`` puts quicker ones in place.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import GradientError
from graphopt.ir.model.schema import Attr
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import Dim
from graphopt.ops.registry.cases import case, fixed
from graphopt.ops.registry.registry import formula
from graphopt.ops.windows.windows import Window, elements, ranked, scattered, taps


def filter_gradient(
    g: Tape, big: Variable, small: Variable, W: Variable,
    kernel: Sequence[Dim], attrs: dict[str, Attr], group: int,
) -> Variable:  # fmt: skip
    """dW as one op, or written out where only a run can tell how the windows slide."""
    if _is_settled(W, attrs):
        found: Variable = g.emit("ConvFilterGradient", big, small, W, group=group, **attrs)
        return found
    return _by_columns(g, big, small, W, kernel, attrs, group)


def input_gradient(
    g: Tape, dY: Variable, W: Variable, X: Variable,
    found: Sequence[Window], attrs: dict[str, Attr], group: int,
) -> Variable:  # fmt: skip
    """dX as one op, or written out where only a run can tell how the windows slide."""
    if _is_settled(W, attrs):
        made: Variable = g.emit("ConvInputGradient", dY, W, X, group=group, **attrs)
        return made
    return typed(scattered(g, dY, W, found, X, group), X)


def _is_settled(W: Variable, attrs: dict[str, Attr]) -> bool:
    shape = W.tensor_type.shape
    return "pads" in attrs and shape is not None and all(isinstance(d, int) for d in shape)


@formula(
    "ConvFilterGradient",
    like="W",
    cases=[
        case(X=(2, 3, 5), dY=(2, 2, 3), W=fixed((2, 3, 3)),
             attrs={"strides": [1], "dilations": [1], "pads": [0, 0]}),
        case(X=(2, 2, 4, 5), dY=(2, 3, 2, 3), W=fixed((3, 2, 3, 3)),
             attrs={"strides": [2, 2], "dilations": [1, 1], "pads": [1, 1, 0, 1]}),
        case(X=(1, 4, 3, 5), dY=(1, 2, 2, 3), W=fixed((2, 2, 2, 2)),
             attrs={"strides": [1, 1], "dilations": [1, 2], "pads": [0] * 4, "group": 2}),
    ],
)  # fmt: skip
def conv_filter_gradient(
    g: Tape, X: Variable, dY: Variable, W: Variable,
    *, strides: list[int], dilations: list[int], pads: list[int], group: int = 1,
) -> Variable:  # fmt: skip
    """dW[j, c, k] = sum over n, o of dY[n, j, o] X[n, c, o stride + k dilation - head].

    X: [n, group c, *i]   dY: [n, group m, *o]   W: [group m, c, *k]
    """
    attrs: dict[str, Attr] = {"strides": strides, "dilations": dilations, "pads": pads}
    _, _, filter = (_dims(v) for v in (X, dY, W))
    return _by_columns(g, X, dY, W, filter, attrs, group)


@formula(
    "ConvInputGradient",
    like="X",
    cases=[
        case(dY=(2, 2, 3), W=fixed((2, 3, 3)), X=(2, 3, 5),
             attrs={"strides": [1], "dilations": [1], "pads": [0, 0]}),
        case(dY=(2, 3, 2, 3), W=fixed((3, 2, 3, 3)), X=(2, 2, 4, 5),
             attrs={"strides": [2, 2], "dilations": [1, 1], "pads": [1, 1, 0, 1]}),
        case(dY=(1, 2, 2, 3), W=fixed((2, 2, 2, 2)), X=(1, 4, 3, 5),
             attrs={"strides": [1, 1], "dilations": [1, 2], "pads": [0] * 4, "group": 2}),
    ],
)  # fmt: skip
def conv_input_gradient(
    g: Tape, dY: Variable, W: Variable, X: Variable,
    *, strides: list[int], dilations: list[int], pads: list[int], group: int = 1,
) -> Variable:  # fmt: skip
    """dX[n, c, i] = sum over j, k, o of dY[n, j, o] W[j, c, k], i = o stride + k dilation - head.

    dY: [n, group m, *o]   W: [group m, c, *k]   X: [n, group c, *i]
    """
    rank = len(strides)
    big, small, filter = (_dims(v) for v in (X, dY, W))
    found = [
        Window(
            axis=k + 2,
            length=big[k],
            count=small[k],
            kernel=filter[k],
            stride=strides[k],
            dilation=dilations[k],
            head=pads[k],
            tail=pads[rank + k],
        )
        for k in range(rank)
    ]
    return typed(scattered(g, dY, W, found, X, group), X)


def _dims(v: Variable) -> Sequence[Dim]:
    """The spatial dims."""
    shape = v.tensor_type.shape
    if shape is None:
        raise GradientError(
            "a gradient of a convolution needs operands of known rank",
            operands=[(v.name, v.tensor_type)],
            fix="give them a shape, with symbols where it varies",
        )
    return shape[2:]


def _by_columns(
    g: Tape, big: Variable, small: Variable, W: Variable,
    kernel: Sequence[Dim], attrs: dict[str, Attr], group: int,
) -> Variable:  # fmt: skip
    """A Conv lays the windows of ``big`` out as columns, then the sum is one MatMul."""
    if len(kernel) == 3:
        return _filter_gradient_3d(g, big, small, W, kernel, attrs, group)
    swapped = [1, 0, *range(2, big.ndim)]
    columns = g.Transpose(big, perm=swapped)  # [group c, n, *i]
    if set(kernel) | {*attrs["strides"]} != {1} or any(attrs.get("pads", [1])):
        filters = g.Unsqueeze(taps(g, kernel, big, W), [2])  # [k, 1, 1, *k]
        single = g.Unsqueeze(columns, [1])  # [group c, 1, n, *i]
        columns = ranked(g, g.Conv(single, filters, **_deeper(attrs)), single.ndim)
    rows = g.Transpose(small, perm=swapped)  # [group m, n, *o]
    groups = [group] if group > 1 else []
    rows = g.reshape(rows, *groups, _per_group(g, W, group), -1)  # [group, m, n o]
    columns = g.reshape(columns, *groups, elements(g, W, 1), -1)  # [group, c k, n o]
    return g.reshape_like(g.MatMul(rows, g.swap(columns)), W)


def _deeper(attrs: dict[str, Attr]) -> dict[str, Attr]:
    """The attributes with one more spatial dim in front, along which nothing slides."""
    deeper = {k: [1, *v] for k, v in attrs.items() if k in ("strides", "dilations")}
    if "pads" not in attrs:
        return {**deeper, "auto_pad": attrs["auto_pad"]}
    half = len(attrs["pads"]) // 2
    return {**deeper, "pads": [0, *attrs["pads"][:half], 0, *attrs["pads"][half:]]}


def _filter_gradient_3d(
    g: Tape, big: Variable, small: Variable, W: Variable,
    kernel: Sequence[Dim], attrs: dict[str, Attr], group: int,
) -> Variable:  # fmt: skip
    """dW in 3-D with one MatMul per sample: a Conv has no fourth spatial dim for the samples."""
    single = g.reshape(big, -1, 1, *[g.dim_of(big, axis) for axis in (2, 3, 4)])  # [n c, 1, *i]
    filters = taps(g, kernel, big, W)
    columns = ranked(g, g.Conv(single, filters, **attrs), single.ndim)  # [n c, k, *o]
    columns = g.reshape(
        columns, g.dim_of(big, 0), group, elements(g, W, 1), -1
    )  # [n, group, c k, o]
    rows = g.reshape(small, 0, group, _per_group(g, W, group), -1)  # [n, group, m, o]
    dW = g.ReduceSum(g.MatMul(rows, g.swap(columns)), [0], keepdims=0)  # [group, m, c k]
    return g.reshape_like(dW, W)


def _per_group(g: Tape, W: Variable, group: int) -> Variable:
    """The filters of one group: i64[1]."""
    filters = g.dim_of(W, 0)
    if group == 1:
        return filters
    return g.dims(W.shape[0] // group) if W.shape[0] > 0 else g.Div(filters, group)
