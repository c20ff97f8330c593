"""Names, symbols and literals that the text form has to quote."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphopt.errors import TextError
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.text.parse import parse
from graphopt.ir.types.types import TensorType, parse_type
from graphopt.ir.types.where import UNKNOWN

F32 = np.dtype("f4")
RESERVED = [
    "_", "block", "const", "f32", "false", "feed", "frozen", "inf", "nan", "param", "program",
    "program_x", "state", "str", "true", "var",
]  # fmt: skip
ODD = [
    " ", "-- x", "1x", "4", "a # b", "a b", "a,b", "a:b", "a:", "a=b", "back\\slash", "block 1",
    "inf.w_0", "nan-x", "-inf", "new\nline", "q\"uote'", "tab\t", "x" * 300, "(x)", "[x]", "*", "?",
    "]", "\u00fc", "\u2028", "\x7f", "\U0001f600", "e1", "#", "<-",
]  # fmt: skip
# Names are not empty, and what ONNX can store: no lone surrogates.
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
NAMES = st.one_of(st.sampled_from(RESERVED + ODD), TEXT)


def same_again(program):
    """The Program read back: its text and the names and types of its variables are the same."""
    text = program.text(where=False)
    assert text.isascii()
    for form in (text, program.text()):
        again = parse(form)
        assert again.text(where=False) == text
        assert types_of(again) == types_of(program)
    return again


def types_of(program):
    return {v.name: v.tensor_type for v in program.list_vars()}


def everywhere(name):
    """A Program with one feed, result, state or symbol of a name, for each of these."""
    for role in ("feed", "result", "state", "symbol"):
        program = Program()
        block = program.global_block()
        x = Variable(
            name if role == "feed" else "other.",
            TensorType(F32, (name if role == "symbol" else 3, 4)),
            block=block,
            where=UNKNOWN,
            is_data=True,
        )
        block.add_var(x)
        y = program.recorder().Exp(x)
        if role == "result" and name:
            del block.vars[y.name]
            y.name = name
            block.add_var(y)
        w = Variable(name if role == "state" else "w.", x.tensor_type, block=block, where=UNKNOWN)
        w.persistable = True
        block.add_var(w)
        program.recorder().Add(y, w, into=[w])
        yield program


@given(NAMES)
@example("_")
@example("4")
def test_any_name_is_read_back(name):
    for program in everywhere(name):
        same_again(program)


@pytest.mark.parametrize("name", RESERVED + ODD)
def test_names_that_could_be_mistaken(name):
    for program in everywhere(name):
        again = same_again(program)
        assert len(again.global_block().ops) == 2


@given(st.lists(st.one_of(st.integers(0, 2**40), NAMES), max_size=3))
def test_types_are_read_back(dims):
    found = TensorType(F32, tuple(dims))
    assert parse_type(str(found)) == found


def test_a_symbol_of_digits_stays_a_symbol():
    assert str(TensorType(F32, ("4", 4))) == 'f32["4", 4]'
    assert parse_type('f32["4", 4]').shape == ("4", 4)


@pytest.mark.parametrize("text", ["f32[N M]", "f32[?]", "f32[N,,M]", 'f32["a]', "f32[-1]", "f32"])
def test_what_is_not_a_type(text):
    with pytest.raises(TextError, match="is not a type"):
        parse_type(text)


def test_an_unknown_rank():
    program = Program()
    x = Variable("x", TensorType(F32, None), block=program.global_block(), where=UNKNOWN)
    x.is_data = True
    program.global_block().add_var(x)
    program.recorder().Exp(x)
    assert "f32[*]" in program.text()
    same_again(program)
    assert parse_type("f32[*]").shape is None


def test_results_with_an_odd_name_beside_omitted_ones():
    program = parse('feed x : f32[2]\n_ = Dropout(x)\n"(m)" : bool[2]')
    assert "(m)" in same_again(program).global_block().vars


def test_the_opset_is_read_back():
    program = Program()
    program.opset = 23
    program.recorder().Exp(program.global_block().create_var("x", [2]))
    assert same_again(program).opset == 23


def with_constant(value):
    program = Program()
    program.recorder().Identity(value)
    return program


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(0, "f4"),
        np.zeros(0, "i8"),
        np.zeros(0, "?"),
        np.zeros((0, 3), "f8"),
        np.zeros((2, 0), "i4"),
        np.zeros((0,), "c8"),
        np.complex64(1 + 2j),
        np.array([[1 - 0j, complex(np.inf, -0.0)]], "c16"),
        np.array(["a b", "# x", 'q"', "\u00fc\n", "true", "const"], object),
        np.array("word", object),
        np.array([["a"], ["b"]], object),
        np.array(2**64 - 1, "u8"),
        np.array(-(2**63)),
        np.array([np.inf, -np.inf, -0.0, 1e-45, 3.4028235e38], "f4"),
    ],
)
def test_literals_keep_type_and_value(value):
    again = same_again(with_constant(value))
    (constant,) = again.global_block().ops[0].inputs
    assert isinstance(constant, Constant)
    assert (constant.value.dtype, constant.value.shape) == (value.dtype, value.shape)
    assert constant.value.tolist() == value.tolist()


@given(st.lists(TEXT, min_size=1, max_size=3))
def test_strings_are_read_back(words):
    again = same_again(with_constant(np.array(words, object)))
    assert again.global_block().ops[0].inputs[0].value.tolist() == words


@given(st.lists(st.complex_numbers(), min_size=1, max_size=3))
def test_complex_numbers_are_read_back(numbers):
    again = same_again(with_constant(np.array(numbers, "c16")))
    np.testing.assert_array_equal(again.global_block().ops[0].inputs[0].value, numbers)


def test_attributes_are_read_back():
    program = Program()
    g = program.recorder()
    x = program.global_block().create_var("x", [2])
    g.Elu(x, alpha=float("nan"))
    g.Elu(x, alpha=float("-inf"))
    g.Cast(x, to=8)
    g.ConstantOfShape([2], value=np.zeros(1, "f2"))
    g.ReduceSum(x, keepdims=False)
    g.Einsum(x, equation="i -> i")
    same_again(program)


@pytest.mark.parametrize(
    "line",
    [
        "feed x : f32[2",
        "feed y : f32[2] f32",
        "y : f32[2] = Exp(x) x",
        "y : f32[2] = Exp(x",
        "y : f32[2] = Exp([a, b])",
        "y : f32[2] = Exp(i8(300))",
        "y : f32[2] = Exp(const f32[N])",
        "y : f32[2] = Exp(c64([1.0]))",
        "program : opset",
        'y : f32[2] = Exp("\\q")',
    ],
)
def test_what_cannot_be_read_is_refused(line):
    with pytest.raises(TextError, match="line 2"):
        parse(f"feed x : f32[2]\n{line}")
