"""Options of RNN, GRU and LSTM that one of the two evaluators lacks.

The reference evaluator ignores or refuses sequence_lens, most activations, clip and input_forget,
and onnxruntime refuses layout 1. So the decompositions are compared with onnxruntime's kernels, in
float32, and their gradients are checked by themselves, in float64 on the reference evaluator.
"""

import numpy as np
import pytest

from graphopt.errors import GradientError
from graphopt.ir.types.types import TensorType
from graphopt.ops.registry.cases import Draw, case
from graphopt.ops.registry.registry import DECOMPOSITIONS
from graphopt.passes.gradients.backward import gradients
from tests.ops import on_onnxruntime
from tests.ops.harness import build
from tests.ops.test_gradients import check, objective

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
FUNCTIONS = {"GRU": 2, "LSTM": 3, "RNN": 1}
WAYS = ["forward", "reverse", "bidirectional"]
T, N, SIZE, HIDDEN = 3, 2, 2, 2
SHORT = np.array([1, 3], np.int32)

# ONNX keeps attributes in float32: these numbers are there what they are in float64.
ACTIVATIONS = [
    (["Affine"], [0.75], [0.25]),
    (["Elu"], [0.625], []),
    (["Elu"], [], []),
    (["HardSigmoid"], [0.3125], [0.375]),
    (["HardSigmoid"], [], []),
    (["LeakyRelu"], [0.3125], []),
    (["LeakyRelu"], [], []),
    (["Relu"], [], []),
    (["ScaledTanh"], [0.875], [1.25]),
    (["Sigmoid"], [], []),
    (["Softplus"], [], []),
    (["Softsign"], [], []),
    (["Tanh"], [], []),
    (["ThresholdedRelu"], [0.125], []),
]
PEEPHOLES = {"initial_c": (2, N, HIDDEN), "P": (2, 3 * HIDDEN)}


def lengths():
    """Fed ones, up to the length of X."""
    return Draw((N,), lambda rng, s: rng.integers(1, T + 1, s).astype(np.int32))


def weights(*shape):
    """Small enough for activations without bounds."""
    return Draw(shape, lambda rng, s: 0.4 * rng.normal(size=s))


def recurrent(type, way="forward", *, layout=0, lens=None, bias=True, start=True, **options):
    """A case with its operands; ``options`` are attributes, and shapes with two directions."""
    d = 2 if way == "bidirectional" else 1
    m = GATES[type] * HIDDEN
    shapes = {k: options.pop(k) for k in PEEPHOLES if k in options}
    operands = {name: (d, *shape[1:]) for name, shape in shapes.items()}
    if bias:
        operands["B"] = weights(d, 2 * m)
    if start:
        operands["initial_h"] = (d, N, HIDDEN) if layout == 0 else (N, d, HIDDEN)
    return case(
        X=(T, N, SIZE) if layout == 0 else (N, T, SIZE),
        W=weights(d, m, SIZE),
        R=weights(d, m, HIDDEN),
        sequence_lens=lens,
        results=3 if type == "LSTM" else 2,
        attrs={"hidden_size": HIDDEN, "direction": way, "layout": layout, **options},
        **operands,
    )


def activated(type, way, names, alphas, betas, **options):
    """The same activation everywhere."""
    count = FUNCTIONS[type] * (2 if way == "bidirectional" else 1)
    return recurrent(
        type,
        way,
        activations=names * count,
        activation_alpha=alphas * count or None,
        activation_beta=betas * count or None,
        **options,
    )


def functions():
    for type in GATES:
        for k, activation in enumerate(ACTIVATIONS):
            yield type, activated(type, WAYS[k % 3], *activation)
    yield "GRU", activated("GRU", "forward", ["Softsign"], [], [], linear_before_reset=1)
    yield "RNN", recurrent("RNN", "bidirectional", activations=["Tanh", "LeakyRelu"],
                           activation_alpha=[0.3125])  # fmt: skip
    yield "GRU", recurrent("GRU", "bidirectional", activation_alpha=[0.125, 0.25, 0.3125],
                           activations=["LeakyRelu", "Elu", "tanh", "Affine"],
                           activation_beta=[0.375])  # fmt: skip
    yield "LSTM", recurrent("LSTM", "bidirectional", activation_alpha=[0.125, 0.25, 0.3125],
                            activations=["Sigmoid", "LeakyRelu", "Tanh",
                                         "HardSigmoid", "Softsign", "Affine"],
                            activation_beta=[0.375, 0.5])  # fmt: skip


