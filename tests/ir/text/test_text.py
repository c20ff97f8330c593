import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from graphopt.errors import TextError
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Constant
from graphopt.ir.text.parse import parse
from graphopt.ir.text.text import literal_text
from graphopt.ir.text.verify import verify

SAMPLE = """\
program : opset 21, 6 ops, 2 feeds, 1 param
  feed x : f32[N, 4]
  feed "my label" : i64[N]
  param w : f32[4, 3]
  state d : f32[4, 3]
  -- forward
  h : f32[N, 3] = MatMul(x, w)
  loss : f32[] = SoftmaxCrossEntropyLoss(h, "my label", reduction="mean")
  log_prob : f32[N, 3]
  c : f64[N, 3] = Cast(h, to=f64)
  -- backward
  g : f32[4, 3] = Clip(w, -0.5, f32([[1.5]]))
  s : f32[4, 3] = Softmax(g, axis=0)
  -- update
  d <- Sub(s, 1e-04)"""


def test_text_is_read_back():
    program = parse(SAMPLE)
    verify(program)
    text = program.text(where=False)
    assert text == SAMPLE.replace('reduction="mean"', "").replace(", )", ")").replace(
        "f32([[1.5]])", "[[1.5]]"
    )
    assert parse(text).text(where=False) == text
    assert parse(program.text()).text(where=False) == text


def test_omitted_operands_and_results():
    text = "feed x : f32[4]\ny : f32[4] = Clip(x, _, 2.0)\n_ = Dropout(y)\nm : bool[4]"
    program = parse(text)
    assert "Clip(x, _, 2.0)" in program.text()
    assert program.global_block().ops[1].outputs[0] is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("y : f32[3] = Relu(z)", "no variable 'z'"),
        ("y : f32[3] = Rleu(x)", "no op 'Rleu'"),
        ("y : f99[3] = Relu(x)", "f99"),
        ("y = Relu(x", "line 2"),
        ("y : f32[3] = Add(x, const f32[100])", "values of a large constant"),
        ("y ; f32[3] = Relu(x)", "unexpected ';'"),
    ],
)
def test_a_bad_line_is_named(line, reason):
    with pytest.raises(TextError, match="line 2") as found:
        parse(f"feed x : f32[3]\n{line}")
    assert reason in str(found.value)


@given(
    hnp.arrays(
        st.sampled_from(
            [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint8, np.bool_]
        ),
        hnp.array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=2),
    )
)
def test_literals_read_back_bit_for_bit(value):
    program = Program()
    program.global_block().create_var("x", value.shape, value.dtype).is_data = True
    program.recorder().Identity(value)
    text = program.text(where=False)
    (op,) = parse(text).global_block().ops
    (constant,) = op.inputs
    assert isinstance(constant, Constant)
    found = constant.value
    assert found.dtype == value.dtype
    np.testing.assert_array_equal(found, value)


def test_long_constants_print_their_type():
    assert literal_text(np.zeros((3, 4), "f4")) == "const f32[3, 4]"
    assert literal_text(np.zeros((0, 4), "f4")) == "const f32[0, 4]"
    assert literal_text(np.array(-0.0)) == "f64(-0.0)"
