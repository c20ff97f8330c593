"""Evaluates Programs on onnxruntime, and checks gradients there.

For what the reference evaluator cannot run, or runs wrongly: see the tests that use it.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

import numpy as np
import onnxruntime

from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Constant, Variable
from graphopt.onnxio.write import inlined
from graphopt.ops.registry.cases import Case
from graphopt.passes.gradients.backward import gradients
from tests.helpers import lowered
from tests.ops.harness import Built, build

Run: TypeAlias = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def evaluate(
    program: Program, fetch: Sequence[Variable | None], feeds: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """The fetched values; None among ``fetch`` is left out."""
    return prepared(program, fetch, feeds)(feeds)


def prepared(program: Program, fetch: Sequence[Variable | None], feeds: Collection[str]) -> Run:
    """What evaluates the Program as it is now, given variables of these names, many times."""
    block = program.global_block()
    inputs = [block.vars[name] for name in feeds]
    made = lowered(program, inputs, [v for v in fetch if v is not None])
    model = inlined(made.model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(values: dict[str, np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(list(made.fetched), values)
        return found

    return run


def assert_gradient(
    type: str, case: Case, rng: np.random.Generator, *, dtype: str, step: float, symbolic: bool
) -> None:
    """First and second derivatives against central differences along random directions.

    float32 serves where both are polynomials of degree two: differences are exact there, so that
    ``step`` can be large.
    """
    built = build(type, case, rng, symbolic=symbolic, dtype=dtype)
    target = weighted_sum(built, rng)
    live = _assert_derivative(built, target, rng, step)
    assert live
    g = built.program.recorder()
    second = g.Sum(*[g.ReduceSum(g.Mul(grad, grad), keepdims=0) for _, grad in live])
    _assert_derivative(built, second, rng, step)


def weighted_sum(built: Built, rng: np.random.Generator) -> Variable:
    """sum(result * random weight) over all results."""
    g = built.program.recorder()
    values = evaluate(built.program, built.results, built.feeds)
    parts = [
        g.ReduceSum(g.Mul(v, g.const(rng.normal(size=value.shape).astype(v.dtype))), keepdims=0)
        for v, value in zip(built.results, values, strict=True)
    ]
    return g.Sum(*parts)


def _assert_derivative(built: Built, target: Variable, rng: np.random.Generator, step: float):
    found = gradients([target], built.wrt)
    live = [(v, grad) for v, grad in zip(built.wrt, found, strict=True) if grad is not None]
    values = evaluate(built.program, [target, *[grad for _, grad in live]], built.feeds)[1:]
    direction = {v.name: rng.normal(size=built.feeds[v.name].shape) for v in built.wrt}
    assert not isinstance(target, Constant)
    run = prepared(built.program, [target], built.feeds)
    above, below = (float(run(_moved(built, direction, s * step))[0]) for s in (1, -1))
    actual = 0.0
    for (v, _), value in zip(live, values, strict=True):
        assert value.shape == built.feeds[v.name].shape
        assert value.dtype == built.feeds[v.name].dtype
        actual += float((direction[v.name] * value).sum())
    rel = 1e-6 if built.wrt[0].dtype == np.float64 else 2e-4
    np.testing.assert_allclose(actual, (above - below) / (2 * step), rtol=rel, atol=rel)
    return live


def _moved(built: Built, direction: dict[str, np.ndarray], step: float) -> dict[str, np.ndarray]:
    return {
        name: np.asarray(value + step * direction.get(name, 0), value.dtype)
        for name, value in built.feeds.items()
    }
