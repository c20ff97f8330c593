"""Every card's gradient against central differences in float64, static and symbolic, and twice."""

import pytest

from graphopt.ir.model.schema import op_def
from graphopt.ops.registry.registry import CARDS, DECOMPOSITIONS, Card, Decomposition
from graphopt.passes.gradients.backward import gradients
from tests.ops.float32_only import FLOAT32_ONLY
from tests.ops.harness import build, evaluate, prepared

STEP = 1e-6  # small, so that a kink is rarely within it; rounding costs 1e-10 of the value
SINGLE = {
    "DequantizeLinear",  # takes no float64: tests/ops/containers/test_quantization.py
    *FLOAT32_ONLY,
}
PAGES: dict[str, Card | Decomposition] = {**CARDS, **DECOMPOSITIONS}
ALL = [
    pytest.param(card, case, symbolic, id=f"{type}-{number}-{'symbolic' if symbolic else 'static'}")
    for type, card in sorted(PAGES.items())
    if type not in SINGLE
    for number, case in enumerate(card.cases)
    for symbolic in (False, True)
]


def objective(built, rng):
    """sum(result * cotangent) with fixed random cotangents, as new ops; returns a scalar."""
    g = built.program.recorder()
    total = None
    shapes = evaluate(built.program, built.results, built.feeds)[0]
    for result, value in zip(built.results, shapes, strict=True):
        weight = g.const(rng.normal(size=value.shape))
        # no Mul when the weight's rank exceeds the result's: shapes are equal by construction
        part = g.ReduceSum(g.Mul(result, weight), keepdims=0)
        total = part if total is None else g.Add(total, part)
    return total


def directional(run, feeds, direction):
    """The derivative of what ``run`` gives along ``direction``, by central differences."""

    def at(sign):
        moved = {k: v + sign * STEP * direction.get(k, 0.0) if k in direction else v
                 for k, v in feeds.items()}  # fmt: skip
        return run(moved)[0]

    return float(at(+1) - at(-1)) / (2 * STEP)


def check(program, target, wrt, feeds, rng):
    """Gradients of ``target`` along random directions; returns their sum of squares, a scalar."""
    found = gradients([target], wrt)
    live = [(v, grad) for v, grad in zip(wrt, found, strict=True) if grad is not None]
    values, _ = evaluate(program, [grad for _, grad in live], feeds)
    for (v, grad), value in zip(live, values, strict=True):
        assert value.shape == feeds[v.name].shape, f"{grad.name} has shape {value.shape}"
        assert value.dtype == feeds[v.name].dtype
    run = prepared(program, [target])
    for _ in range(2):
        direction = {v.name: rng.normal(size=feeds[v.name].shape) for v in wrt}
        expected = directional(run, feeds, direction)
        actual = sum(
            float((direction[v.name] * value).sum())
            for (v, _), value in zip(live, values, strict=True)
        )
        assert actual == pytest.approx(expected, rel=1e-6, abs=1e-7)
    return live


@pytest.mark.parametrize(("card", "case", "symbolic"), ALL)
def test_gradient(card, case, symbolic, rng):
    built = build(card.type, case, rng, symbolic=symbolic)
    target = objective(built, rng)
    live = check(built.program, target, built.wrt, built.feeds, rng)
    assert live, "a card with no gradient at all belongs in ops/maths/zero.py"
    if not card.twice:
        return
    g = built.program.recorder()
    squares = [g.ReduceSum(g.Mul(grad, grad), keepdims=0) for _, grad in live]
    second = squares[0] if len(squares) == 1 else g.Sum(*squares)
    check(built.program, second, built.wrt, built.feeds, rng)


def test_every_card_has_cases_and_shapes_in_its_docstring():
    for type, card in PAGES.items():
        assert card.cases or _holds_tensors(type), type
        doc = (card.rule if isinstance(card, Card) else card.build).__doc__ or ""
        assert ("=" in doc and "[" in doc) or "broadcast" in doc, f"{type}: {doc!r}"


def _holds_tensors(type):
    """Whether operands or results may be sequences or optionals (test_sequences.py)."""
    formals = [*op_def(type).inputs, *op_def(type).outputs]
    return any(not kind.startswith("tensor") for formal in formals for kind in formal.dtypes)
