"""Windows that slide over the spatial dims of a tensor: what convolutions and poolings share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphopt.errors import GradientError
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import Dim, TensorType
from graphopt.ops.registry.registry import unranked


@dataclass(frozen=True)
class Window:
    """One spatial dim: window o reads the elements ``o stride + k dilation - head``.

    ``head`` and ``tail`` are the padding, None where it is known at run time only; ``ceil`` says
    that the last window may reach beyond the padding.
    """

    axis: int
    length: Dim
    count: Dim
    kernel: Dim
    stride: int
    dilation: int
    head: int | None = 0
    tail: int | None = 0
    lower: bool = False  # the odd element of padding goes before the tensor
    ceil: bool = False

    @property
    def span(self) -> int | None:
        """The elements from a window's first to its last; None where only a run can tell."""
        return (self.kernel - 1) * self.dilation + 1 if isinstance(self.kernel, int) else None

    @property
    def rest(self) -> int | None:
        """The padded elements behind the last window; negative where it reaches beyond them."""
        if self.head is None or self.tail is None:
            return None
        length, count, span = self.length, self.count, self.span
        if isinstance(length, int) and isinstance(count, int) and span is not None:
            return length + self.head + self.tail - (count - 1) * self.stride - span
        return 0 if self.stride == 1 else None

    def padded(self, total: int) -> Window:
        """The window with ``total`` elements of padding in halves."""
        small = total // 2
        head, tail = (total - small, small) if self.lower else (small, total - small)
        return replace(self, head=head, tail=tail)


def ints(op: Operator, name: str, default: Sequence[int]) -> list[int]:
    """An attribute that lists one number per spatial dim (or two)."""
    return list(op.attrs.get(name) or default)


def kernel_shape(op: Operator, filter: Variable) -> list[Dim]:
    """The spatial dims of a filter, as far as they are known.

    Raises:
        GradientError: not even their number is known while recording.
    """
    stated, shape = list(op.attrs.get("kernel_shape") or ()), filter.tensor_type.shape
    if shape is None:
        raise GradientError(
            f"the gradient of {op.type} needs the rank of its filter",
            operands=[(filter.name, filter.tensor_type)],
            where=op.where,
            fix="give the filter a shape, with symbols where it varies",
        )
    return stated or list(shape[2:])


def ranked(g: Tape, x: Variable, rank: int) -> Variable:
    """x, with symbols for its dims where onnx's inference could not even tell their number."""
    if x.tensor_type.shape is None:
        dims = tuple(g.program.fresh_symbol() for _ in range(rank))
        x.tensor_type = TensorType(x.dtype, dims)
    return x


