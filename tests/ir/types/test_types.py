import numpy as np
import onnx
import pytest

from graphopt.errors import ArgumentTypeError, TextError
from graphopt.ir.types.types import (
    BFLOAT16,
    Inferred,
    TensorType,
    as_dtype,
    fits,
    from_proto,
    parse_type,
    to_proto,
)


@pytest.mark.parametrize("text", ["f32[N, 784]", "i64[]", "bool[*]", "bf16[3]", "f64[N, 2, batch]"])
def test_type_text_is_read_back(text):
    assert str(parse_type(text)) == text


def test_type_survives_onnx():
    tensor_type = TensorType(np.dtype("f4"), ("N", 3, 0))
    assert from_proto(to_proto(tensor_type)) == Inferred(np.dtype("f4"), ("N", 3, 0))
    assert from_proto(to_proto(TensorType(BFLOAT16, None))) == Inferred(BFLOAT16)


@pytest.mark.parametrize("name", ["float32", "f32", np.float32, np.dtype("f4")])
def test_dtype_spellings(name):
    assert as_dtype(name) == np.float32


def test_unknown_dtype_names_the_closest():
    with pytest.raises(ArgumentTypeError, match="did you mean 'float32'"):
        as_dtype("flot32")
    with pytest.raises(ArgumentTypeError):
        as_dtype(3)  # type: ignore[arg-type]
    with pytest.raises(TextError):
        parse_type("f32(3)")


def test_fits():
    assert fits((5, 3), ("N", 3))
    assert not fits((5, 4), ("N", 3))
    assert not fits((5,), ("N", 3))
    assert fits((5,), None)


def test_open_dims_of_exporters_are_open():
    proto = onnx.helper.make_tensor_type_proto(1, [-1, 3, "?", "?", "n"])
    assert from_proto(proto) == Inferred(np.dtype("f4"), (None, 3, None, None, "n"))
