"""Poolings over regions of interest: rectangles of an image, each divided into bins."""

from __future__ import annotations

import numpy as np

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import Attr
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Variable
from graphopt.ops.images.sampling import I64, Taps, clipped, length_of, linear, rows_at, weighted
from graphopt.ops.registry.cases import Case, Draw, case, i64
from graphopt.ops.registry.registry import decomposition

CORNERS = np.array([[0.3, 1.2, 4.6, 3.9], [2.1, 0.4, 3.2, 5.7], [-2.4, 0.7, 1.7, 2.3]])


def _align_case(mode: str, ratio: int, **attrs: Attr) -> Case:
    """Three regions, two of which reach beyond their image."""
    attrs = {"mode": mode, "sampling_ratio": ratio, "output_height": 2, "output_width": 3, **attrs}
    rois = Draw((3, 4), lambda *_: CORNERS)
    return case(X=(2, 2, 5, 4), rois=rois, batch_indices=i64(1, 0, 1), attrs=attrs)


@decomposition(
    "MaxRoiPool",
    cases=[
        case(
            X=(2, 2, 5, 4),
            rois=np.array([[0, 1, 1, 3, 4], [1, 0, 0, 2, 3.0], [1, 5, 2, 6, 3]]),
            attrs={"pooled_shape": [2, 3]},
        )
    ],
    nondiff=["rois"],
)
def max_roi_pool(g: Tape, op: Operator) -> Variable:
    """Y = max of X over each bin        X: [n, c, h, w]   rois: [r, 5]   Y: [r, c, *pooled]."""
    X, rois, (height, width) = op.operand("X"), op.operand("rois"), op.attrs["pooled_shape"]
    image, x1, y1, x2, y2 = g.Split(rois, axis=1, num_outputs=5, outputs=5)  # each [r, 1]
    y, x = _whole_bins(g, op, y1, y2, 2, height), _whole_bins(g, op, x1, x2, 3, width)
    taps = [_beside(g, y, 2), _beside(g, x, 1)]
    read, inside = rows_at(g, X, g.Unsqueeze(g.cast(image, I64), [2]), taps)
    return _largest(g, op, read, inside)


@decomposition(
    "RoiAlign",
    cases=[
        _align_case("avg", 2),
        _align_case("avg", 0, spatial_scale=0.85),
        _align_case("avg", 0, coordinate_transformation_mode="output_half_pixel"),
        _align_case("max", 2),
        _align_case("max", 0, coordinate_transformation_mode="output_half_pixel"),
    ],
    nondiff=["batch_indices"],
)
def roi_align(g: Tape, op: Operator) -> Variable:
    """Y = mean or max of X at points of bins     X: [n, c, h, w]   rois: [r, 4]   Y: [r, c, *o].

    The standard's max is over the four elements around each point, times their weights.
    """
    X, average = op.operand("X"), op.attrs["mode"] == "avg"
    x1, y1, x2, y2 = g.Split(op.operand("rois"), axis=1, num_outputs=4, outputs=4)  # each [r, 1]
    y, y_there = _points(g, op, y1, y2, 2, op.attrs["output_height"])
    x, x_there = _points(g, op, x1, x2, 3, op.attrs["output_width"])
    batch = g.reshape(g.cast(op.operand("batch_indices"), I64), -1, 1, 1)
    taps = [_beside(g, y, 2), _beside(g, x, 1)]
    if average:
        Y = op.outputs[0]
        assert Y is not None
        return typed(g.Transpose(weighted(g, X, batch, taps), perm=[0, 3, 1, 2]), Y)
    read, weight = rows_at(g, X, batch, taps)  # [r, *o, k, c] and [r, *o, k]
    there = g.Mul(g.Unsqueeze(y_there, [2, 4]), g.Unsqueeze(x_there, [1, 3]))
    there = g.cast(g.reshape(there, 0, 0, 0, -1), X.dtype)
    return _largest(g, op, g.Mul(read, g.Unsqueeze(weight, [4])), there)


def _largest(g: Tape, op: Operator, read: Variable, there: Variable) -> Variable:
    """The largest that is there; 0 where nothing is.

    read: [r, *o, k, c]   there: 0 or 1, broadcast to [r, *o, k]   result: [r, c, *o]
    """
    Y = op.outputs[0]
    assert Y is not None
    lowest = g.full(-np.inf, read)
    found = g.ReduceMax(
        g.Where(g.Equal(g.Unsqueeze(there, [4]), 0.0), lowest, read), [3], keepdims=0
    )
    found = g.Where(g.Equal(found, lowest), 0.0, found)
    return typed(g.Transpose(found, perm=[0, 3, 1, 2]), Y)


