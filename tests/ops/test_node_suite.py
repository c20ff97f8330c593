"""Gradients of ONNX's own node cases: what onnx holds for right is differentiated right.

Every case with floats in and out is widened to float64, differentiated by ``graphopt.grad``, and
its gradient, on onnx's reference evaluator, compared with differences of the case itself along a
random direction: once with the other inputs as constants and once with them fed. The gradient of
the case as it is, run by onnxruntime, must then agree. ``node_counts.json`` says how many cases of
each op this checks, so that none drops out unseen: ``python -m tests.ops.test_node_suite`` writes
it, and prints why the others are left out.
"""

import contextlib
import functools
import json
import sys
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

import graphopt as go
from graphopt.ir.model.schema import OPSET
from tests.ops import conftest  # noqa: F401 - makes the reference evaluator exact
from tests.ops.harness import NEW_OPS  # noqa: F401 - likewise
from tests.ops.node_cases import (
    NodeCase,
    Values,
    as_double,
    dot,
    draw,
    is_float,
    moved,
    node_cases,
    on_onnxruntime,
    on_reference,
)
from tests.ops.wide import widened

COUNTS = Path(__file__).with_name("node_counts.json")
STEP = 1e-5
HOW = ("baked", "fed", "onnxruntime")
# These take no float64: the gradient is that of the float32 model, widened.
NARROW = {
    "CausalConvWithState",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "LinearAttention",
    "QuantizeLinear",
    "RotaryEmbedding",
}
KINKS = {"test_l1normalization_axis_last": "the reference evaluator takes no absolute values"}
pytestmark = pytest.mark.filterwarnings("ignore")  # of numpy, in the reference evaluator


class LeftOut(Exception):  # noqa: N818 - no error
    """Why there is nothing to compare a gradient of a case with."""


@dataclass(frozen=True)
class Slope:
    """The derivative of the sum of seed times output, along a direction."""

    seeds: Values
    direction: Values
    value: float


@functools.cache
def slope(case: NodeCase) -> Slope:
    """By differences of the case in float64, at two step sizes so that kinks are seen.

    Raises:
        LeftOut: the case has no floats, no derivative there, or is not run by the evaluator.
    """
    case = case.wide()
    if not case.smooth:
        raise LeftOut("no floats go in")
    if case.name in KINKS:
        raise LeftOut(KINKS[case.name])
    rng = np.random.default_rng(0)
    try:
        run = on_reference(case.model)
        base = run(case.feeds)
    except Exception as error:
        raise LeftOut(f"the reference evaluator fails: {type(error).__name__}") from error
    seeds = {n: _seed(v, rng) for n, v in base.items() if is_float(v)}
    if not seeds:
        raise LeftOut("no floats come out")
    if not all(map(_close, base.values(), case.expected)):
        raise LeftOut("the reference evaluator is wrong, or draws")
    direction = {n: draw(case.feeds[n], rng) for n in case.smooth}

    def total(found: Values) -> float:
        return sum(dot(w, found[n]) for n, w in seeds.items())

    def at(step: float) -> float:
        return total(run(moved(case.feeds, direction, step)))

    middle = total(base)
    try:
        up, down, near_up, near_down = (at(s * STEP) for s in (1, -1, 0.1, -0.1))
    except AssertionError as error:
        raise LeftOut("the shape of the results varies") from error
    value = (up - down) / (2 * STEP)
    bend = (near_up - 2 * middle + near_down) / (0.1 * STEP)
    change = (near_up - near_down) / (0.2 * STEP) - value
    scale = 1 + abs(value)
    if not (abs(bend) < 1e-3 * scale and abs(change) < 1e-5 * scale):
        raise LeftOut("it has a kink, or a jump, or is rounded to float32")
    return Slope(seeds, direction, value)


def _seed(value, rng):
    """Random weights; a single number has 1, as ``graphopt.grad`` gives it."""
    single = isinstance(value, np.ndarray) and value.size == 1
    return np.ones(value.shape) if single else draw(value, rng)


def _close(found, expected) -> bool:
    if isinstance(found, list):
        return len(found) == len(expected) and all(map(_close, found, expected))
    if not is_float(found):
        return True
    expected = np.asarray(expected).astype("f8")
    return found.shape == expected.shape and np.allclose(found, expected, 2e-2, 2e-2, True)


def gradient(case: NodeCase, seeds: Values) -> tuple[onnx.ModelProto, Values]:
    """The model with gradients of all smooth inputs as its last outputs, and what it is fed."""
    model = go.grad(case.model, wrt=case.smooth, of=list(seeds))
    given = {i.name for i in case.model.graph.input}
    cotangents = [i.name for i in model.graph.input if i.name not in given]
    several = [n for n, s in seeds.items() if any(c.startswith(f"{n}@GRAD") for c in cotangents)]
    return model, {**case.feeds, **dict(zip(cotangents, (seeds[n] for n in several), strict=True))}


