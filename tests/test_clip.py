import math

import numpy as np
import pytest

from graphopt.clip import ClipGradBase, ClipGradByGlobalNorm, ClipGradByNorm, ClipGradByValue
from graphopt.errors import ArgumentError
from graphopt.initializer import Constant
from graphopt.ir.model.operator import Role
from graphopt.ir.model.program import Program
from graphopt.parameters import ParamAttr, create_parameter
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.state.scope import Scope
from graphopt.scoping import default_main_program, program_guard
from tests.ops import harness

NAN, INF = math.nan, math.inf
A, B = np.array([[3.0, -4.0]], "f4"), np.array([12.0, 0.0, 0.5], "f4")
EVERY = [ClipGradByValue(1.0), ClipGradByNorm(1.0), ClipGradByGlobalNorm(1.0)]


def pair(name, value, need_clip=True):
    """A parameter, and a fed variable that stands for its gradient."""
    attr = ParamAttr(name=name, initializer=Constant(0.0), need_clip=need_clip)
    parameter = create_parameter(value.shape, value.dtype, attr=attr)
    block = default_main_program().global_block()
    grad = block.create_var(f"{name}@GRAD", value.shape, value.dtype)
    grad.is_data = True
    return parameter, grad


def clipped(clip, *values, dtype="f4", unclipped=()):
    """What ``clip`` makes of gradients; ``unclipped`` are the positions with need_clip=False."""
    arrays = [np.asarray(v, dtype) if isinstance(v, list) else v for v in values]
    with program_guard(Program(), Program()):
        pairs = [pair(f"w{k}", v, k not in unclipped) for k, v in enumerate(arrays)]
        found = clip(pairs)
        assert [p.name for p, _ in found] == [p.name for p, _ in pairs]
        feeds = {grad.name: v for (_, grad), v in zip(pairs, arrays, strict=True)}
        fetches = [grad for _, grad in found]
        results = Executor().run(default_main_program(), feeds, fetches, scope=Scope())
    for result, value in zip(results, arrays, strict=True):
        assert result.dtype == value.dtype
        assert result.shape == value.shape
    return results


def test_by_value():
    a, b = clipped(ClipGradByValue(1.0), A, B)
    np.testing.assert_array_equal(a, np.clip(A, -1, 1))
    np.testing.assert_array_equal(b, np.clip(B, -1, 1))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.5, 2.0), (-3.0, -1.0), (1.0, 1.0)])
