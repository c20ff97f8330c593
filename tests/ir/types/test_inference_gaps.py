"""Where onnx's inference is wrong, or leaves the rank open, ours says what evaluators give."""

import numpy as np
import pytest

import graphopt as go  # noqa: F401 - registers the ops
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable

F = np.float32


def inferred(type, shapes, consts=None, results=1, **attrs):
    program = Program()
    block = program.global_block()
    operands: list[Variable | None] = []
    for k, shape in enumerate(shapes):
        if shape is None or (consts and k in consts):
            operands.append(None if shape is None else program.constant(np.asarray(consts[k])))
            continue
        variable = block.create_var(f"x{k}", list(shape), np.int64 if shape == () else F)
        variable.is_data = True
        operands.append(variable)
    made = program.recorder().emit(type, *operands, outputs=results, **attrs)
    return [v.tensor_type.shape for v in ([made] if results == 1 else made)]


@pytest.mark.parametrize(
    ("equation", "shapes", "dims"),
    [
        ("...ij,...jk->...ik", [(1, 2, 3), (5, 3, 4)], (5, 2, 4)),
        ("...ij,...jk->...ik", [(1, 2, 3), ("N", 3, 4)], ("N", 2, 4)),
        ("ij,ij->ij", [(2, 1), (2, 3)], (2, 3)),
    ],
)
def test_einsum_broadcasts(equation, shapes, dims):
    assert inferred("Einsum", shapes, equation=equation) == [dims]


def test_attention_with_open_dims():
    shapes = [("N", "T", 8), ("N", "T", 8), ("N", "T", 8)]
    (Y,) = inferred("Attention", shapes, q_num_heads=2, kv_num_heads=2)
    assert Y[:2] == ("N", "T")
    assert Y[2] == 8
    past = [("N", 2, "T", 4)] * 3 + [None] + [("N", 2, "P", 4)] * 2
    Y, key, _ = inferred("Attention", past, results=3)
    assert Y == ("N", 2, "T", 4)
    assert key[:2] == ("N", 2)
    assert len(key) == 4


def test_transforms():
    dft = inferred("DFT", [("N", 5, 1), None, ()], onesided=1)[0]
    assert len(dft) == 3
    assert dft[-1] == 2
    lengths = {1: 8, 3: 16}
    stft = [(2, 128, 1), (), None, ()]
    assert inferred("STFT", stft, lengths) == [(2, 15, 9, 2)]
    assert inferred("STFT", stft, lengths, onesided=0) == [(2, 15, 16, 2)]


@pytest.mark.parametrize(
    ("type", "attrs", "dims"),
    [
        ("FeatureVectorizer", {"inputdimensions": [5]}, ("N", 5)),
        ("LinearRegressor", {"coefficients": [0.0] * 6, "targets": 2}, ("N", 2)),
        ("Normalizer", {}, ("N", 3)),
        ("SVMRegressor", {"coefficients": [0.0] * 3}, ("N", 1)),
    ],
)
def test_models(type, attrs, dims):
    assert inferred("ai.onnx.ml::" + type, [("N", 3)], **attrs) == [dims]
