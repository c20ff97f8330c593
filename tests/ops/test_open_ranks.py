"""Operands whose rank nothing tells: each is what a Reshape to a fed shape of any length gives."""

import re

import numpy as np
import pytest

from graphopt.errors import GradientError
from graphopt.ir.model.program import Program
from graphopt.ir.model.schema import op_def
from graphopt.ops.registry.cases import Draw, case
from graphopt.passes.gradients.backward import gradients
from tests.ops.harness import Built, evaluate
from tests.ops.test_gradients import PAGES, SINGLE, check, objective

# The number of dims decides what these compute, or which ops their gradients are made of.
RANKED = {
    "Conv",
    "ConvTranspose",
    "DFT",
    "DeformConv",
    "Det",
    "Einsum",
    "GRU",
    "GridSample",
    "LSTM",
    "LayerNormalization",
    "Attention",
    "RMSNormalization",
    "RNN",
    "Resize",
    "TensorScatter",
    "Unique",
    "ai.onnx.ml::ArrayFeatureExtractor",
}
LEFT_OUT = {
    ("MatMul", 4): "a vector of unknown rank: the model fails when it runs",
    ("MatMul", 5): "likewise",
    ("MatMul", 6): "likewise",
    ("ScatterElements", 3): "the reference evaluator lacks this GatherElements",
    ("ai.onnx.preview::FlexAttention", 0): "onnx's inference refuses its body",
    ("ai.onnx.preview::FlexAttention", 1): "likewise",
    **{
        (type, number): "recorded only where ranks are known"
        for type in ("ConvFilterGradient", "ConvInputGradient")
        for number in range(3)
    },
}
ALL = [
    pytest.param(type, case, id=f"{type}-{number}")
    for type, card in sorted(PAGES.items())
    for number, case in enumerate(card.cases)
    if type not in SINGLE and (type, number) not in LEFT_OUT
]


def opened(type, case, rng):
    """The case with a Reshape before each float operand."""
    program = Program()
    block, g, feeds, wrt = program.global_block(), program.recorder(), {}, []

    def fed(name, value, shape):
        v = block.create_var(name, shape, value.dtype)
        v.is_data = True
        feeds[name] = value
        return v

    def operand(name, spec):
        if spec is None:
            return None
        if not isinstance(spec, Draw):
            value = np.asarray(spec)
            return program.constant(value.astype("f8") if value.dtype.kind == "f" else value)
        value = spec.sample(rng, spec.shape)
        if value.dtype.kind != "f":
            return fed(name, value, value.shape)
        wrt.append(fed(name, value.astype("f8"), value.shape))
        shape = fed(f"{name}_shape", np.array(value.shape, np.int64), [None])
        return g.Reshape(wrt[-1], shape, allowzero=1)

    operands = []
    for formal in op_def(type).inputs:
        spec = case.inputs.get(formal.name)
        several = spec if isinstance(spec, list) else [spec]
        operands += [operand(f"{formal.name}{k}", s) for k, s in enumerate(several)]
    made = g.emit(type, *operands, outputs=case.results, **case.attrs)
    results = [made] if case.results == 1 else list(made)
    return Built(program, feeds, wrt, [r for r in results if r.tensor_type.is_float])


@pytest.mark.parametrize(("type", "case"), ALL)
def test_gradient(type, case, rng):
    built = opened(type, case, rng)
    target = objective(built, rng)
    try:
        refused, live = "", check(built.program, target, built.wrt, built.feeds, rng)
    except GradientError as error:
        refused, live = str(error), []
    assert live or (type in RANKED and re.search("of known rank|the rank of", refused))


def test_product_of_matrices_twice(rng):
    built = opened("MatMul", case(A=(2, 3, 4), B=(4, 3)), rng)
    found = gradients([objective(built, rng)], built.wrt)
    g = built.program.recorder()
    squares = [g.ReduceSum(g.Mul(d, d), keepdims=0) for d in found if d is not None]
    check(built.program, g.Sum(*squares), built.wrt, built.feeds, rng)


def test_a_chain_behind_a_fed_shape(rng):
    """Softmax of a sum, joined with itself, gathered, sliced and summed."""
    program = Program()
    block, g = program.global_block(), program.recorder()
    x, shape, w = (
        block.create_var("x", [None, 4], "float64"),
        block.create_var("shape", [None], "int64"),
        block.create_var("w", [4, 5], "float64"),
    )
    for v in (x, shape, w):
        v.is_data = True
    h = g.MatMul(g.Softmax(g.Add(g.Reshape(x, shape), 1.0)), w)
    joined = g.Concat(h, g.Tanh(h), axis=-1)
    picked = g.Gather(joined, [0, 3, 3], axis=-1)
    y = g.ReduceSum(g.Slice(picked, [0], [2], [-1]), [-1], keepdims=0)
    target = g.ReduceSum(g.Mul(y, y), keepdims=0)
    feeds = {"x": rng.normal(size=(6, 4)), "shape": np.array([2, 3, 4]),
             "w": rng.normal(size=(4, 5))}  # fmt: skip
    assert evaluate(program, [y], feeds)[0][0].shape == (2, 3)
    check(program, target, [x, w], feeds, rng)
