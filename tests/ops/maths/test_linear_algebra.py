"""Determinants of matrices that have no inverse, and products that broadcast at run time."""

import pytest

from graphopt.ops.registry.cases import Draw, case
from tests.ops.harness import build
from tests.ops.test_gradients import check, objective


def of_rank(rank, size):
    """A matrix of a rank, as a fed operand."""

    def sample(rng, shape):
        return rng.normal(size=(size, rank)) @ rng.normal(size=(rank, size))

    return Draw((size, size), sample)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("rank", "size"), [(1, 2), (2, 3), (1, 3), (3, 4), (5, 5)])
def test_determinant_of_a_singular_matrix(rank, size, symbolic, rng):
    built = build("Det", case(X=of_rank(rank, size)), rng, symbolic=symbolic)
    live = check(built.program, objective(built, rng), built.wrt, built.feeds, rng)
    g = built.program.recorder()
    second = g.ReduceSum(g.Mul(live[0][1], live[0][1]), keepdims=0)
    check(built.program, second, built.wrt, built.feeds, rng)


@pytest.mark.parametrize(
    ("A", "B"),
    [((2, 1, 3, 4), (5, 4, 2)), ((1, 3, 4), (5, 4, 2)), ((4,), (5, 4, 2)), ((5, 3, 4), (4,))],
)
def test_product_of_batches(A, B, rng):
    hidden = [Draw(s, lambda rng, shape: rng.normal(size=shape)) for s in (A, B)]
    built = build("MatMul", case(A=hidden[0], B=hidden[1]), rng, symbolic=True)
    check(built.program, objective(built, rng), built.wrt, built.feeds, rng)


def test_batches_of_open_sizes_broadcast_at_run_time(rng):
    """Neither dim is known to be 1 while recording."""
    sample = case(A=(2, 3, 4), B=(2, 4, 5))
    built = build("MatMul", sample, rng, symbolic=True)
    feeds = {"A": rng.normal(size=(1, 3, 4)), "B": rng.normal(size=(2, 4, 5))}
    g = built.program.recorder()
    target = g.ReduceSum(g.Sin(built.results[0]), keepdims=0)
    check(built.program, target, built.wrt, feeds, rng)
