from typing import Any

import numpy as np
import pytest

from graphopt.errors import ArgumentError, ShapeError, StepError
from graphopt.nn import functional as F  # noqa: N812 - Paddle's habit
from graphopt.passes.gradients.backward import gradients
from graphopt.runtime.front.executor import Executor
from graphopt.scoping import default_main_program
from tests.ops.on_onnxruntime import evaluate
from tests.tensor.recording import assert_gradient, both, fed, run

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("f4")
Y = np.array([0, 3, 1, 1, 2, 3])
IGNORED = np.array([0, -100, 1, 1, -100, 3])
WEIGHT = np.array([0.5, 2.0, 1.0, 0.25], "f4")
LOG = X.astype("f8") - np.log(np.exp(X.astype("f8")).sum(1, keepdims=True))
PICKED = -LOG[np.arange(6), Y]


def near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def loss(label=Y, x=X, **options):
    return both(lambda x, y: F.cross_entropy(x, y, **options), x, label)


def test_cross_entropy_reductions():
    near(loss(), PICKED.mean())
    near(loss(reduction="sum"), PICKED.sum())
    near(loss(reduction="none"), PICKED)
    near(loss(Y[:, None], reduction="none"), PICKED[:, None])
    near(loss(Y.astype("i4")), PICKED.mean())
    near(loss(Y.astype("f4")), PICKED.mean())


def test_negative_ignore_index_counts_ignored_samples_in_the_mean():
    kept = IGNORED >= 0
    near(loss(IGNORED), PICKED[kept].sum() / 6)
    near(loss(IGNORED, reduction="none"), np.where(kept, PICKED, 0))


def test_other_ignore_index_does_not_count_them():
    near(loss(ignore_index=1), PICKED[Y != 1].mean())
    near(loss(np.full(6, 1), ignore_index=1), 0.0)


def test_weights():
    w = WEIGHT[Y]
    near(loss(weight=WEIGHT), (w * PICKED).sum() / w.sum())
    near(loss(weight=WEIGHT, reduction="sum"), (w * PICKED).sum())
    kept = IGNORED >= 0
    near(loss(IGNORED, weight=WEIGHT), (w * PICKED)[kept].sum() / w[kept].sum())
    near(loss(weight=WEIGHT, ignore_index=1), (w * PICKED)[Y != 1].sum() / w[Y != 1].sum())
    near(loss(np.full(6, 1), weight=WEIGHT, ignore_index=1), 0.0)


def test_soft_label():
    soft = np.random.default_rng(1).dirichlet(np.ones(4), 6).astype("f4")
    each = -(soft * LOG).sum(1)
    near(loss(soft, soft_label=True), each.mean())
    near(loss(soft, soft_label=True, reduction="none"), each[:, None])
    w = soft @ WEIGHT
    near(loss(soft, soft_label=True, weight=WEIGHT), (w * each).sum() / w.sum())
    near(loss(soft, soft_label=True, weight=WEIGHT, reduction="sum"), (w * each).sum())
    smooth = 0.9 * soft + 0.025
    found = run(lambda x, y: F.cross_entropy(x, y, soft_label=True, label_smoothing=0.1), X, soft)
    near(found, -(smooth * LOG).sum(1).mean())


def test_label_smoothing():
    smooth = 0.8 * np.eye(4)[Y] + 0.05
    each = -(smooth * LOG).sum(1)

    def smoothed(label=Y, **options):
        return run(lambda x, y: F.cross_entropy(x, y, label_smoothing=0.2, **options), X, label)

    near(smoothed(), each.mean())
    near(smoothed(reduction="none"), each)
    near(smoothed(ignore_index=1), each[Y != 1].mean())
    near(smoothed(IGNORED), each[IGNORED >= 0].sum() / 6)
    w = 0.8 * WEIGHT[Y] + 0.2 * WEIGHT.mean()
    near(smoothed(weight=WEIGHT), (w * each).sum() / w.sum())
    near(smoothed(weight=WEIGHT, reduction="sum"), (w * each).sum())
    counts = Y != 1
    near(smoothed(weight=WEIGHT, ignore_index=1), (w * each)[counts].sum() / w[counts].sum())
    near(smoothed(Y.astype("i4")), each.mean())
    found = run(
        lambda x, y: F.cross_entropy(x, y, label_smoothing=0.2, use_softmax=False),
        np.exp(LOG).astype("f4"),
        Y,
    )
    near(found, each.mean())


def test_label_smoothing_is_a_soft_label():
    soft = (0.8 * np.eye(4)[Y] + 0.05).astype("f4")
    for options in ({}, {"weight": WEIGHT}, {"reduction": "sum"}):
        near(
            loss(label_smoothing=0.2, **options),
            run(lambda x, y, o=options: F.cross_entropy(x, y, soft_label=True, **o), X, soft),
        )


