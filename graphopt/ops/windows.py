"""Windows that slide over the spatial dims of a tensor: what convolutions and poolings share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphopt.errors import GradientError
from graphopt.ir.operator import Operator
from graphopt.ir.tape import Tape
from graphopt.ir.types import Dim, TensorType
from graphopt.ir.variable import Variable


@dataclass(frozen=True)
class Window:
    """One spatial dim: window o reads the elements ``o stride + k dilation - head``.

    ``head`` and ``tail`` are the padding, None where it is known at run time only; ``ceil`` says
    that the last window may reach beyond the padding.
    """

    axis: int
    length: Dim
    count: Dim
    kernel: int
    stride: int
    dilation: int
    head: int | None = 0
    tail: int | None = 0
    lower: bool = False  # the odd element of padding goes before the tensor
    ceil: bool = False

    @property
    def span(self) -> int:
        """The elements from a window's first to its last."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def rest(self) -> int | None:
        """The padded elements behind the last window; negative where it reaches beyond them."""
        if self.head is None or self.tail is None:
            return None
        if isinstance(self.length, int) and isinstance(self.count, int):
            reach = (self.count - 1) * self.stride + self.span
            return self.length + self.head + self.tail - reach
        return 0 if self.stride == 1 else None

    def padded(self, total: int) -> Window:
        """The window with ``total`` elements of padding in halves."""
        small = total // 2
        head, tail = (total - small, small) if self.lower else (small, total - small)
        return replace(self, head=head, tail=tail)


def ints(op: Operator, name: str, default: Sequence[int]) -> list[int]:
    """An attribute that lists one number per spatial dim (or two)."""
    return list(op.attrs.get(name) or default)


def kernel_shape(op: Operator, filter: Variable | None = None) -> list[int]:
    """The spatial dims of the kernel: those of ``filter``, or the op's attribute.

    Raises:
        GradientError: the filter's dims are not all known while recording.
    """
    if filter is None:
        return list(op.attrs["kernel_shape"])
    if filter.tensor_type.is_static:
        return list(filter.shape[2:])
    raise GradientError(
        f"the gradient of {op.type} needs the shape of its filter",
        operands=[(filter.name, filter.tensor_type)],
        where=op.where,
        fix="give the filter a static shape",
    )


def windows(
    op: Operator, big: Variable, small: Variable, kernel: Sequence[int], auto: str = ""
) -> list[Window]:
    """The windows of ``op`` over ``big`` [n, c, *length]; ``small`` is [n, m, *count].

    ``auto`` stands in for the op's auto_pad.
    """
    rank = len(kernel)
    assert big.tensor_type.shape is not None
    assert small.tensor_type.shape is not None
    strides, dilations = ints(op, "strides", [1] * rank), ints(op, "dilations", [1] * rank)
    auto = auto or op.attrs.get("auto_pad", "NOTSET")
    pads = ints(op, "pads", [0] * 2 * rank) if auto == "NOTSET" else [0] * 2 * rank
    found = [
        Window(
            axis=k + 2,
            length=big.tensor_type.shape[k + 2],
            count=small.tensor_type.shape[k + 2],
            kernel=kernel[k],
            stride=strides[k],
            dilation=dilations[k],
            head=pads[k],
            tail=pads[rank + k],
            lower=auto != "SAME_UPPER",
            ceil=bool(op.attrs.get("ceil_mode", 0)),
        )
        for k in range(rank)
    ]
    return [_same(w) for w in found] if auto.startswith("SAME") else found


def _same(w: Window) -> Window:
    """Padding that gives one window per stride."""
    if w.stride == 1:
        return w.padded(w.span - 1)
    if isinstance(w.length, int):
        count = -(-w.length // w.stride)
        return w.padded(max((count - 1) * w.stride + w.span - w.length, 0))
    return replace(w, head=None, tail=None)


def head(g: Tape, w: Window, big: Variable, small: Variable) -> Variable:
    """The padding before the tensor as i64[1], worked out at run time where it must be."""
    if w.head is not None:
        return g.dims(w.head)
    reach = g.Add(g.Mul(g.dim_of(small, w.axis), w.stride), w.span - w.stride)
    total = g.Max(g.Sub(reach, g.dim_of(big, w.axis)), g.dims(0))
    return g.Div(g.Add(total, 1) if w.lower else total, 2)


def scattered(
    g: Tape, small: Variable, filter: Variable, found: Sequence[Window], big: Variable, group: int
) -> Variable:
    """``small``, one element per window, times ``filter``, added up where each window reads.

    small: [n, m, *count]   filter: [m, c / group, *kernel]   result: [n, c, *length of big].
    """
    exact = [_exact(w) for w in found]
    full: Variable = g.ConvTranspose(
        small,
        filter,
        strides=[w.stride for w in found],
        dilations=[w.dilation for w in found],
        pads=[w.head or 0 for w in exact] + [w.tail or 0 for w in exact],
        output_padding=[w.stride - 1 if w.rest is None else max(w.rest, 0) for w in found],
        group=group,
    )
    cut = [w for w in found if w.rest is None]
    if cut:
        starts = g.dims(*[0 if w.head is not None else head(g, w, big, small) for w in cut])
        lengths = g.dims(*[g.dim_of(big, w.axis) for w in cut])
        full = g.Slice(full, starts, g.Add(starts, lengths), [w.axis for w in cut])
    assert full.tensor_type.shape is not None
    assert big.tensor_type.shape is not None
    shape = (*full.tensor_type.shape[:2], *big.tensor_type.shape[2:])
    full.tensor_type = TensorType(full.dtype, shape)
    return full


def _exact(w: Window) -> Window:
    """The padding to strip: a last window that reaches beyond the padding needs more of it."""
    if w.rest is None:
        return replace(w, tail=0) if w.ceil else w
    assert w.tail is not None
    return replace(w, tail=w.tail - min(w.rest, 0))


def taps(g: Tape, kernel: Sequence[int], like: Variable) -> Variable:
    """Filters that copy each element of a window to a channel of its own: [k, 1, *kernel]."""
    size = int(np.prod(kernel))
    return g.const(np.eye(size).reshape(size, 1, *kernel), like.dtype)
