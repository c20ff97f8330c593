"""The reference evaluator, where it is not exact: it rounds to float32, and lacks an op."""

import itertools
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops import _op_list, op_affine_grid, op_grid_sample, op_resize


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
known: dict[str, Any] = _op_list._build_registered_operators()
known["MaxRoiPool"] = {None: MaxRoiPool}
_op_list._registered_operators = known
