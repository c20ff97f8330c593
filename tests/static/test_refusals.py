# mypy: disable-error-code="arg-type, list-item"
"""Arguments that are wrong: a clear error, and both Programs as they were."""

import pytest

import graphopt as go
from graphopt.errors import GraphoptError

F = go.nn.functional
NN = go.static.nn
OPTIMIZERS = go.optimizer


# call: (what is called, the error's class, a piece of its message)
CASES = {
    "split by a letter": (lambda v: go.split(v.x, "a"), TypeError, "num_or_sections"),
    "split by parts of a piece": (lambda v: go.split(v.x, [1, 0.5]), TypeError, "num_or_sections"),
    "no elements": (lambda v: go.topk(v.x, 0), ValueError, "topk: k"),
    "more elements than there are": (lambda v: go.topk(v.x, 7), ValueError, "topk: k"),
    "half an element": (lambda v: go.topk(v.x, 0.5), TypeError, "an int is needed"),
    "a probability that is a letter": (lambda v: F.dropout(v.x, "p"), TypeError, "dropout: p"),
    "a target for gradients that is a number": (
        lambda v: go.static.gradients(v.loss, 5), TypeError, "inputs must be a Variable",
    ),
    "parameters that are numbers": (
        lambda v: OPTIMIZERS.SGD(0.1).minimize(v.loss, parameters=[5]), TypeError, "not a int",
    ),
    "nothing to leave alone": (
        lambda v: OPTIMIZERS.SGD(0.1).minimize(v.loss, no_grad_set={5}), TypeError, "not a int",
    ),
    "a beta that is a letter": (lambda v: OPTIMIZERS.Adam(beta1="a"), TypeError, "beta1"),
    "a rho that is a letter": (lambda v: OPTIMIZERS.RMSProp(0.1, rho="a"), TypeError, "rho"),
    "an epsilon that is a list": (lambda v: OPTIMIZERS.Adagrad(0.1, [1]), TypeError, "epsilon"),
    "a stride of nothing": (lambda v: F.conv2d(v.image, v.filter, stride=0), ValueError, "stride"),
    "a dilation of nothing": (
        lambda v: F.conv2d(v.image, v.filter, dilation=[1, 0]), ValueError, "dilation",
    ),
    "a window of nothing": (lambda v: F.max_pool2d(v.image, 0), ValueError, "kernel_size"),
    "a window larger than the image": (lambda v: F.max_pool2d(v.image, 9), ValueError, "9 x 9"),
    "a window that spreads beyond the image": (
        lambda v: F.conv2d(v.image, v.filter, dilation=[4, 1]), ValueError, "9 x 3",
    ),
    "a filter of nothing": (lambda v: NN.conv2d(v.image, 4, 0), ValueError, "filter_size"),
    "a filter larger than the image": (lambda v: NN.conv2d(v.image, 4, 99), ValueError, "99 x 99"),
    "a transposed filter of nothing": (
        lambda v: NN.conv2d_transpose(v.image, 4, filter_size=0), ValueError, "filter_size",
    ),
    "ids that are no integers": (lambda v: NN.embedding(v.x, [4, 4]), TypeError, "ids"),
    "a momentum that is a letter": (
        lambda v: NN.batch_norm(v.image, momentum="x"), TypeError, "batch_norm: momentum",
    ),
    "an epsilon that is a letter": (
        lambda v: NN.batch_norm(v.image, epsilon="x"), TypeError, "batch_norm: epsilon",
    ),
    "a slope that is a letter": (lambda v: F.leaky_relu(v.x, "a"), TypeError, "negative_slope"),
    "an alpha that is a letter": (lambda v: F.elu(v.x, "a"), TypeError, "elu: alpha"),
    "groups that are a letter": (lambda v: F.group_norm(v.image, "a"), TypeError, "num_groups"),
    "a width that is a letter": (lambda v: F.layer_norm(v.x, 6, epsilon="a"), TypeError, "epsilon"),
    "a delta that is a letter": (
        lambda v: F.smooth_l1_loss(v.x, v.x, delta="a"), TypeError, "delta",
    ),
    "a size that is a letter": (
        lambda v: F.interpolate(v.image, size=["a", 2]), TypeError, "interpolate: a size",
    ),
    "a scale that is a letter": (
        lambda v: F.interpolate(v.image, scale_factor="a"), TypeError, "scale_factor",
    ),
    "a padding of half a pixel": (
        lambda v: F.conv2d(v.image, v.filter, padding=0.5), ValueError, "padding",
    ),
    "an input that is a number": (lambda v: NN.fc(5, 4), TypeError, "fc: x must be a Variable"),
    "dims to keep that are a letter": (
        lambda v: NN.fc(v.x, 4, num_flatten_dims="a"), TypeError, "num_flatten_dims",
    ),
    "filters that are a letter": (lambda v: NN.conv2d(v.image, "a", 3), TypeError, "channels"),
    "a value that is a letter": (lambda v: go.full([2], "a"), TypeError, "as a number"),
    "half a number": (lambda v: go.linspace(0, 1, 2.5), TypeError, "linspace: num"),
    "half a shift": (lambda v: go.roll(v.x, 0.5), TypeError, "roll: a shift"),
    "a bound that is a letter": (lambda v: go.uniform([2], min="a"), TypeError, "uniform: min"),
    "half a bound": (lambda v: go.randint(0.5, 3), TypeError, "randint: low"),
    "a norm that is a letter": (
        lambda v: go.nn.ClipGradByGlobalNorm("a"), TypeError, "clip_norm",
    ),
    "a bound for gradients that is a letter": (
        lambda v: go.nn.ClipGradByValue(1.0, "a"), TypeError, "min",
    ),
    "a coefficient that is a letter": (lambda v: go.regularizer.L2Decay("a"), TypeError, "coeff"),
    "a mean that is a letter": (lambda v: go.nn.initializer.Normal("a"), TypeError, "mean"),
    "a start that is a letter": (lambda v: go.nn.initializer.Constant("a"), TypeError, "number"),
    "a list that is a number": (
        lambda v: go.static.append_backward(v.loss, parameter_list=5), TypeError, "an entry",
    ),
    "groups that do not fit": (lambda v: NN.group_norm(v.image, 2), ValueError, "group"),
    "channels of a vector": (lambda v: NN.batch_norm(v.vector), ValueError, "has no dim 1"),
    "samples of a vector": (lambda v: NN.instance_norm(v.vector), ValueError, "has no dim 1"),
    "a filter over a vector": (lambda v: NN.conv2d(v.vector, 4, 3), ValueError, "has no dim 1"),
    "an axis beyond the last": (
        lambda v: NN.layer_norm(v.x, begin_norm_axis=2), ValueError, "has no dim 2",
    ),
    "an unknown mode": (lambda v: NN.prelu(v.image, "most"), ValueError, "most"),
}  # fmt: skip


