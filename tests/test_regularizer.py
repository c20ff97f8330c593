import numpy as np
import pytest

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.parameters import create_parameter
from graphopt.regularizer import L1Decay, L2Decay, WeightDecayRegularizer, as_regularizer
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.state.scope import Scope
from graphopt.scoping import default_main_program
from tests.helpers import put

W = [-2.0, 0.0, 3.0]


@pytest.mark.parametrize(
    ("regularizer", "expected"),
    [
        (L1Decay(0.5), [-0.5, 0.0, 0.5]),
        (L2Decay(0.5), [-1.0, 0.0, 1.5]),
        (L1Decay(), [0.0, 0.0, 0.0]),
        (L2Decay(), [0.0, 0.0, 0.0]),
        (L2Decay(-1), [2.0, 0.0, -3.0]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_added_to_the_gradient(regularizer, expected, dtype):
    w = create_parameter([3], dtype, name="w")
    main, scope = default_main_program(), Scope()
    added = regularizer.decay(main.recorder(), w)
    put(scope, "w", np.array(W, dtype))
    (found,) = Executor().run(main, fetch_list=[added], scope=scope)
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_allclose(found, expected)


def test_text():
    assert str(L1Decay(0.1)) == "L1Decay, coeff=0.100000"
    assert str(L2Decay(0.3)) == "L2Decay, coeff=0.300000"
    assert repr(L2Decay(0.3)) == "L2Decay(0.3)"


@pytest.mark.parametrize("kind", [L1Decay, L2Decay])
def test_a_coefficient_is_needed(kind):
    with pytest.raises(ArgumentError, match="needs a coefficient"):
        kind(None)


def test_what_stands_for_a_regularizer():
    own = L1Decay(0.1)
    assert as_regularizer(None) is None
    assert as_regularizer(own) is own
    for number in (0.5, 1, np.float64(0.5)):
        found = as_regularizer(number)
        assert isinstance(found, L2Decay)
        assert found.coeff == number
    for wrong in ("l2", [0.1], object(), L2Decay):
        with pytest.raises(ArgumentTypeError, match="unknown regularization type"):
            as_regularizer(wrong)


def test_the_base_class_has_no_penalty():
    w = create_parameter([3])
    with pytest.raises(NotImplementedError):
        WeightDecayRegularizer(0.1).decay(default_main_program().recorder(), w)
