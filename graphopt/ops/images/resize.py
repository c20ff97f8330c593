"""Resize: an interpolation along each axis, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.errors import GradientError
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import Attr
from graphopt.ir.model.tape import Tape, typed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ops.moves.movement import given
from graphopt.ops.registry.cases import Case, Draw, case, i64
from graphopt.ops.registry.registry import decomposition
from graphopt.ops.tools.positions import up_to

OUTSIDE = "extrapolation_value"
INT32, FLOAT32 = np.dtype("i4"), np.dtype("f4")
REGION = Draw((4,), lambda *_: np.array([-0.1, 0.2, 0.8, 0.9]), symbolic=False)
LONG = 1024  # up to this length a product with a matrix is faster than an index per element


def _resized(mode: str, *sizes: int, **attrs: Attr) -> Case:
    """A case that changes the last two dims."""
    attrs = {"mode": mode, "axes": [2, 3], **attrs}
    return case(X=(1, 2, 4, 5), sizes=i64(*sizes), attrs=attrs)


@decomposition(
    "Resize",
    cases=[
        _resized("nearest", 8, 15),
        _resized("nearest", 3, 7, nearest_mode="floor"),
        _resized("nearest", 8, 10, nearest_mode="floor",
                 coordinate_transformation_mode="asymmetric"),
        _resized("linear", 7, 3),
        _resized("linear", 9, 3, keep_aspect_ratio_policy="not_larger"),
        _resized("linear", 2, 3, antialias=1),
        _resized("cubic", 6, 4, exclude_outside=1, cubic_coeff_a=-0.5),
        _resized("linear", 6, 3, coordinate_transformation_mode="align_corners"),
        case(X=(1, 1, 4, 5), sizes=given(1, 1, 6, 3), attrs={"mode": "linear"}),
        case(X=(1, 1, 4, 5), roi=REGION, sizes=i64(3, 4),
             attrs={"mode": "linear", "axes": [2, 3], OUTSIDE: 0.3,
                    "coordinate_transformation_mode": "tf_crop_and_resize"}),
    ],
    nondiff=["scales", "sizes"],
)  # fmt: skip
def resize(g: Tape, op: Operator) -> Variable:
    """Y = X times a matrix [nk, mk] along each axis k        X: [*n]   Y: [*m]."""
    X, Y, outside = op.operand("X"), op.outputs[0], float(np.float32(op.attrs[OUTSIDE]))
    assert Y is not None
    if X.stop_gradient and not X.is_data:
        raise GradientError(
            "Resize has a gradient for roi where it crops and is linear, and none for scales",
            operands=[(v.name, v.tensor_type) for v in op.reads()],
            where=op.where,
            fix="set stop_gradient=True on roi and scales",
        )
    shifted = outside != 0 and _crops(op)  # the weights sum to 1, or to 0 outside of X
    made = g.Sub(X, outside) if shifted else g.Identity(X)
    for number, axis in enumerate(_axes(op)):
        if not _stays(op, number, axis):
            made = _along(g, op, made, number, axis)
    return typed(g.Add(made, outside) if shifted else made, Y)


def _axes(op: Operator) -> list[int]:
    rank = op.operand("X").ndim
    return [axis % rank for axis in op.attrs.get("axes") or range(rank)]


def _crops(op: Operator) -> bool:
    return bool(op.attrs["coordinate_transformation_mode"] == "tf_crop_and_resize")


def _keeps_aspect(op: Operator) -> bool:
    policy = op.attrs["keep_aspect_ratio_policy"]
    return op.maybe("sizes") is not None and policy != "stretch" and len(_axes(op)) > 1


def _stays(op: Operator, number: int, axis: int) -> bool:
    """Whether an axis is known to be left as it is."""
    scales, n = op.maybe("scales"), op.operand("X").shape[axis]
    if _crops(op) or _keeps_aspect(op):
        return False
    if scales is not None:
        return isinstance(scales, Constant) and bool(scales.value[number] == 1)
    sizes = op.operand("sizes")
    return isinstance(sizes, Constant) and bool(sizes.value[number] == n)


def _along(g: Tape, op: Operator, x: Variable, number: int, axis: int) -> Variable:
    """x [*a, n, *b], resized along one axis: [*a, m, *b]."""
    n, times = g.dim_of(x, axis), _repeats(op, number, axis)
    if times:
        return _repeated(g, x, axis, times)
    if op.attrs["mode"] == "nearest" and x.shape[axis] > LONG and not _crops(op):
        positions = g.cast(g.Range(0, g.Squeeze(n, [0]), 1), INT32)
        found = _interpolated(g, op, g.Unsqueeze(positions, [0]), number)  # [1, m]
        return g.Gather(x, g.Squeeze(found, [0]), axis=axis)
    matrix = _cropping(g, op, number, axis) if _crops_simply(op) else _matrix(g, op, x, number, n)
    if axis == x.ndim - 1:
        return g.MatMul(x, matrix)
    columns = g.reshape(x, *[0] * (axis + 1), -1)  # [*a, n, b1 b2 ..]
    rows = g.MatMul(g.swap(matrix), columns)  # [*a, m, b1 b2 ..]
    return g.reshape(rows, *[0] * (axis + 1), *[g.dim_of(x, k) for k in range(axis + 1, x.ndim)])


def _matrix(g: Tape, op: Operator, x: Variable, number: int, n: Variable) -> Variable:
    """What an axis of x, of length n, is multiplied by: [n, m]."""
    eye = g.EyeLike(g.Expand(g.full(0.0, x), g.dims(n, n)))
    eye.stop_gradient = True
    return _interpolated(g, op, eye, number)


def _crops_simply(op: Operator) -> bool:
    """Whether an axis is cropped, to a size that is given, by simple functions of the region."""
    sized = op.maybe("sizes") is not None and not _keeps_aspect(op)
    return _crops(op) and sized and op.attrs["mode"] == "linear" and not op.attrs["antialias"]


def _cropping(g: Tape, op: Operator, number: int, axis: int) -> Variable:
    """The weight max(0, 1 - |x - j|) of each element j for each position x inside X: [n, m].

    x goes from start (n - 1) to end (n - 1) in m equal steps; one element is taken in the middle.
    """
    X, Y, roi, count = op.operand("X"), op.outputs[0], op.operand("roi"), len(_axes(op))
    assert Y is not None
    start, end = (g.cast(g.Gather(roi, i64(k)), X.dtype) for k in (number, count + number))  # [1]
    j, i = (g.cast(up_to(g, g.dim_of(v, axis)), X.dtype) for v in (X, Y))
    last, steps = (g.cast(g.Sub(g.dim_of(v, axis), 1), X.dtype) for v in (X, Y))
    along = g.Where(g.Equal(steps, 0.0), 0.5, g.Div(i, g.Max(steps, 1.0)))  # [m]
    x = g.Mul(g.Add(start, g.Mul(along, g.Sub(end, start))), last)
    weights = g.Max(g.Sub(1.0, g.Abs(g.Sub(x, g.Unsqueeze(j, [1])))), 0.0)
    inside = g.And(g.GreaterOrEqual(x, 0.0), g.LessOrEqual(x, last))
    return g.Where(inside, weights, 0.0)


def _interpolated(g: Tape, op: Operator, rows: Variable, number: int) -> Variable:
    """Each row resized as the op resizes an axis of X: what it does to unit vectors is its matrix.

    rows: [q, n]   result: [q, m]
    """
    attrs = {**op.attrs, "axes": [1], OUTSIDE: 0.0}
    roi, scales, sizes = (_picked(g, op.maybe(k), [number]) for k in ("_", "scales", "sizes"))
    if _crops(op):
        count = len(_axes(op))
        roi = _picked(g, op.operand("roi"), [number, count + number])
    if _keeps_aspect(op) and sizes is not None:
        return _keeping_aspect(g, op, rows, roi, sizes)
    return g.Resize(rows, roi, scales, sizes, **attrs)


def _keeping_aspect(
    g: Tape, op: Operator, rows: Variable, roi: Variable | None, size: Variable
) -> Variable:
    """The rows resized beside a copy of the axis that limits the scale of all axes."""
    n, sizes = g.dims(*[g.dim_of(op.operand("X"), k) for k in _axes(op)]), op.operand("sizes")
    ratios = g.Div(g.cast(sizes, FLOAT32), g.cast(n, FLOAT32))
    smallest = op.attrs["keep_aspect_ratio_policy"] == "not_larger"
    limit = (g.ArgMin if smallest else g.ArgMax)(ratios, axis=0, keepdims=1)  # [1]
    wide = g.Expand(g.Unsqueeze(rows, [1, 3]), g.dims(1, 1, 1, g.Gather(n, limit)))
    wide.stop_gradient = True
    if roi is not None:
        start, end = g.Split(roi, num_outputs=2, outputs=2)
        roi = g.Concat(start, [0.0], end, [1.0], axis=0)
    attrs = {**op.attrs, "axes": [2, 3], OUTSIDE: 0.0}
    both = g.dims(size, g.Gather(sizes, limit))
    return g.Squeeze(g.Gather(g.Resize(wide, roi, None, both, **attrs), 0, axis=3), [1])


def _picked(g: Tape, v: Variable | None, positions: Sequence[int]) -> Variable | None:
    """Some elements of a vector."""
    if v is None or isinstance(v, Constant):
        return None if v is None else g.const(v.value[positions])
    return g.Gather(v, i64(*positions))


def _repeats(op: Operator, number: int, axis: int) -> int:
    """How often each element is repeated, 0 where it is not that simple.

    With two symbolic dims or more, only the copies themselves tell the shape of their gradient.
    """
    scales, sizes, shape = op.maybe("scales"), op.maybe("sizes"), op.operand("X").shape
    mode, transform = (op.attrs[k] for k in ("nearest_mode", "coordinate_transformation_mode"))
    centred = mode.startswith("round") and transform.startswith("half_pixel")
    simple = centred or (mode, transform) == ("floor", "asymmetric")
    if op.attrs["mode"] != "nearest" or _keeps_aspect(op) or not simple or shape.count(-1) > 1:
        return 0
    factor, n = 0.0, shape[axis]
    if isinstance(scales, Constant):
        factor = float(scales.value[number])
    elif isinstance(sizes, Constant) and n > 0:
        factor = float(sizes.value[number] / n)
    return int(factor) if factor.is_integer() else 0


def _repeated(g: Tape, x: Variable, axis: int, times: int) -> Variable:
    """Each element along an axis as often in a row: what upsampling by a whole number does."""
    ones = [1] * x.ndim
    copies = g.Expand(g.Unsqueeze(x, [axis + 1]), [*ones[: axis + 1], times, *ones[axis + 1 :]])
    return g.reshape(copies, *[0] * axis, -1, *[g.dim_of(x, k) for k in range(axis + 1, x.ndim)])
