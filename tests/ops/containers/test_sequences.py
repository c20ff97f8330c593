"""Gradients of sequences and optionals: from tensors through containers to a number, and twice.

On both evaluators, with known and with open dims, but for what the reference evaluator cannot run:
SequenceInsert at the end puts it at the front, Optional makes a list that OptionalGetElement
keeps, SequenceMap knows neither captures nor two further sequences, SplitToSequence heeds keepdims
beside a split.
"""

from typing import Any

import numpy as np
import onnx.reference
import pytest

from graphopt.errors import GradientError
from graphopt.ir.edit import control
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.ir.text.verify import verify
from graphopt.ir.types.types import ContainerType, TensorType, container
from graphopt.onnxio.write import inlined
from graphopt.passes.gradients.backward import gradients
from tests.helpers import lowered
from tests.ops import harness, on_onnxruntime

STEP = 1e-5


def on_reference(program, fetch, feeds):
    return harness.prepared(program, fetch)


def fed_into(program, feeds, symbolic):
    made = []
    for name, value in feeds.items():
        hidden = symbolic and value.dtype.kind == "f"
        shape = [None if hidden else d for d in value.shape]
        v = program.global_block().create_var(name, shape, value.dtype)
        v.is_data = True
        made.append(v)
    return made


def assert_gradient(function, feeds, rng, evaluators=None):
    """``function(g, *fed)`` gives tensors; the sum of their elements, weighted, is derived."""
    evaluators = evaluators or BOTH
    for symbolic in (False, True):
        program = Program()
        made = fed_into(program, feeds, symbolic)
        wrt = [v for v in made if v.tensor_type.is_float]
        g = program.recorder()
        found = function(g, *made)
        parts = found if isinstance(found, (list, tuple)) else [found]
        values = on_onnxruntime.evaluate(program, parts, used(program, feeds))
        weights = [g.const(rng.normal(size=v.shape)) for v in values]
        sums = [g.ReduceSum(g.Mul(p, w), keepdims=0) for p, w in zip(parts, weights, strict=True)]
        target = g.Sum(*[g.Mul(s, s) for s in sums])
        for _ in range(2 if symbolic else 1):
            live = assert_derivative(program, target, wrt, feeds, rng, evaluators)
            squares = [g.ReduceSum(g.Mul(d, d), keepdims=0) for d in live]
            target = g.Sum(*squares)


def used(program, feeds):
    """The feeds that the Program's ops read: onnxruntime takes no others."""
    read = {v.name for op in program.global_block().ops for v in op.reads()}
    return {name: value for name, value in feeds.items() if name in read}


def assert_derivative(program, target, wrt, feeds, rng, evaluators):
    found = gradients([target], wrt)
    verify(program)
    pairs = [(v, d) for v, d in zip(wrt, found, strict=True) if d is not None]
    assert pairs
    direction = {v.name: rng.normal(size=feeds[v.name].shape) for v in wrt}
    given = used(program, feeds)
    for prepared in evaluators:
        run = prepared(program, [target, *[d for _, d in pairs]], given)
        above, below = (float(run(moved(given, direction, s * STEP))[0]) for s in (1, -1))
        values = run(given)[1:]
        actual = 0.0
        for (v, _), value in zip(pairs, values, strict=True):
            assert value.shape == feeds[v.name].shape
            assert value.dtype == np.float64
            actual += float((direction[v.name] * value).sum())
        assert actual == pytest.approx((above - below) / (2 * STEP), rel=2e-6, abs=1e-6)
    return [d for _, d in pairs]


def moved(feeds, direction, by):
    return {k: v + by * direction[k] if k in direction else v for k, v in feeds.items()}


ONNXRUNTIME = [on_onnxruntime.prepared]
BOTH = [on_reference, *ONNXRUNTIME]
X, W = np.random.default_rng(1).uniform(0.3, 1.2, (2, 5, 3))[0], np.array([0.4, -0.9, 0.7])


def squares(g, x):
    return g.Mul(x, x)


def three(g, x, w):
    """Three elements of different shapes: [5, 3], [5, 3], [1, 3]."""
    return g.SequenceConstruct(squares(g, x), g.Mul(x, w), g.Unsqueeze(g.Sin(w), [0]))


def fed_or_not(values):
    """Each as a constant and fed; None, an omitted operand, is not fed."""
    return [(v, fed) for v in values for fed in (False, True) if v is not None or not fed]