def windows(
    op: Operator, big: Variable, small: Variable, kernel: Sequence[Dim], auto: str = ""
) -> list[Window]:
    """The windows of ``op`` over ``big`` [n, c, *length]; ``small`` is [n, m, *count].

    ``auto`` stands in for the op's auto_pad.
    """
    rank = len(kernel)
    if big.tensor_type.shape is None or small.tensor_type.shape is None:
        raise unranked(op)
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
    if w.span is not None and w.stride == 1:
        return w.padded(w.span - 1)
    if w.span is not None and isinstance(w.length, int):
        count = -(-w.length // w.stride)
        return w.padded(max((count - 1) * w.stride + w.span - w.length, 0))
    return replace(w, head=None, tail=None)


def head(
    g: Tape, w: Window, big: Variable, small: Variable, filter: Variable | None = None
) -> Variable:
    """The padding before the tensor as i64[1], worked out at run time where it must be."""
    if w.head is not None:
        return g.dims(w.head)
    total = g.Max(g.Sub(reach(g, w, small, filter), g.dim_of(big, w.axis)), g.dims(0))
    return g.Div(g.Add(total, 1) if w.lower else total, 2)


def reach(g: Tape, w: Window, small: Variable, filter: Variable | None) -> Variable:
    """The elements from the start of the first window to the end of the last: i64[1]."""
    starts = g.Mul(g.Sub(g.dim_of(small, w.axis), 1), w.stride)
    return g.Add(starts, span_of(g, w, filter))


def span_of(g: Tape, w: Window, filter: Variable | None) -> Variable:
    """The elements from a window's first to its last: i64[1]."""
    if w.span is not None:
        return g.dims(w.span)
    assert filter is not None
    return g.Add(g.Mul(g.Sub(g.dim_of(filter, w.axis), 1), w.dilation), 1)


def scattered(
    g: Tape, small: Variable, filter: Variable, found: Sequence[Window], big: Variable, group: int
) -> Variable:
    """``small``, one element per window, times ``filter``, added up where each window reads.

    small: [n, m, *count]   filter: [m, c / group, *kernel]   result: [n, c, *length of big].
    """
    if group > 1 and filter.shape[:2] != (group, 1):
        return _scattered_by_group(g, small, filter, found, big, group)
    exact = [_exact(w) for w in found]
    full = g.ConvTranspose(
        small,
        filter,
        strides=[w.stride for w in found],
        dilations=[w.dilation for w in found],
        pads=[w.head or 0 for w in exact] + [w.tail or 0 for w in exact],
        output_padding=[w.stride - 1 if w.rest is None else max(w.rest, 0) for w in found],
        group=group,
    )
    full = ranked(g, full, big.ndim)
    cut = [replace(w, head=0 if w.head is not None else None) for w in found if w.rest is None]
    if cut:
        starts = g.dims(*[head(g, w, big, small, filter) for w in cut])
        lengths = g.dims(*[g.dim_of(big, w.axis) for w in cut])
        full = g.Slice(full, starts, g.Add(starts, lengths), [w.axis for w in cut])
    shape, whole = full.tensor_type.shape, big.tensor_type.shape
    assert shape is not None
    assert whole is not None
    full.tensor_type = TensorType(full.dtype, (*shape[:2], *whole[2:]))
    return full


def _scattered_by_group(
    g: Tape, small: Variable, filter: Variable, found: Sequence[Window], big: Variable, group: int
) -> Variable:
    """``scattered`` by one MatMul per group, whose columns a ConvTranspose of one channel adds up.

    The reference evaluator is wrong on a ConvTranspose of groups that have several channels.
    """
    axes = range(2, small.ndim)
    filters = g.reshape(filter, group, -1, elements(g, filter, 1))  # [group, m, c k]
    rows = g.reshape(small, 0, group, g.dim_of(filters, 1), -1)  # [n, group, m, o]
    columns = g.MatMul(g.swap(filters), rows)  # [n, group, c k, o]
    counts = [g.dim_of(small, axis) for axis in axes]
    single = g.reshape(columns, -1, elements(g, filter, 2), *counts)  # [n group c, k, *o]
    copies = taps(g, [w.kernel for w in found], small, filter)
    sums = scattered(g, single, copies, found, big, 1)  # [n group c, 1, *i]
    return g.reshape(sums, g.dim_of(small, 0), -1, *[g.dim_of(big, axis) for axis in axes])


def elements(g: Tape, x: Variable, start: int) -> Variable:
    """The product of the dims of x from ``start`` on: i64[1]."""
    dims = x.shape[start:]
    if min(dims) >= 0:
        return g.dims(int(np.prod(dims)))
    return g.ReduceProd(g.Shape(x, start=start), keepdims=1)


def _exact(w: Window) -> Window:
    """The padding to strip: a last window that reaches beyond the padding needs more of it."""
    if w.rest is None:
        return replace(w, tail=0) if w.ceil else w
    assert w.tail is not None
    return replace(w, tail=w.tail - min(w.rest, 0))


def taps(g: Tape, kernel: Sequence[Dim], like: Variable, filter: Variable) -> Variable:
    """Filters that copy each element of a window to a channel of its own: [k, 1, *kernel].

    ``filter`` has the dims of the kernel, from the third on.
    """
    known = [k for k in kernel if isinstance(k, int)]
    if len(known) == len(kernel):
        return g.const(np.eye(int(np.prod(known))).reshape(-1, 1, *known), like.dtype)
    size = elements(g, filter, 2)
    eye = g.EyeLike(g.Expand(g.full(0.0, like), g.dims(size, size)))
    return g.reshape(eye, -1, 1, *[g.dim_of(filter, axis) for axis in range(2, filter.ndim)])
