"""Paddle in its dynamic mode, with its own ASGD.

``jit.to_static`` makes these rows slower, and in static mode the ASGD of Paddle 3.3 forgets its
count and table between runs: its losses are those of SGD.
"""

import warnings
from itertools import cycle

import numpy as np
import paddle
from paddle.nn import functional as F

from tests.benchmarks import rows
from tests.benchmarks.peers import NotOffered

warnings.filterwarnings("ignore")


class PaddleLayers:
    """Layers over the given parameters."""

    def __init__(self, parameters):
        self.parameters = iter(parameters)

    def linear(self, x, width):
        weight = next(self.parameters)
        return F.linear(x, weight, next(self.parameters))

    def conv(self, x, channels, size, stride=1, pad=0, bias=True):
        weight = next(self.parameters)
        return F.conv2d(x, weight, next(self.parameters) if bias else None, stride, pad)

    def relu(self, x):
        return F.relu(x)

    def gelu(self, x):
        return F.gelu(x)

    def add(self, x, y):
        return x + y

    def max_pool(self, x, size, stride=0, pad=0):
        return F.max_pool2d(x, size, stride or size, pad)

    def mean_pool(self, x):
        return x.mean([2, 3])

    def flatten(self, x):
        return x.flatten(1)

    def batch_norm(self, x):
        mean, variance = paddle.zeros([x.shape[1]]), paddle.ones([x.shape[1]])
        scale = next(self.parameters)
        return F.batch_norm(x, mean, variance, scale, next(self.parameters), training=True)

    def layer_norm(self, x):
        scale = next(self.parameters)
        return F.layer_norm(x, x.shape[-1:], scale, next(self.parameters))

    def embedding(self, tokens, rows, width):
        return F.embedding(tokens, next(self.parameters))

    def positions(self, x):
        return x + next(self.parameters)

    def attention(self, qkv, heads):
        n, t, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        q, k, v = qkv.reshape([n, t, 3, heads, width // heads]).unbind(2)
        return F.scaled_dot_product_attention(q, k, v).reshape([n, t, width])


class Loss(paddle.nn.Layer):  # type: ignore[misc]
    """The mean loss of one batch, holding the parameters of a row."""

    def __init__(self, row):
        super().__init__()
        self.row = row
        for k, value in enumerate(rows.parameters(row)):
            start = paddle.nn.initializer.Assign(value)
            self.add_parameter(
                f"p{k}", self.create_parameter(value.shape, default_initializer=start)
            )

    def forward(self, x, y):
        out = self.row.network(PaddleLayers(self.parameters()), x)
        if not self.row.classes:
            return F.binary_cross_entropy_with_logits(out, y)
        return F.cross_entropy(out, y)


class Trainer:
    """Forward and backward, Paddle's optimizer, gradients cleared."""

    def __init__(self, row, rate, batch_num):
        loss = Loss(row)
        self.optimizer = paddle.optimizer.ASGD(rate, batch_num, parameters=loss.parameters())
        self.loss = loss
        pairs = ((paddle.to_tensor(x), paddle.to_tensor(y)) for x, y in rows.batches(row))
        self.batches = cycle(list(pairs))

    def step(self):
        loss = self.loss(*next(self.batches))
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad(set_to_zero=False)
        return loss

    def wait(self, loss):
        return np.asarray(loss.item())


def build(row, rate, batch_num):
    """A row ready to step."""
    if row.scan:
        raise NotOffered("dynamic steps are one call each")
    return Trainer(row, rate, batch_num)