class Recorded:
    """Fed variables, a filter and a loss."""

    def __init__(self):
        self.x = go.static.data("x", [4, 6])
        self.vector = go.static.data("vector", [6])
        self.image = go.static.data("image", [2, 3, 8, 8])
        self.filter = go.static.data("filter", [4, 3, 3, 3])
        self.loss = go.mean(NN.fc(self.x, 2))


@pytest.mark.parametrize("name", CASES)
def test_refused(name):
    call, kind, piece = CASES[name]
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        values = Recorded()
        before = main.text(), startup.text()
        with pytest.raises(GraphoptError, match=piece) as caught:
            call(values)
        assert isinstance(caught.value, kind)
        assert (main.text(), startup.text()) == before
        NN.fc(values.x, 3)  # names are given as if nothing had been tried
    assert [p.name for p in main.all_parameters()][2:] == ["fc_1.w_0", "fc_1.b_0"]


def test_a_window_may_be_as_large_as_the_padded_image():
    with go.static.program_guard(go.static.Program(), go.static.Program()):
        image = go.static.data("image", [2, 3, 8, None])
        assert F.max_pool2d(image, [10, 99], padding=1).shape[2] == 1
        assert F.conv2d_transpose(image, go.static.data("w", [3, 4, 20, 20])).shape[2] == 27
