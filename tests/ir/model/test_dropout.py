import numpy as np
import pytest

from graphopt.ir.model.dropout import drops
from graphopt.scoping import default_main_program
from tests.tensor.recording import fed


@pytest.mark.parametrize(("training", "expected"), [
    (None, False), (np.array(False), False), (np.array(True), True),
])  # fmt: skip
def test_a_mode_that_is_known(training, expected):
    x = fed("x", np.ones(3, "f4"))
    y = default_main_program().recorder().Dropout(x, np.float32(0.5), training)
    assert drops(y.block.ops[-1]) is expected


def test_a_mode_that_is_fed():
    x, training = fed("x", np.ones(3, "f4")), fed("training", np.array(True))
    y = default_main_program().recorder().Dropout(x, np.float32(0.5), training)
    assert drops(y.block.ops[-1]) is None
