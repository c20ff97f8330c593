import numpy as np
import pytest

from graphopt import tensor as tn
from graphopt.errors import ArgumentError
from graphopt.scoping import default_main_program
from tests.tensor.recording import assert_gradient, both, fed

X = np.arange(12, dtype=np.float32).reshape(3, 4)
TIMES = np.array([2, 0, 3])


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_each_equally_often(axis):
    found = both(lambda x: tn.repeat_interleave(x, 3, axis), X)
    np.testing.assert_array_equal(found, X.repeat(3, axis))
    assert_gradient(lambda x: tn.repeat_interleave(x, 3, axis), X)


def test_a_number_for_each():
    np.testing.assert_array_equal(
        both(lambda x: tn.repeat_interleave(x, TIMES.tolist(), 0), X), X.repeat(TIMES, 0)
    )
    fixed = both(lambda x: tn.repeat_interleave(x, x.program.constant(TIMES), 0), X)
    np.testing.assert_array_equal(fixed, X.repeat(TIMES, 0))
    fed_times = both(lambda x, n: tn.repeat_interleave(x, n, 0), X, TIMES.astype("i4"))
    np.testing.assert_array_equal(fed_times, X.repeat(TIMES, 0))
    assert_gradient(lambda x: tn.repeat_interleave(x, [2, 0, 3], 0), X)


def test_types_stay_known():
    x = default_main_program().global_block().create_var("x", ["N", 6, 4])
    assert str(tn.repeat_interleave(x, 2, 1).tensor_type) == "f32[N, 12, 4]"
    assert tn.repeat_interleave(x, 2, 0).shape == (-1, 6, 4)


def test_errors():
    x = fed("x", X)
    with pytest.raises(ArgumentError, match=r"repeats \[1, 2\] do not fit axis 0 of x"):
        tn.repeat_interleave(x, [1, 2], 0)
    with pytest.raises(ArgumentError, match=r"repeats \[-1\] do not fit"):
        tn.repeat_interleave(x, -1, 0)
