import itertools

import numpy as np
import onnx.reference
import pytest

from graphopt.errors import ArgumentError
from graphopt.ir.model.program import Program
from graphopt.ir.model.seeds import COUNTER
from graphopt.ir.model.tape import Tape
from graphopt.ir.text.parse import parse
from graphopt.ir.types.types import BFLOAT16, TensorType, to_onnx_dtype
from graphopt.nn.functional import dropout
from graphopt.onnx import to_model
from graphopt.parameters import create_parameter
from graphopt.passes.draws.distributions import below
from graphopt.passes.draws.streams import Streams, advances, is_stream
from graphopt.passes.gradients.backward import append_backward, gradients
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.plan.plan import plan_file
from graphopt.runtime.request.fetches import as_request
from graphopt.runtime.state.scope import Scope
from graphopt.scoping import default_main_program, default_startup_program, program_guard
from graphopt.tensor import mean
from graphopt.tensor.random import rand, stream_seed
from tests.helpers import held
from tests.passes.both_runtimes import as_step

N = 1000  # draws are N by N: a million


def draw(record, steps=1, **feeds):
    """What the results of ``record`` are in successive steps."""
    main = Program()
    main.random_seed = 5
    with program_guard(main, Program()):
        variables = [
            main.global_block().create_var(k, [None] * v.ndim, v.dtype) for k, v in feeds.items()
        ]
        for v in variables:
            v.is_data = True
        found = record(*variables)
    exe, scope = Executor(), Scope()
    values = [exe.run(main, feeds, [found], scope=scope)[0] for _ in range(steps)]
    return values[0] if steps == 1 else values


def words(seeds=(1,), steps=1):
    """The first 16 bits of the streams of some seeds        result: i64[steps, seeds, N²]."""
    f64 = to_onnx_dtype(np.dtype("f8"))

    def record():
        g = default_main_program().recorder()
        seen = [stream_seed(g.program, seed) for seed in seeds]
        draws = [g.RandomUniform(shape=[N, N], dtype=f64, seed=seed) for seed in seen]
        return g.Concat(*draws, axis=0)

    drawn = np.stack(draw(record, steps)) if steps > 1 else draw(record)
    return (drawn * 2**16).astype(np.int64).reshape(steps, len(seeds), -1)


def chi_square(counts):
    """How far counts are from equal ones, in standard deviations."""
    mean, free = counts.mean(), counts.size - 1
    return (((counts - mean) ** 2 / mean).sum() - free) / np.sqrt(2 * free)


def joint(a, b):
    """Chi-square of the pairs of the first 6 bits of two sequences."""
    return chi_square(np.bincount((a >> 10) * 64 + (b >> 10), minlength=4096))


def correlation(a, b):
    """The correlation of two sequences, in standard deviations."""
    return np.corrcoef(a, b)[0, 1] * np.sqrt(a.size)


def test_bits_are_balanced_and_values_even():
    w = words()[0, 0]
    for bit in range(16):
        assert abs(((w >> bit) & 1).mean() - 0.5) < 5 * 0.5 / N
    assert abs(chi_square(np.bincount(w, minlength=2**16))) < 5
    assert abs(w.mean() / 2**16 - 0.5) < 5 / np.sqrt(12) / N
    assert abs((w / 2**16).var() * 12 - 1) < 0.005


