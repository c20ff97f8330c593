from math import prod

import numpy as np
import pytest

from tests.benchmarks import rows
from tests.benchmarks.peers import with_graphopt
from tests.benchmarks.race import floor

RATE, BATCH_NUM = 0.1, 2


def asgd_losses(row, steps):
    """Logistic regression by numpy: losses of the first steps."""
    w, b = (value.astype("f8") for value in rows.parameters(row))
    d, y = [0.0, 0.0], [[0.0, 0.0] for _ in range(BATCH_NUM)]
    losses = []
    for k, (x, labels) in enumerate(rows.batches(row, steps)):
        logit = x @ w + b
        losses.append(np.mean(np.logaddexp(0, logit) - labels * logit))
        slope = (1 / (1 + np.exp(-logit)) - labels) / len(x)
        g = [x.T @ slope, slope.sum(0)]
        d = [a - old + new for a, old, new in zip(d, y[k % BATCH_NUM], g, strict=True)]
        y[k % BATCH_NUM] = g
        pace = RATE / min(k + 1, BATCH_NUM)
        w, b = w - pace * d[0], b - pace * d[1]
    return losses


def test_graphopt_trains_the_logistic_row_as_numpy_does():
    row = rows.ROWS["logistic"]
    trainer = with_graphopt.build(row, RATE, BATCH_NUM)
    found = [float(trainer.wait(trainer.step())) for _ in range(5)]
    np.testing.assert_allclose(found, asgd_losses(row, 5), rtol=1e-5)


def test_work_of_the_perceptron_is_what_the_docstring_says():
    found = rows.work(rows.ROWS["mlp_b8"])
    shapes = [(784, 512), (512,), (512, 512), (512,), (512, 10), (10,)]
    assert [shape for _, shape in found.parameters] == shapes
    assert found.flops == 2 * 8 * (2 * 784 * 512 + 3 * 512 * 512 + 3 * 512 * 10)
    assert found.activation_bytes == 2 * 4 * 8 * (4 * 512 + 10)
    assert found.state_bytes == 32 * sum(prod(shape) for shape in shapes)


def test_work_of_lenet_counts_convolutions():
    found = rows.work(rows.ROWS["lenet_b64"])
    multiplications = 2 * 28 * 28 * 6 * 25 + 3 * (
        10 * 10 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10
    )
    assert found.flops == 2 * 64 * multiplications


@pytest.mark.parametrize("row", rows.ROWS.values(), ids=rows.ROWS)
def test_every_row_has_parameters_batches_and_a_floor(row):
    assert len(rows.parameters(row)) == len(rows.work(row).parameters)
    [(x, y)] = rows.batches(row, 1)
    assert (x.shape, y.shape) == (row.input, row.labels)
    assert floor(row, {"flops": 1e12, "bytes": 1e10}) > 0