def test_by_value_between_two_bounds(low, high):
    (found,) = clipped(ClipGradByValue(max=high, min=low), A)
    np.testing.assert_array_equal(found, np.clip(A, low, high))


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@pytest.mark.parametrize("norm", [0.5, 5.0, 6.0, 100.0])
def test_by_norm(norm, dtype):
    arrays = [A.astype(dtype), B.astype(dtype)]
    for found, array in zip(clipped(ClipGradByNorm(norm), *arrays), arrays, strict=True):
        size = np.linalg.norm(array.astype("f8"))
        expected = array * min(1.0, norm / size)
        np.testing.assert_allclose(found, expected, rtol=1e-3 if dtype == "f2" else 1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@pytest.mark.parametrize("norm", [0.5, 12.0, 14.0])
def test_by_global_norm(norm, dtype):
    arrays = [A.astype(dtype), B.astype(dtype)]
    size = math.sqrt(sum((v.astype("f8") ** 2).sum() for v in arrays))
    for found, array in zip(clipped(ClipGradByGlobalNorm(norm), *arrays), arrays, strict=True):
        expected = array * min(1.0, norm / size)
        np.testing.assert_allclose(found, expected, rtol=1e-3 if dtype == "f2" else 1e-6)


def test_global_norm_of_several_dtypes():
    found = clipped(ClipGradByGlobalNorm(1.0), A, B.astype("f8"), A.astype("f2"))
    size = math.sqrt(2 * 25 + 144.25)
    for value, array in zip(found, (A, B, A), strict=True):
        np.testing.assert_allclose(value, array / size, rtol=1e-3)


@pytest.mark.parametrize("clip", [ClipGradByNorm(1.0), ClipGradByGlobalNorm(1.0)])
def test_squares_of_halves_do_not_overflow(clip):
    """On the reference evaluator, as onnxruntime's CPU kernels for halves are those for float32."""
    value = np.array([300.0, 400.0], "f2")
    parameter, grad = pair("w", value)
    ((_, found),) = clip([(parameter, grad)])
    (result,), _ = harness.evaluate(default_main_program(), [found], {grad.name: value})
    np.testing.assert_allclose(result, [0.6, 0.8], rtol=1e-3)


def test_auto_skip_gives_the_same_numbers():
    for norm in (1.0, 100.0):
        plain = clipped(ClipGradByGlobalNorm(norm), A)
        skipped = clipped(ClipGradByGlobalNorm(norm, "group", auto_skip_clip=True), A)
        np.testing.assert_array_equal(plain, skipped)


@pytest.mark.parametrize("clip", EVERY)
def test_parameters_that_need_no_clip(clip):
    a, b = clipped(clip, A, B, unclipped=[1])
    np.testing.assert_array_equal(b, B)
    (alone,) = clipped(clip, A)
    np.testing.assert_array_equal(a, alone)
    assert not np.array_equal(a, A)


@pytest.mark.parametrize("clip", EVERY)
def test_nothing_to_clip(clip):
    p, grad = pair("w", A, need_clip=False)
    q, _ = pair("v", A)
    found = clip([(p, grad), (q, None)])
    assert len(found) == 1
    assert found[0][0] is p
    assert found[0][1] is grad
    assert clip([]) == []
    assert default_main_program().global_block().ops == []


@pytest.mark.parametrize("clip", EVERY)
def test_pairs_without_a_gradient_are_dropped(clip):
    (p, grad), (q, _), (r, other) = pair("p", A), pair("q", A), pair("r", B)
    found = clip([(p, grad), (q, None), (r, other)])
    assert [parameter.name for parameter, _ in found] == ["p", "r"]
    assert found[0][1] is not grad
    assert {op.role for op in default_main_program().global_block().ops} == {Role.CLIP}


CASES = [
    (ClipGradByGlobalNorm(1.0), [NAN, 2.0], [NAN, NAN], [NAN]),
    (ClipGradByGlobalNorm(1.0), [INF, 2.0], [NAN, 0.0], [0.0]),
    (ClipGradByGlobalNorm(1.0), [-INF, 2.0], [NAN, 0.0], [0.0]),
    (ClipGradByGlobalNorm(1.0), [0.0, 0.0], [0.0, 0.0], [1.0]),
    (ClipGradByGlobalNorm(0.0), [3.0, 4.0], [0.0, 0.0], [0.0]),
    (ClipGradByNorm(1.0), [NAN, 2.0], [NAN, NAN], [1.0]),
    (ClipGradByNorm(1.0), [INF, 2.0], [NAN, 0.0], [1.0]),
    (ClipGradByNorm(1.0), [0.0, 0.0], [0.0, 0.0], [1.0]),
    (ClipGradByValue(1.0), [NAN, 2.0], [NAN, 1.0], [1.0]),
    (ClipGradByValue(1.0), [INF, -INF], [1.0, -1.0], [1.0]),
]


@pytest.mark.parametrize(("clip", "value", "first", "second"), CASES)
def test_numbers_that_are_not_finite(clip, value, first, second):
    a, b = clipped(clip, value, [1.0])
    np.testing.assert_array_equal(a, np.array(first, "f4"))
    np.testing.assert_array_equal(b, np.array(second, "f4"))


def test_global_norms_that_are_not_positive_are_not_refused():
    (zero,) = clipped(ClipGradByGlobalNorm(0.0), [0.0, 0.0])
    assert np.isnan(zero).all()


def test_a_negative_global_norm_flips_signs():
    (found,) = clipped(ClipGradByGlobalNorm(-1.0), [3.0, 4.0])
    np.testing.assert_allclose(found, [-0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClipGradByValue(0.0),
        lambda: ClipGradByValue(-1.0),
        lambda: ClipGradByValue(1.0, min=2.0),
        lambda: ClipGradByNorm(0.0),
        lambda: ClipGradByNorm(-1.0),
    ],
)
def test_arguments(make):
    with pytest.raises(ArgumentError):
        make()


def test_text():
    assert str(ClipGradByValue(1)) == "Clip Gradient By Value, min = -1.000000, max=1.000000"
    assert str(ClipGradByNorm(1.0)) == "Gradient Clip By Norm, clip_norm=1.000000"
    assert str(ClipGradByGlobalNorm(1.0)) == "Gradient Clip By GlobalNorm, global_norm=1.000000"


def test_ops_point_at_the_parameter():
    p, grad = pair("w", A)
    ClipGradByNorm(1.0)([(p, grad)])
    for op in default_main_program().global_block().ops:
        assert op.made_by == "clip"
        assert op.where.lines() == p.where.lines()


def test_a_clip_class_of_ones_own():
    class Halve(ClipGradBase):
        def clipper(self, g, grads):
            return lambda g, grad: g.Mul(grad, 0.5)

    (found,) = clipped(Halve(), A)
    np.testing.assert_array_equal(found, A / 2)
    p, grad = pair("v", A)
    with pytest.raises(NotImplementedError):
        ClipGradBase()([(p, grad)])