OPTIONS: list[dict[str, Any]] = [
    {}, {"ignore_index": 1}, {"weight": WEIGHT}, {"label_smoothing": 0.1}, {"ignore_index": -1},
    {"weight": WEIGHT, "label_smoothing": 0.1, "reduction": "none"}, {"use_softmax": False},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=[" ".join(o) for o in OPTIONS])
@pytest.mark.parametrize("bad", [-1, -4, -5, -100, -(2**30), 4, 5, 2**30])
@pytest.mark.parametrize("dtype", ["i4", "i8"])
def test_labels_that_are_no_classes_are_refused(options, bad, dtype):
    y = Y.astype(dtype)
    x = np.abs(X)
    expected = loss(y, x, **options)
    assert np.isfinite(expected).all()
    y[2] = bad
    if bad == options.get("ignore_index", -100):
        assert np.isfinite(loss(y, x, **options)).all()
        return
    with pytest.raises(Exception, match=r"[Oo]ut of"):
        run(lambda x, y: F.cross_entropy(x, y, **options), x, y)


def test_a_run_with_a_label_that_is_no_class_is_a_step_error():
    x, y = fed("x", X), fed("y", Y)
    value = F.cross_entropy(x, y)
    executor, wrong = Executor(), np.where(Y == 0, -1, Y)
    with pytest.raises(StepError, match="GatherElements"):
        executor.run(default_main_program(), feed={"x": X, "y": wrong}, fetch_list=[value])


def test_gradients_of_classes():
    for options in OPTIONS:
        assert_gradient(lambda x, o=options: F.cross_entropy(x, Y, **o), np.abs(X) + 0.1)


def test_weights_take_the_dtype_of_the_input():
    near(run(lambda x: F.cross_entropy(x, Y, WEIGHT.tolist()), X.astype("f8")), loss(weight=WEIGHT))
    near(loss(weight=WEIGHT.astype("f8")), loss(weight=WEIGHT))


def test_class_axis():
    x = RNG.normal(size=(2, 3, 4, 5)).astype("f4")
    y = RNG.integers(0, 3, (2, 4, 5))
    log = x - np.log(np.exp(x).sum(1, keepdims=True))
    each = -np.take_along_axis(log, y[:, None], 1)
    near(loss(y, x, axis=1, reduction="none"), each[:, 0])
    near(loss(y[:, None], x, axis=1, reduction="none"), each)
    last, first = x.transpose(0, 2, 3, 1), x.transpose(1, 0, 2, 3)
    near(loss(y, last, reduction="none"), each[:, 0])
    near(loss(y[..., None], last, reduction="none"), each[:, 0, ..., None])
    near(loss(y, first, axis=0, reduction="none"), each[:, 0])
    near(run(lambda x: F.cross_entropy(x, 2), X[0]), -LOG[0, 2])


def test_probabilities():
    near(loss(x=np.exp(LOG).astype("f4"), use_softmax=False), PICKED.mean())


def test_the_label_gets_no_gradient():
    x, y = fed("x", X), fed("y", np.exp(LOG).astype("f4"))
    value = F.cross_entropy(x, y, soft_label=True)
    dx, dy = gradients([value], [x, y])
    assert dx is not None
    assert dy is None


def test_cross_entropy_errors():
    x, y = fed("x", X), fed("y", Y)
    with pytest.raises(ArgumentError, match="reduction cannot be 'max'"):
        F.cross_entropy(x, y, reduction="max")
    with pytest.raises(ArgumentError, match="labels that are classes"):
        F.cross_entropy(x, x, soft_label=True, ignore_index=1)
    with pytest.raises(ShapeError, match="the label does not fit the input"):
        F.cross_entropy(x, fed("z", Y[:4]))
    with pytest.raises(ShapeError, match="the label does not fit the input"):
        F.cross_entropy(x, x)
    with pytest.raises(ShapeError, match="no class axis"):
        F.cross_entropy(1.0, y)


def test_smoothing_needs_the_number_of_classes():
    x = fed("x", X, opened=True)
    with pytest.raises(ShapeError, match="the number of classes"):
        F.cross_entropy(x, x, soft_label=True, label_smoothing=0.1)
    with pytest.raises(ShapeError, match="the number of classes"):
        F.label_smooth(x)


def test_softmax_with_cross_entropy():
    near(both(F.softmax_with_cross_entropy, X, Y[:, None]), PICKED[:, None])
    near(both(F.softmax_with_cross_entropy, X, Y), PICKED[:, None])
    found = both(lambda x, y: F.softmax_with_cross_entropy(x, y, return_softmax=True), X, Y)
    near(found[1], np.exp(LOG))