def along(direction: Values, found: Values) -> tuple[float, float]:
    """The derivative along a direction, and the size of what adds up to it."""
    grads = list(found.values())[-len(direction) :]
    parts = [dot(d, v) for d, v in zip(direction.values(), grads, strict=True)]
    sizes = [
        dot(_absolute(d), _absolute(v)) for d, v in zip(direction.values(), grads, strict=True)
    ]
    return sum(parts), sum(sizes)


def _absolute(value):
    return [_absolute(v) for v in value] if isinstance(value, list) else np.abs(value)


def check_double(op: str, case: NodeCase, how: str) -> None:
    wide = case.wide().baked() if how == "baked" else case.wide()
    expected, own = slope(case), wide
    if op in NARROW:
        own = case.baked() if how == "baked" else case
    model, feeds = gradient(own, expected.seeds)
    if op in NARROW:
        model, feeds = widened(model), {n: as_double(v) for n, v in feeds.items()}
    value, size = along(expected.direction, on_reference(model)(feeds))
    assert value == pytest.approx(expected.value, rel=1e-5, abs=1e-6 * (1 + size))


def run_by_onnxruntime(case: NodeCase) -> tuple[NodeCase, Values]:
    """A case and its results, at the opset of Programs if its own is too new."""
    for made in (case, case.at_opset(OPSET)):
        with contextlib.suppress(Exception):  # of many types
            return made, on_onnxruntime(made.model, made.feeds)
    raise LeftOut("onnxruntime does not run it")


def check_single(op: str, case: NodeCase) -> None:
    """On onnxruntime, in the case's own dtypes."""
    expected = slope(case)
    case, own = run_by_onnxruntime(case)
    if not all(map(_close, map(as_double, own.values()), case.expected)):
        raise LeftOut("onnxruntime gives something else")
    model, feeds = gradient(case, expected.seeds)
    types = {i.name: i.type for i in model.graph.input}
    feeds = {n: _as_type(v, types[n]) for n, v in feeds.items() if n in types}
    value, size = along(expected.direction, on_onnxruntime(model, feeds))
    digits = max(_digits(v) for v in feeds.values())
    assert value == pytest.approx(expected.value, abs=max(300 * digits, 1e-6) * (1 + size))


def _digits(value) -> float:
    if isinstance(value, list):
        return max(map(_digits, value))
    return float(ml_dtypes.finfo(value.dtype).eps) if is_float(value) else 0.0


def _as_type(value, found: onnx.TypeProto):
    if found.HasField("optional_type"):
        return _as_type(value, found.optional_type.elem_type)
    if isinstance(value, list):
        return [_as_type(v, found.sequence_type.elem_type) for v in value]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(found.tensor_type.elem_type)
    return value.astype(dtype) if is_float(value) else value


def outcome(op: str, case: NodeCase, how: str) -> str:
    """'' if a case is right, else why it is left out, or what is wrong."""
    try:
        if how == "onnxruntime":
            check_single(op, case)
        else:
            check_double(op, case, how)
    except LeftOut as reason:
        return str(reason)
    except Exception as error:
        return f"FAILED {type(error).__name__}: {str(error)[:500].strip()}"
    return ""


def expected_counts() -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = json.loads(COUNTS.read_text())["cases"]
    return counts


@pytest.mark.parametrize(("op", "counts"), sorted(expected_counts().items()))
def test_node_cases(op, counts):
    checked = {}
    for how in HOW:
        found = {case.name: outcome(op, case, how) for case in node_cases()[op]}
        assert not {name: text for name, text in found.items() if text.startswith("FAILED")}
        checked[how] = sum(not text for text in found.values())
    assert checked == counts


def test_counts_are_of_this_onnx_and_large():
    stored = json.loads(COUNTS.read_text())
    assert stored["onnx"] == onnx.__version__
    for how in HOW:
        checked = [counts[how] for counts in stored["cases"].values()]
        assert sum(checked) >= 736
        assert sum(map(bool, checked)) >= 111


def main() -> None:
    """Write ``node_counts.json``, and print what is left out and what fails."""
    warnings.simplefilter("ignore")
    counts: dict[str, dict[str, int]] = {}
    reasons: Counter[str] = Counter()
    for op, cases in sorted(node_cases().items()):
        counts[op] = {}
        for how in HOW:
            found = {case.name: outcome(op, case, how) for case in cases}
            counts[op][how] = sum(not text for text in found.values())
            reasons.update(f"{how}: {text}" for text in found.values() if text)
            for name, text in found.items():
                if text and not text.startswith("no floats"):
                    sys.stdout.write(f"{op} {name} {how}: {text}\n")
    for text, number in reasons.most_common():
        sys.stdout.write(f"{number:5} {text}\n")
    kept = {op: found for op, found in counts.items() if any(found.values())}
    stored = {"onnx": onnx.__version__, "cases": kept}
    COUNTS.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
