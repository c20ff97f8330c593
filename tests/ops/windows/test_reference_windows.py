"""The quick pooling and Col2Im of tests/ops/conftest.py equal the reference evaluator's own."""

import itertools

import numpy as np
import pytest

from tests.ops.conftest import (
    at_once,
    image_at_once,
    image_number_by_number,
    number_by_number,
)

WINDOWS = list(itertools.product([(2,), (3, 2)], [1, 3], [1, 2], [(0, 0), (1, 1), (0, 1)]))


@pytest.mark.parametrize("how", ["AVG", "MAX", "LPPOOL"])
@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize(("kernel", "stride", "dilation", "pads"), WINDOWS)
def test_at_once_is_number_by_number(how, counted, kernel, stride, dilation, pads, rng):
    rank = len(kernel)
    x = rng.normal(size=(2, 2, 7, 6)[: rank + 2])
    value = np.nan if how == "MAX" or not counted else 0.0
    padded = np.pad(x, [(0, 0), (0, 0), *[pads] * rank], constant_values=value)
    reach = [1 + (k - 1) * dilation for k in kernel]
    given = [n + sum(pads) for n in x.shape[2:]]
    out = [(n - r) // stride + 1 for n, r in zip(given, reach, strict=True)]
    both = [*[pads[0]] * rank, *[pads[1]] * rank]
    found, expected = (
        pool(padded, x.shape, kernel, [stride] * rank, out, how, both, both,
             [dilation] * rank, counted, 3)
        for pool in (at_once, number_by_number)
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize(("kernel", "stride", "dilation", "pads"), WINDOWS)
def test_an_image_at_once_is_number_by_number(kernel, stride, dilation, pads, rng):
    rank = len(kernel)
    image = (7, 6)[:rank]
    reach = [1 + (k - 1) * dilation for k in kernel]
    counts = [(n + sum(pads) - r) // stride + 1 for n, r in zip(image, reach, strict=True)]
    data = rng.normal(size=(np.prod(kernel), np.prod(counts)))
    both = [*[pads[0]] * rank, *[pads[1]] * rank]
    found, expected = (
        images(data, image, kernel, [dilation] * rank, both, [stride] * rank)
        for images in (image_at_once, image_number_by_number)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)