def _beside(g: Tape, taps: Taps, axis: int) -> Taps:
    """The taps along one axis, repeated along the bins of the other."""
    return Taps(g.Unsqueeze(taps.index, [axis]), g.Unsqueeze(taps.weight, [axis]))


def _whole_bins(
    g: Tape, op: Operator, start: Variable, end: Variable, axis: int, bins: int
) -> Taps:
    """The elements of the bins along one axis, each with the weight 1: [r, bins, s]."""
    length = length_of(g, op.operand("X"), axis, start)
    start, end = (_rounded(g, g.Mul(v, _scale(op))) for v in (start, end))
    size = g.Div(g.Max(g.Add(g.Sub(end, start), 1.0), 1.0), float(bins))  # [r, 1]
    low, high = np.arange(bins, dtype=float).tolist(), np.arange(1.0, bins + 1).tolist()
    first = g.Min(g.Max(g.Add(g.Floor(g.Mul(size, low)), start), 0.0), length)  # [r, bins]
    last = g.Min(g.Max(g.Add(g.Ceil(g.Mul(size, high)), start), 0.0), length)
    count = g.Sub(last, first)
    steps = _steps(g, count)
    inside = g.cast(g.Less(steps, g.Unsqueeze(count, [2])), start.dtype)
    return clipped(g, g.Add(g.Unsqueeze(first, [2]), steps), inside, length)


def _rounded(g: Tape, x: Variable) -> Variable:
    """x rounded to an integer, halves away from zero."""
    return g.Mul(g.Sign(x), g.Floor(g.Add(g.Abs(x), 0.5)))


def _steps(g: Tape, count: Variable) -> Variable:
    """0, 1, .. below the largest count, and at least 0: [s], as floats."""
    most = g.Max(g.ReduceMax(g.cast(count, I64), keepdims=0), 1)
    return g.cast(g.Range(0, most, 1), count.dtype)


def _points(
    g: Tape, op: Operator, start: Variable, end: Variable, axis: int, bins: int
) -> tuple[Taps, Variable]:
    """The elements around the points along one axis: [r, bins, 2 s]; and which there are."""
    ratio, average = op.attrs["sampling_ratio"], op.attrs["mode"] == "avg"
    start, size = _extent(g, op, start, end)
    size = g.Div(size, float(bins))  # [r, 1]
    count = g.Ceil(size) if ratio == 0 else g.Add(g.Mul(g.Ceil(size), 0.0), float(ratio))
    steps, several = _steps(g, count), g.Max(count, 1.0)
    part = g.Div(g.Add(steps, 0.5), several)  # [r, s], of a bin
    number = np.arange(float(bins)).reshape(-1, 1).tolist()
    within = g.Mul(g.Add(g.Unsqueeze(part, [1]), number), g.Unsqueeze(size, [2]))
    position = g.Add(g.Unsqueeze(start, [2]), within)  # [r, bins, s]
    length = length_of(g, op.operand("X"), axis, start)
    inner = g.Min(g.Max(position, 0.0), g.Sub(length, 1.0))
    index, weight = linear(g, g.Unsqueeze(inner, [3]))  # [r, bins, s, 2]
    there = g.Unsqueeze(g.Less(steps, count), [1, 3])  # [r, 1, s, 1]
    near = g.And(g.GreaterOrEqual(position, -1.0), g.LessOrEqual(position, length))
    weight = g.Where(g.And(there, g.Unsqueeze(near, [3])), weight, 0.0)
    if average:
        weight = g.Div(weight, g.Unsqueeze(several, [2, 3]))
    exists = g.Mul(g.cast(there, start.dtype), [1.0, 1.0])  # [r, 1, s, 2]
    taps = [g.reshape(v, 0, 0, -1) for v in (index, weight, exists)]
    return clipped(g, taps[0], taps[1], length), taps[2]


def _extent(g: Tape, op: Operator, start: Variable, end: Variable) -> tuple[Variable, Variable]:
    """Where each region starts on the image, and its size."""
    scale = _scale(op)
    size = g.Mul(g.Sub(end, start), scale)
    if op.attrs["coordinate_transformation_mode"] == "half_pixel":
        return g.Sub(g.Mul(start, scale), 0.5), size
    return g.Mul(start, scale), g.Max(size, 1.0)


def _scale(op: Operator) -> float:
    """From corners to places on the image, in the precision that ONNX gives attributes."""
    return float(np.float32(op.attrs["spatial_scale"]))