def options():
    for type in GATES:
        for way in WAYS:
            yield type, recurrent(type, way, bias=False, start=False)
            yield type, recurrent(type, way, lens=SHORT)
            yield type, recurrent(type, way, lens=lengths())
            yield type, recurrent(type, way, clip=0.375)
    for way in WAYS:
        yield "GRU", recurrent("GRU", way, linear_before_reset=1, lens=SHORT, clip=0.5)
        yield "GRU", recurrent("GRU", way, linear_before_reset=1, bias=False)
        yield "LSTM", recurrent("LSTM", way, input_forget=1, **PEEPHOLES)
        yield "LSTM", recurrent("LSTM", way, lens=SHORT, clip=0.5, **PEEPHOLES)


OPTIONS = [
    pytest.param(type, case, symbolic, id=f"{type}-{k}-{'symbolic' if symbolic else 'static'}")
    for symbolic, found in [(False, functions()), (False, options()), (True, options())]
    for k, (type, case) in enumerate(found)
]
BATCH_FIRST = [(type, way) for type in GATES for way in WAYS]


def decomposed(type, case, rng, *, symbolic, dtype):
    """The op's case, its results, and what stands for them."""
    built = build(type, case, rng, symbolic=symbolic, dtype=dtype)
    (op,) = built.program.global_block().ops
    return built, op.outputs, DECOMPOSITIONS[type].results(built.program.recorder(), op)


@pytest.mark.parametrize(("type", "case", "symbolic"), OPTIONS)
def test_equals_kernel(type, case, symbolic, rng):
    built, own, made = decomposed(type, case, rng, symbolic=symbolic, dtype="f4")
    g = built.program.recorder()
    seeds = [g.Cos(v) for v in made]
    found = [*own, *gradients(own, built.wrt, seeds)]
    expected = [*made, *gradients(made, built.wrt, seeds)]
    values = on_onnxruntime.evaluate(built.program, [*found, *expected], built.feeds)
    for value, right in zip(values[: len(found)], values[len(found) :], strict=True):
        assert value.dtype == right.dtype
        np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("type", "case", "symbolic"), OPTIONS)
def test_gradient_of_decomposition(type, case, symbolic, rng):
    built, _, built.results = decomposed(type, case, rng, symbolic=symbolic, dtype="f8")
    check_twice(built, rng)


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize(("type", "way"), BATCH_FIRST)
def test_batch_first(type, way, symbolic, rng):
    case = recurrent(type, way, layout=1, start=not symbolic)
    check_twice(build(type, case, rng, symbolic=symbolic), rng)


def check_twice(built, rng):
    target = objective(built, rng)
    live = check(built.program, target, built.wrt, built.feeds, rng)
    assert len(live) == len(built.wrt)
    g = built.program.recorder()
    second = g.Sum(*[g.ReduceSum(g.Mul(grad, grad), keepdims=0) for _, grad in live])
    check(built.program, second, built.wrt, built.feeds, rng)


@pytest.mark.parametrize("type", GATES)
def test_only_the_last_state(type, rng):
    """Y is not used, and so has no gradient; nor need it be a result."""
    built, own, made = decomposed(type, recurrent(type, lens=SHORT), rng, symbolic=True, dtype="f4")
    last = built.program.global_block().ops[0]
    last.outputs = [None, *own[1:]]
    found = gradients(own[-1:], built.wrt)
    expected = gradients(made[-1:], built.wrt)
    values = on_onnxruntime.evaluate(built.program, [*found, *expected], built.feeds)
    for value, right in zip(values[: len(found)], values[len(found) :], strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"activations": ["Sine", "Tanh"]}, "GRU has no activation 'Sine'"),
        ({"activations": ["Sigmoid"]}, "GRU has 1 activations, it needs 2"),
        (
            {"activations": ["Sigmoid", "ThresholdedRelu"]},
            "GRU does not say the activation_alpha of its ThresholdedRelu",
        ),
        (
            {"activations": ["ScaledTanh", "Affine"], "activation_alpha": [1.0, 2.0]},
            "GRU does not say the activation_beta of its ScaledTanh",
        ),
    ],
)
def test_refused(attrs, message, rng):
    built = build("GRU", recurrent("GRU", **attrs), rng, symbolic=False)
    with pytest.raises(GradientError, match=message):
        gradients(built.results, built.wrt)


def test_unknown_rank(rng):
    built = build("GRU", recurrent("GRU"), rng, symbolic=False)
    (op,) = built.program.global_block().ops
    op.operand("X").tensor_type = TensorType(np.dtype("f8"), None)
    with pytest.raises(GradientError, match="GRU needs operands of known rank"):
        gradients(built.results, built.wrt)