P = np.array([[0.2, 0.9], [1.0, 0.0]], "f4")
T = np.array([[0.0, 1.0], [1.0, 1.0]], "f4")


def test_binary_cross_entropy():
    each = np.array([[-np.log(0.8), -np.log(0.9)], [0.0, 100.0]])
    near(both(lambda p, t: F.binary_cross_entropy(p, t, reduction="none"), P, T), each)
    near(both(F.binary_cross_entropy, P, T), each.mean())
    x, t = fed("p", P), fed("t", T)
    [grad] = gradients([F.binary_cross_entropy(x, t, reduction="sum")], [x])
    [found] = evaluate(default_main_program(), [grad], {"p": P, "t": T})
    near(found, [[1 / 0.8, -1 / 0.9], [-1.0, 0.0]])


def test_binary_cross_entropy_with_logits():
    x = np.array([[100.0, -2.0], [-100.0, 0.5]], "f4")
    each = np.logaddexp(0, x) - x * T
    function = F.binary_cross_entropy_with_logits
    near(both(lambda x, t: function(x, t, reduction="none"), x, T), each)
    near(both(lambda x, t: function(x, t, weight=P, reduction="sum"), x, T), (P * each).sum())
    near(both(lambda x, t: function(x, t, pos_weight=[1.0, 1.0]), x, T), each.mean())
    heavy = both(
        lambda x, t: function(x, t, pos_weight=np.array([3.0, 3.0], "f4"), reduction="none"), x, T
    )
    near(heavy, each * np.where(T == 1, 3, 1))


def test_kl_div():
    y = np.array([[0.5, 0.5, 0.0, 0.0]] * 6, "f4")
    each = np.where(y > 0, y * (np.log(np.maximum(y, 1e-9)) - X), 0)
    near(both(F.kl_div, X, y), each.mean())
    near(both(lambda x, y: F.kl_div(x, y, "batchmean"), X, y), each.sum() / 6)
    target = np.exp(LOG) * (LOG - X)
    near(
        both(lambda x, y: F.kl_div(x, y, "sum", log_target=True), X, LOG.astype("f4")), target.sum()
    )


def test_distances():
    d = X - X[::-1]
    near(both(F.mse_loss, X, X[::-1]), (d**2).mean())
    near(both(lambda x, y: F.l1_loss(x, y, "sum"), X, X[::-1]), abs(d).sum())
    near(both(F.square_error_cost, X, X[::-1]), d**2)
    huber = np.where(abs(d) < 0.5, d * d / 2, 0.5 * abs(d) - 0.125)
    near(both(lambda x, y: F.smooth_l1_loss(x, y, "none", 0.5), X, X[::-1]), huber)
    near(both(lambda x, y: F.smooth_l1_loss(x, y, "none", 0.5, False), X, X[::-1]), huber / 0.5)
    with pytest.raises(ArgumentError, match="delta must be positive"):
        F.smooth_l1_loss(fed("x", X), 0.0, delta=0)


def test_margin_ranking_loss():
    y = np.where(X > 0, 1, -1).astype("f4")
    each = np.maximum(0, -y * (X - X[::-1]) + 0.3)
    found = both(lambda x, z, y: F.margin_ranking_loss(x, z, y, 0.3, "none"), X, X[::-1], y)
    near(found, each)
    whole = both(lambda x: F.margin_ranking_loss(x, x[::-1], y.astype("i8")), X)
    near(whole, np.maximum(0, -y * (X - X[::-1])).mean())
    assert_gradient(lambda x, z: F.margin_ranking_loss(x, z, y, 0.3), X, X[::-1])


@pytest.mark.parametrize("bad", [-1, -4, 4])
def test_nll_loss_refuses_labels_that_are_no_classes(bad):
    y = np.array([0, bad, 1, 1, 2, 3])
    with pytest.raises(Exception, match=r"[Oo]ut of"):
        run(F.nll_loss, X, y)
    near(
        run(lambda x, y: F.nll_loss(x, y, ignore_index=bad), LOG.astype("f4"), y),
        np.delete(-LOG[np.arange(6), np.where(y == bad, 0, y)], 1).mean(),
    )


def test_nll_loss():
    near(run(F.nll_loss, LOG.astype("f4"), Y), PICKED.mean())
    found = run(lambda x, y: F.nll_loss(x, y, WEIGHT, reduction="sum"), LOG.astype("f4"), Y)
    near(found, (WEIGHT[Y] * PICKED).sum())


def test_label_smooth_with_a_prior():
    prior = np.array([[0.1, 0.2, 0.3, 0.4]], "f4")
    near(
        run(lambda y: F.label_smooth(y, prior, 0.5), np.eye(4, dtype="f4")), (np.eye(4) + prior) / 2
    )
