"""The reference evaluator, where it is not exact or far too slow.

It rounds to float32, lacks an op, and pools number by number: minutes for the cases of one op.
"""

import itertools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from onnx.reference.op_run import OpRun
from onnx.reference.ops import (
    _op_list,
    op_affine_grid,
    op_col2im,
    op_conv_transpose,
    op_grid_sample,
    op_pool_common,
    op_resize,
)


def _positions(self, n, dims, align_corners):
    """GridSample's."""
    pairs = zip(n, dims, strict=True)
    return np.array([self._gs_denormalize(v, dim, align_corners) for v, dim in pairs])


def _affine_grid(self, theta, size, align_corners=None):
    """AffineGrid."""
    base = op_affine_grid.construct_original_grid(size[2:], align_corners)  # [*o, r + 1]
    return (np.einsum("nri,...i->n...r", theta, base).astype(theta.dtype),)


def _exact(coefficients):
    """Resize's cubic weights, with its attribute as a float."""
    return lambda ratio, scale=None, A=-0.75: coefficients(ratio, scale, float(A))


number_by_number = op_pool_common.pool


def at_once(
    padded, x_shape, kernel, strides, out_shape, pooling_type, pads_required=None, pads=None,
    dilations=None, count_include_pad=0, p=1,
):  # fmt: skip
    """``number_by_number`` over a view of all windows; what lies outside is NaN, and left out."""
    rank = len(x_shape) - 2
    ends, pads = (_both_ends(v, rank) for v in (pads_required, pads))
    strides, dilations = strides or [1] * rank, [1] * rank if dilations is None else dilations
    reach = [1 + (k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    counts = [int((x_shape[i + 2] + sum(ends[i::rank]) - reach[i]) / strides[i] + 1)
              for i in range(rank)]  # fmt: skip
    inside = tuple(slice(x_shape[i + 2] + sum(pads[i::rank])) for i in range(rank))
    more = [(0, n * s + r) for n, s, r in zip(counts, strides, reach, strict=True)]
    longer = np.pad(padded[:, :, *inside], [(0, 0), (0, 0), *more], constant_values=np.nan)
    windows = sliding_window_view(longer, reach, axis=tuple(range(2, rank + 2)))
    starts = [slice(None, n * s, s) for n, s in zip(counts, strides, strict=True)]
    steps = [slice(None, None, d) for d in dilations]
    flat = windows[:, :, *starts, *steps].reshape(*padded.shape[:2], *counts, -1)
    y = np.zeros([*padded.shape[:2], *out_shape], padded.dtype)
    y[:, :, *map(slice, counts)] = {
        "AVG": lambda: np.nanmean(flat, axis=-1),
        "MAX": lambda: np.nanmax(flat, axis=-1),
        "LPPOOL": lambda: np.nansum(np.abs(flat) ** p, axis=-1) ** (1 / p),
    }[pooling_type]()
    return y


def _both_ends(pads, rank):
    """[*rank at the start, *rank at the end]; one number stands for all."""
    found = [0] if pads is None else list(pads)
    return found * (2 * rank) if len(found) == 1 else found


image_number_by_number = op_col2im.col2im_naive_implementation


def image_at_once(data, image_shape, kernel_shape, dilations, pads, strides):
    """``image_number_by_number``, all columns of one place in the kernel at a time."""
    rank = len(image_shape)
    sizes = [n + pads[i] + pads[i + rank] for i, n in enumerate(image_shape)]
    counts = [
        (n - (d * (k - 1) + 1)) // s + 1
        for n, d, k, s in zip(sizes, dilations, kernel_shape, strides, strict=True)
    ]
    padded = np.zeros(sizes, data.dtype)
    for column, place in zip(data, np.ndindex(*kernel_shape), strict=True):
        starts = [i * d for i, d in zip(place, dilations, strict=True)]
        spread = zip(starts, counts, strides, strict=True)
        padded[*(slice(a, a + n * s, s) for a, n, s in spread)] += column.reshape(counts)
    return padded[*(slice(pads[i], pads[i] + n) for i, n in enumerate(image_shape))]


class MaxRoiPool(OpRun):
    """Region by region and bin by bin."""

    def _run(self, X, rois, pooled_shape=None, spatial_scale=None):
        Y = np.zeros((len(rois), X.shape[1], *pooled_shape), X.dtype)
        for r, (image, x1, y1, x2, y2) in enumerate(rois):
            corners = np.floor(np.array([y1, x1, y2, x2]) * spatial_scale + 0.5).astype(int)
            sizes = np.maximum(corners[2:] - corners[:2] + 1, 1) / np.array(pooled_shape)
            for i, j in itertools.product(*map(range, pooled_shape)):
                bins = np.array([i, j])
                first = np.floor(bins * sizes).astype(int) + corners[:2]
                last = np.ceil((bins + 1) * sizes).astype(int) + corners[:2]
                (a, b), (c, d) = np.clip([first, last], 0, X.shape[2:])
                if a < c and b < d:
                    Y[r, :, i, j] = X[int(image), :, a:c, b:d].max(axis=(1, 2))
        return (Y,)


op_grid_sample.GridSample._gs_denormalize_coordinates = _positions  # type: ignore[method-assign]
op_affine_grid.AffineGrid._run = _affine_grid  # type: ignore[method-assign]
op_resize._cubic_coeffs = _exact(op_resize._cubic_coeffs)
op_resize._cubic_coeffs_antialias = _exact(op_resize._cubic_coeffs_antialias)
op_pool_common.pool = at_once
for module in (op_col2im, op_conv_transpose):
    module.col2im_naive_implementation = image_at_once  # type: ignore[attr-defined]
known: dict[str, Any] = _op_list._build_registered_operators()
known["MaxRoiPool"] = {None: MaxRoiPool}
_op_list._registered_operators = known