@pytest.mark.parametrize("position", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("given", ["constant", "i8", "i4"])
def test_at(position, given, rng):
    feeds = {"x": X, "w": W}
    if given != "constant":
        feeds["k"] = np.array(position, given)

    def function(g, x, w, k=position):
        return g.SequenceAt(three(g, x, w), k)

    assert_gradient(function, feeds, rng)


@pytest.mark.parametrize(("position", "fed"), fed_or_not([None, 0, 2, 3, -1, -3]))
def test_insert(position, fed, rng):
    feeds = {"x": X, "w": W} | ({"k": np.array(position)} if fed else {})

    def function(g, x, w, k=position):
        s = g.SequenceInsert(three(g, x, w), g.Exp(x), *([] if k is None else [k]))
        return [g.SequenceAt(s, n) for n in range(4)]

    assert_gradient(function, feeds, rng, ONNXRUNTIME if position == 3 else BOTH)


@pytest.mark.parametrize(("position", "fed"), fed_or_not([None, 0, 1, 2, -1, -2]))
def test_erase(position, fed, rng):
    feeds = {"x": X, "w": W} | ({"k": np.array(position)} if fed else {})

    def function(g, x, w, k=position):
        s = g.SequenceErase(three(g, x, w), *([] if k is None else [k]))
        return [g.SequenceAt(s, n) for n in range(2)]

    assert_gradient(function, feeds, rng)


@pytest.mark.parametrize("axis", [0, -2])
def test_concat(axis, rng):
    assert_gradient(
        lambda g, x, w: g.ConcatFromSequence(three(g, x, w), axis=axis), {"x": X, "w": W}, rng
    )


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_stack(axis, rng):
    def function(g, x, w):
        s = g.SequenceConstruct(squares(g, x), g.Mul(x, w))
        return g.ConcatFromSequence(s, axis=axis, new_axis=1)

    assert_gradient(function, {"x": X, "w": W}, rng)


SPLITS = [None, np.int64(2), np.array([2, 3]), np.array([0, 4, 1], np.int32)]
COUNTS = [5, 3, 2, 3]


@pytest.mark.parametrize(("kind", "fed"), [*fed_or_not([None]), *fed_or_not([1, 2, 3])])
@pytest.mark.parametrize("axis", [0, -2])
def test_split(kind, axis, fed, rng):
    split, count = SPLITS[kind or 0], COUNTS[kind or 0]
    feeds = {"x": X} | ({"n": np.asarray(split)} if fed else {})

    def function(g, x, n=split):
        s = g.SplitToSequence(squares(g, x), *([] if n is None else [n]), axis=axis)
        return [g.Sin(g.SequenceAt(s, k)) for k in range(count)]

    assert_gradient(function, feeds, rng)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_split_without_the_dim(axis, rng):
    def function(g, x):
        s = g.SplitToSequence(squares(g, x), axis=axis, keepdims=0)
        return [g.Sin(g.SequenceAt(s, k)) for k in range(X.shape[axis])]

    assert_gradient(function, {"x": X}, rng)


def test_keepdims_does_not_matter_beside_a_split(rng):
    def function(g, x):
        s = g.SplitToSequence(squares(g, x), np.array([1] * 5), axis=0, keepdims=0)
        return [g.Sin(g.SequenceAt(s, k)) for k in range(5)]

    assert_gradient(function, {"x": X}, rng, ONNXRUNTIME)


def element_type(of):
    return of.element if isinstance(of, ContainerType) else of


def mapped(g, body, *operands):
    """SequenceMap; ``body(g, *elements)`` gives its results."""
    formals = [("e", element_type(v.tensor_type)) for v in operands]
    block = control.block_of(g, formals, body)
    return g.emit("SequenceMap", *operands, outputs=len(block.outputs), body=block)


def test_map(rng):
    def function(g, x, w):
        s = g.SequenceConstruct(squares(g, x), g.Exp(x))
        t = g.SequenceConstruct(g.Mul(x, w), x)
        p, q = mapped(g, lambda g, a, b: [g.Mul(a, b), g.Sin(a)], s, t)
        r = mapped(g, lambda g, a, u: [g.Mul(a, u)], s, g.Exp(w))
        return [g.ConcatFromSequence(p, axis=0), g.SequenceAt(q, 1), g.SequenceAt(r, 0)]

    assert_gradient(function, {"x": X, "w": W}, rng)


def test_map_with_captures(rng):
    def function(g, x, w):
        s = g.SequenceConstruct(squares(g, x), g.Exp(x))
        t = g.SequenceConstruct(g.Mul(x, w), x)
        p, q = mapped(
            g,
            lambda g, a, b, c, u: [g.Mul(g.Mul(a, b), g.Mul(w, c)), g.Add(g.Sin(a), g.Mul(u, u))],
            *(s, t, s, w),
        )
        return [g.ConcatFromSequence(p, axis=0), g.SequenceAt(q, 1)]

    assert_gradient(function, {"x": X, "w": W}, rng, ONNXRUNTIME)


def test_random_ops_in_a_map_are_refused():
    program = Program()
    (x,) = fed_into(program, {"x": X}, False)
    g = program.recorder()
    s = mapped(g, lambda g, a: [g.Dropout(a, 0.5, True, seed=1)], g.SequenceConstruct(x))
    with pytest.raises(GradientError, match="Dropout inside a body"):
        gradients([g.SequenceAt(s, 0)], [x])


def test_a_sequence_used_twice(rng):
    """Gradients of a sequence add up element by element."""

    def function(g, x, w):
        s = three(g, x, w)
        return [g.ConcatFromSequence(s, axis=0), g.SequenceAt(s, 1), g.SequenceAt(s, -1)]

    assert_gradient(function, {"x": X, "w": W}, rng)


def test_identity_and_length(rng):
    def function(g, x, w):
        s = g.Identity(three(g, x, w))
        length = g.cast(g.SequenceLength(s), np.dtype("f8"))
        return g.Mul(g.SequenceAt(s, 0), length)

    assert_gradient(function, {"x": X, "w": W}, rng)


@pytest.mark.parametrize("flag", [False, True])
def test_branches_that_give_sequences(flag, rng):
    def function(g, x, w, flag):
        (s,) = control.cond(
            g,
            flag,
            lambda g: [g.SequenceConstruct(g.Mul(x, w), x)],
            lambda g: [g.SequenceInsert(g.SequenceConstruct(g.Exp(x)), squares(g, x))],
        )
        return g.ConcatFromSequence(s, axis=0)

    assert_gradient(function, {"x": X, "w": W, "flag": np.array(flag)}, rng)


def test_optionals(rng):
    def function(g, x, w):
        held = g.Optional(g.Mul(squares(g, x), w))
        listed = g.Optional(three(g, x, w))
        joined = g.ConcatFromSequence(g.OptionalGetElement(listed), axis=0)
        return [joined, g.OptionalGetElement(held), g.Sin(g.OptionalGetElement(held))]

    assert_gradient(function, {"x": X, "w": W}, rng, ONNXRUNTIME)


def test_elements_of_what_is_no_optional(rng):
    def function(g, x, w):
        s = g.OptionalGetElement(three(g, x, w))
        return g.SequenceAt(s, 0), g.OptionalGetElement(g.Mul(x, w))

    assert_gradient(function, {"x": X, "w": W}, rng)


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_branches_that_give_optionals(flag, listed, rng):
    def function(g, x, w, flag):
        def branch(value):
            return lambda g: [g.Optional(g.SequenceConstruct(value) if listed else value)]

        (held,) = control.cond(g, flag, branch(g.Mul(x, w)), branch(squares(g, x)))

        def some(g):
            inside = g.OptionalGetElement(held)
            return [g.Sin(g.SequenceAt(inside, 0) if listed else inside)]

        return control.cond(g, g.OptionalHasElement(held), some, lambda g: [g.Mul(x, w)])

    assert_gradient(function, {"x": X, "w": W, "flag": np.array(flag)}, rng, ONNXRUNTIME)


@pytest.mark.parametrize("listed", [False, True])
def test_an_absent_optional_has_an_empty_gradient(listed):
    """On the reference evaluator: onnxruntime cannot be fed nothing."""
    program = Program()
    (w,) = fed_into(program, {"w": W}, False)
    held = TensorType(np.dtype("f8"), (3,))
    kind = container("optional", container("seq", held) if listed else held)
    o = Variable("o", kind, block=program.global_block(), where=w.where, is_data=True)
    program.global_block().add_var(o)
    g = program.recorder()

    def some(g):
        inside = g.OptionalGetElement(o)
        return [g.Mul(g.SequenceAt(inside, 0) if listed else inside, w)]

    (y,) = control.cond(g, g.OptionalHasElement(o), some, lambda g: [g.Sin(w)])
    dw, do = gradients([y], [w, o])
    assert dw is not None
    assert do is not None
    model = inlined(lowered(program, [w, o], [dw, do]).model)
    session = onnx.reference.ReferenceEvaluator(model)
    found: Any = session.run(None, {"w": W, "o": None})
    np.testing.assert_allclose(found[0], np.cos(W))
    assert len(found[1]) == 0
    found = session.run(None, {"w": W, "o": [W + 1.0] if listed else W + 1.0})
    np.testing.assert_allclose(found[0], W + 1.0)
    np.testing.assert_allclose(found[1], [W] if listed else W)
