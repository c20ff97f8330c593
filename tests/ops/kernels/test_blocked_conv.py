"""Convolutions in blocks equal the portable ones, on onnxruntime, for any sizes."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.model.program import Program
from graphopt.onnxio.write import lower
from graphopt.ops.registry.formulations import AS_IS, FORMULATIONS, MEASURED, Machine
from graphopt.passes.kernels.formulate import Formulate, chosen
from graphopt.passes.select.functional import functional
from graphopt.runtime.ort.channel_blocks import block_size
from graphopt.runtime.ort.providers.cpu import CPUPlace

TYPES = ("Conv", "ConvInputGradient", "ConvFilterGradient")


CHANNELS = st.sampled_from([1, 2, 3, 4, 6, 8, 16, 20, 32])


@st.composite
def convolutions(draw, type):
    """n, c, m, one (length, kernel, stride, dilation, head, tail) per dim, and whether a bias."""
    slides = type == "ConvFilterGradient"  # it needs a batch of fours, and no dilation
    dims = []
    for _ in range(2):
        kernel, dilation = draw(st.integers(1, 4)), 1 if slides else draw(st.integers(1, 2))
        head, tail = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        shortest = max(1, (kernel - 1) * dilation + 1 - head - tail)
        length = draw(st.integers(shortest, shortest + 7))
        dims.append((length, kernel, draw(st.integers(1, 3)), dilation, head, tail))
    n = draw(st.sampled_from([4, 8, 16, 20, 32] if slides else [1, 3, 4]))
    return n, draw(CHANNELS), draw(CHANNELS), *dims, draw(st.booleans())


def recorded(type, sizes):
    """A Program with one op, its result and its feeds."""
    n, c, m, height, width, has_bias = sizes
    program = Program()
    block = program.global_block()
    columns = list(zip(height, width, strict=True))
    length, kernel, stride, dilation, head, tail = columns
    count = [(i + h + t - (k - 1) * d - 1) // s + 1 for i, k, s, d, h, t in (height, width)]
    shapes = {"X": [n, c, *length], "W": [m, c, *kernel], "dY": [n, m, *count], "B": [m]}
    order = {"Conv": ["X", "W", "B"][: 2 + has_bias], "ConvInputGradient": ["dY", "W", "X"],
             "ConvFilterGradient": ["X", "dY", "W"]}[type]  # fmt: skip
    rng = np.random.default_rng(sum(length) + n)
    feeds, operands = {}, []
    for name in order:
        variable = block.create_var(name, shapes[name])
        variable.is_data = True
        operands.append(variable)
        feeds[name] = rng.integers(-4, 5, shapes[name]).astype("f4")  # sums are exact
    attrs: dict[str, Any] = {
        "strides": list(stride),
        "dilations": list(dilation),
        "pads": [*head, *tail],
    }
    result: Any = program.recorder().emit(type, *operands, **attrs)
    return program, result, feeds


def run(step, feeds):
    model = lower(step).model
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {v.name: feeds[v.name] for v in step.inputs()})[0]


@pytest.fixture(scope="module")
def machine():
    size = block_size(CPUPlace())
    if not size:
        pytest.skip("this processor's kernels have no blocks")
    return replace(MEASURED, block=size)


ONE = ((5, 3, 1, 1, 1, 1),) * 2
TWO = ((8, 3, 2, 1, 1, 1),) * 2


EXAMPLES = [
    (32, 16, 16, *ONE, True),
    (32, 32, 32, *TWO, False),
    (16, 20, 24, *TWO, True),
    (4, 3, 6, *TWO, True),
    (32, 48, 32, *ONE, True),
]


def check(machine, type, sizes):
    """The one formulation of a type against its portable body, bit by bit: the sums are exact."""
    program, result, feeds = recorded(type, sizes)
    op = program.global_block().ops[-1]
    (found,) = FORMULATIONS[type]
    assert found.fits(op, machine)
    step = functional(program, fetch=[result])
    expected = run(Formulate().run(step), feeds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AS_IS, type, lambda *_: float("inf"))
        assert chosen(op, machine) is found
        formulated = Formulate(block=machine.block).run(step)
    types = [op.type for op in formulated.global_block().ops]
    assert "com.microsoft.nchwc::Conv" in types
    assert formulated.global_block().var(result.name).tensor_type == result.tensor_type
    np.testing.assert_array_equal(run(formulated, feeds), expected)


@pytest.mark.parametrize("sizes", EXAMPLES)
@pytest.mark.parametrize("type", TYPES)
def test_equals_the_portable_one(machine, type, sizes):
    check(machine, type, sizes)


@pytest.mark.parametrize("type", TYPES)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_equals_the_portable_one_for_any_sizes(machine, type, data):
    check(machine, type, data.draw(convolutions(type)))


def test_costs_choose():
    """Large convolutions go in blocks; small ones and those elsewhere stay as they are."""
    machine = replace(MEASURED, block=16)
    for type in TYPES:
        program, *_ = recorded(type, (32, 32, 32, *((16, 3, 1, 1, 1, 1),) * 2, False))
        op = program.global_block().ops[-1]
        assert chosen(op, machine) is FORMULATIONS[type][0]
        for other in (MEASURED, Machine(block=16)):
            without = chosen(op, other)
            assert without is None or without.name == "portable"
        program, *_ = recorded(type, (1, 1, 1, *ONE, False))
        small = chosen(program.global_block().ops[-1], machine)
        assert small is None or small.name == "portable"