def test_elements_are_independent():
    w = words()[0, 0]
    grid = w.reshape(N, N)
    for sequence in (w, grid.T.reshape(-1)):
        for lag in (1, 2, 3, 64, N - 1, N, N + 1):
            assert abs(correlation(sequence[lag:], sequence[:-lag])) < 5
            assert abs(joint(sequence[lag:], sequence[:-lag])) < 5
    for size, bits in ((16, 1), (8, 2), (5, 3), (3, 5)):
        runs = (w >> (16 - bits))[: w.size // size * size].reshape(-1, size)
        codes = runs @ (1 << bits * np.arange(size))
        assert abs(chi_square(np.bincount(codes, minlength=1 << bits * size))) < 5


def test_rows_and_columns_are_independent():
    w = words()[0, 0]
    signs = np.where(w.reshape(N, N) < 2**15, -1.0, 1.0)
    for di, dj in itertools.product((1, 2, 7, 64), repeat=2):
        corners = signs[di:, dj:] * signs[:-di, dj:] * signs[di:, :-dj] * signs[:-di, :-dj]
        assert abs(corners.mean()) * N < 5
    # the largest singular value of a random matrix is close to 2 √N
    assert abs(np.linalg.svd(signs, compute_uv=False)[0] / np.sqrt(N) - 2) < 0.06


def test_steps_and_seeds_are_independent():
    for draws in (words(steps=6)[:, 0], words(seeds=range(1, 7))[0]):
        for a, b in itertools.combinations(draws, 2):
            assert abs(correlation(a, b)) < 5
            assert abs(joint(a, b)) < 5
        signs = [np.where(w < 2**15, -1.0, 1.0) for w in draws]
        for some in itertools.chain(*(itertools.combinations(signs, k) for k in (3, 4))):
            assert abs(np.prod(some, axis=0).mean()) * N < 5


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", BFLOAT16])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 2.0), (-0.1, 0.1), (3.0, 3.0)])
def test_uniforms_are_in_the_half_open_range(low, high, dtype):
    dtype = np.dtype(dtype)
    p = parse("state w : f32[300, 1000]\nw <- RandomUniform(shape=[300, 1000], seed=3.0)")
    (op,) = p.global_block().ops
    op.attrs.update(low=low, high=high, dtype=to_onnx_dtype(dtype))
    p.global_block().vars["w"].tensor_type = TensorType(dtype, (300, 1000))
    scope = Scope()
    Executor().run(p, scope=scope)
    w = held(scope, "w").astype("f8")
    if low == high:
        assert (w == low).all()
        return
    assert w.min() >= float(np.array(low, dtype))
    assert w.max() < high
    assert abs(w.mean() - (low + high) / 2) < (high - low) / 100
    assert w.max() == below(high, dtype) or w.max() > high - (high - low) / 1000


def test_normals():
    def record():
        g = default_main_program().recorder()
        return g.RandomNormal(shape=[N, N], mean=2.0, scale=3.0, seed=stream_seed(g.program))

    z = ((draw(record) - 2.0) / 3.0).astype("f8").reshape(-1)
    assert abs(z.mean()) * N < 5
    assert abs(z.var() - 1) * N < 5 * np.sqrt(2)
    assert abs((z**3).mean()) * N < 5 * np.sqrt(15)
    assert abs((z**4).mean() - 3) * N < 5 * np.sqrt(96)
    assert abs(correlation(z[1:], z[:-1])) < 5
    edges = [-np.inf, -2.5758293, -1.6448536, -0.6744898, 0.0, 0.6744898, 1.6448536, 2.5758293]
    shares = np.array([0.005, 0.045, 0.2, 0.25, 0.25, 0.2, 0.045, 0.005])
    found = np.histogram(z, [*edges, np.inf])[0] / z.size
    np.testing.assert_allclose(found, shares, atol=5 * np.sqrt(0.25) / N)


def test_bernoulli_and_likes():
    p = np.full((N, 100), 0.3, "f4")
    p[:5], p[5:10] = 0.0, 1.0

    def record(v):
        g = default_main_program().recorder()
        seeds = [stream_seed(g.program) for _ in range(3)]
        like = g.RandomUniformLike(v, low=-1.0, seed=seeds[1])
        normal = g.RandomNormalLike(v, mean=3.0, seed=seeds[2])
        return g.Concat(g.Bernoulli(v, seed=seeds[0]), like, normal, axis=0)

    kept, like, normal = np.split(draw(record, p=p), 3)
    assert (kept[:5] == 0).all()
    assert (kept[5:10] == 1).all()
    assert set(np.unique(kept)) == {0.0, 1.0}
    assert abs(kept[10:].mean() - 0.3) < 0.01
    assert -1 <= like.min() < -0.99
    assert 0.99 < like.max() < 1
    assert abs(normal.mean() - 3) < 0.02


@pytest.mark.parametrize("shape", [[7], [3, 5], [2, 3, 4], [1, 1], [0, 3], [1031, 1]])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_a_dropout_of_any_shape(shape, ratio):
    x = np.arange(1.0, np.prod(shape) + 1, dtype="f4").reshape(shape)

    def record(v):
        g = default_main_program().recorder()
        return g.Dropout(v, np.float32(ratio), True, seed=stream_seed(g.program))

    y = draw(record, v=x)
    assert y.shape == x.shape
    scaled = x * np.float32(1 / (1 - ratio) if ratio < 1 else 0)
    assert ((y == 0) | (y == scaled)).all()
    if ratio == 0:
        np.testing.assert_array_equal(y, x)


def test_the_gradient_has_the_mask_of_the_run():
    x = np.arange(1.0, 2001.0, dtype="f4").reshape(40, 50)

    def record(v):
        y = dropout(v, 0.4)
        (dx,) = gradients([y], [v])
        g = default_main_program().recorder()
        return g.Concat(y, dx, axis=0)

    first, second = draw(record, steps=2, v=x)
    for found in (first, second):
        y, dx = np.split(found, 2)
        np.testing.assert_allclose(y, dx * x, rtol=1e-6)
        assert abs((y == 0).mean() - 0.4) < 0.06
    assert ((first == 0) != (second == 0)).mean() > 0.4


def test_dropouts_differ():
    def record(v):
        return default_main_program().recorder().Concat(dropout(v), dropout(v), axis=0)

    both = draw(record, v=np.ones((100, 100), "f4"))
    one, other = np.split(both != 0, 2)
    assert abs((one == other).mean() - 0.5) < 0.05


def test_the_reference_evaluator_draws_the_same():
    main = default_main_program()
    x = main.global_block().create_var("x", [None, 3, None])
    x.is_data = True
    y = dropout(x, 0.5)
    value = np.ones((2, 3, 4), "f4")
    model = to_model(main, [x], [y])
    feeds = {"x": value, COUNTER: np.array(0)}
    found, following = onnx.reference.ReferenceEvaluator(model).run(None, feeds)
    np.testing.assert_array_equal(found, Executor().run(main, {"x": value}, [y], scope=Scope())[0])
    assert following == 1


def test_known_and_open_dims_may_be_hashed_at_run_time():
    """More indices than are baked: the hash is an op, and the same numbers come of it."""

    def record(shape):
        g = default_main_program().recorder()
        return g.RandomUniform(shape=shape, seed=stream_seed(g.program))

    tall = draw(lambda: record([1031, 1]))  # prime: 1031 rows, one column
    short = draw(lambda: record([1021, 1]))
    np.testing.assert_array_equal(tall[:1021], short)


TRAINING = """
feed x : f32[N, 4]
param w : f32[4, 3]
state random_step : i64[]
-- schedule
random_step <- Add(random_step, 1)
-- forward
h : f32[N, 3] = MatMul(x, w)
d : f32[N, 3] = Dropout(h, 0.5, true, seed=3)
loss : f32[] = ReduceMean(d, keepdims=0)
-- update
w <- Sub(w, 0.1)
"""


def planned(program, fetch, feed=("x",)):
    return plan_file(program, as_request(program, fetch), feed)


def assigned(program, fetch):
    return [v.name for v in planned(program, fetch).step.next_state]


def test_runs_that_draw_and_change_state_advance():
    p = parse(TRAINING)
    update = p.global_block().ops[-1]
    assert assigned(p, ["loss"]) == [COUNTER, "w"]
    assert assigned(p, ["h"]) == ["w"]  # nothing kept draws
    assert assigned(p, ["loss", [update]]) == [COUNTER, "w"]
    assert assigned(p, ["h", [update]]) == ["w"]
    assert planned(p, ["loss"]).inputs[1].name == COUNTER


def test_a_run_for_gradients_alone_does_not_advance():
    x = default_main_program().global_block().create_var("x", [None, 4])
    x.is_data = True
    loss = mean(dropout(default_main_program().recorder().MatMul(x, create_parameter([4, 3]))))
    pairs = append_backward(loss)
    exe, scope = Executor(), Scope()
    exe.run(default_startup_program(), scope=scope)
    feed = {"x": np.ones((50, 4), "f4")}
    first = exe.run(default_main_program(), feed, [pairs], scope=scope)
    again = exe.run(default_main_program(), feed, [pairs], scope=scope)
    assert held(scope, COUNTER) == 0
    np.testing.assert_array_equal(first[1], again[1])
    exe.run(default_main_program(), feed, [loss], scope=scope)
    assert held(scope, COUNTER) == 1
    other = exe.run(default_main_program(), feed, [pairs], scope=scope)
    assert not np.array_equal(first[1], other[1])


def test_a_program_counts_once():
    x = default_main_program().global_block().create_var("x", [None, 4])
    for _ in range(3):
        dropout(x)
    rand([2])
    ops = default_main_program().global_block().ops
    assert [advances(op) for op in ops] == [True, *[False] * (len(ops) - 1)]
    assert [v.name for v in default_startup_program().persistables()] == [COUNTER]
    test = default_main_program().clone(for_test=True)
    assert not any(map(advances, test.global_block().ops))
    assert sum(map(is_stream, default_main_program().clone().global_block().ops)) == 4


def test_a_taken_name_is_refused():
    default_main_program().global_block().create_var(COUNTER, [])
    with pytest.raises(ArgumentError, match="already has a variable 'random_step'"):
        rand([2])


def test_what_has_no_counter_or_no_seed_is_left():
    text = "feed x : f32[N, 4]\ny : f32[N, 4] = Dropout(x, 0.5, true, seed=3)"
    step = as_step(text, "y")
    assert not Streams().needed(step)
    assert Streams().run(step).text(where=False) == step.text(where=False)
    for call in ("Dropout(x, 0.5, true)", "Dropout(x, 0.5, false, seed=3)", "RandomNormalLike(x)"):
        step = as_step(TRAINING + f"z : f32[N, 4] = {call}", "z")
        kept = [op.type for op in Streams(COUNTER).run(step).global_block().ops]
        assert kept.count(call.split("(")[0]) == 1


def test_a_dropout_that_is_left_still_drops():
    """onnxruntime would remove a Dropout amid other ops when nobody reads its mask."""
    main = default_main_program()
    x = main.global_block().create_var("x", [None, 4])
    x.is_data = True
    g = Tape(main.global_block())
    y = g.Relu(g.Dropout(g.Relu(x), 0.5, True))
    (found,) = Executor().run(main, {"x": np.ones((100, 4), "f4")}, [y])
    assert 0.3 < (found == 0).mean() < 0.7


def test_a_forward_run_of_a_training_program_drops():
    main = default_main_program()
    x = main.global_block().create_var("x", [None, 4])
    x.is_data = True
    y = main.recorder().Relu(dropout(main.recorder().Relu(x), 0.5))
    (found,) = Executor().run(main, {"x": np.ones((100, 4), "f4")}, [y], scope=Scope())
    assert set(np.unique(found)) == {0.0, 2.0}


def test_scopes_and_roles_are_kept():
    step = as_step(TRAINING, "loss")
    op = next(op for op in step.global_block().ops if op.type == "Dropout")
    op.scope = "/encoder/"
    drawn = Streams(COUNTER).run(step)
    made = [o for o in drawn.global_block().ops if o.made_by == "streams"]
    assert {str(o.role) for o in made} == {"forward"}
    assert [o.scope for o in made][-1] == "/encoder/"
    assert COUNTER in [v.name for v in drawn.inputs()]
