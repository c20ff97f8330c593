"""Where Python asks a variable for its value."""

import operator

import numpy as np
import pytest

from graphopt.errors import ArgumentTypeError
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType
from graphopt.ir.types.where import UNKNOWN


class Known(Variable):
    """A variable that has its value."""

    def __init__(self, value):
        self.known = np.asarray(value)
        self.asked = []
        found = TensorType(self.known.dtype, self.known.shape)
        super().__init__("k", found, block=Program().global_block(), where=UNKNOWN)

    def _value_for(self, function):
        self.asked.append(function)
        return self.known


ASKS = [  # what a user writes, what the hook is told, and what [3] gives
    ("bool(x)", bool, "bool", True),
    ("float(x)", float, "float", 3.0),
    ("int(x)", int, "int", 3),
    ("complex(x)", complex, "complex", 3 + 0j),
    ("operator.index(x)", operator.index, "operator.index", 3),
    ("len(x)", len, "len", 1),
    ("numpy.asarray(x)", np.asarray, "numpy.asarray", np.array([3])),
    ("x.numpy()", lambda x: x.numpy(), ".numpy", np.array([3])),
    ("x.tolist()", lambda x: x.tolist(), ".tolist", [3]),
    ("x.item()", lambda x: x.item(), ".item", 3),
]


@pytest.mark.parametrize(("call", "ask"), [row[:2] for row in ASKS])
def test_a_recorded_variable_has_no_value(call, ask):
    x = Program().global_block().create_var("x", [1])
    with pytest.raises(ArgumentTypeError) as found:
        ask(x)
    assert str(found.value).startswith(f"{call}: a variable has no value while a Program")
    assert "x : f32[1]" in str(found.value)
    assert "fetch it with Executor.run" in str(found.value)


@pytest.mark.parametrize(("ask", "told", "expected"), [row[1:] for row in ASKS])
def test_one_method_gives_the_value(ask, told, expected):
    x = Known([3])
    found = ask(x)
    assert x.asked == [told]
    assert type(found) is type(expected)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: ["a", "b"][x],
        lambda x: [*range(x)],
        lambda x: "yes" if x else "no",
        lambda x: 3 in [x],
        lambda x: np.add(np.ones(2), np.array(x)),
        lambda x: sorted([x, x]),
    ],
)
def test_asked_in_passing(ask):
    with pytest.raises(ArgumentTypeError, match="a variable has no value"):
        ask(Program().global_block().create_var("x", [1], "int64"))


def test_what_to_do_instead():
    x = Program().global_block().create_var("x", [1])
    with pytest.raises(ArgumentTypeError, match=r"fix: compare inside the Program \(go.where"):
        bool(x)
    with pytest.raises(ArgumentTypeError, match=r"fix: ask for its shape \(x.shape"):
        len(x)


def test_kinds_of_numbers():
    assert [type(f(Known(2.5))) for f in (float, int, complex, bool)] == [
        float, int, complex, bool,
    ]  # fmt: skip
    assert complex(Known(1 + 2j)) == 1 + 2j
    assert not Known([[0]])
    assert ["a", "b"][Known(1)] == "b"
    with pytest.raises(TypeError, match="float"):
        operator.index(Known(1.0))
    with pytest.raises(ValueError, match="size 1"):
        float(Known([1.0, 2.0]))


def test_items():
    x = Known([[1, 2], [3, 4]])
    assert x.item(1, 0) == 3
    assert x.item(3) == 4
    assert x.tolist() == [[1, 2], [3, 4]]
    assert len(x) == 2


def test_arrays():
    x = Known(np.ones((2, 3), "f4"))
    assert np.asarray(x) is x.known
    assert np.array(x) is not x.known
    assert np.asarray(x, dtype="f8").dtype == np.float64
    assert np.shares_memory(np.asarray(x, dtype="f4"), x.known)
    assert x.__array__(copy=True) is not x.known
    with pytest.raises(ValueError, match="copy"):
        x.__array__("f8", copy=False)
    np.testing.assert_array_equal(np.stack([x, x]), np.ones((2, 2, 3)))


def test_iterating_records_and_asks_for_nothing():
    x = Known([5, 6])
    x.block.add_var(x)
    assert [type(part) for part in x] == [Variable, Variable]
    assert x.asked == []
