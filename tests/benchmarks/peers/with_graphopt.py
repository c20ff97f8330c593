"""graphopt, by its public names alone."""

from itertools import cycle
from typing import Any

import numpy as np

import graphopt as go
from tests.benchmarks import rows
from tests.benchmarks.peers import NotOffered

F = go.nn.functional


class GraphLayers:
    """Layers that record into the default Program; ``values`` are the first weights."""

    def __init__(self, values):
        self.values = iter(values)

    def parameter(self):
        value = next(self.values)
        start = go.nn.initializer.Assign(value)
        return go.create_parameter(value.shape, "float32", default_initializer=start)

    def linear(self, x, width):
        return F.linear(x, self.parameter(), self.parameter())

    def conv(self, x, channels, size, stride=1, pad=0, bias=True):
        weight = self.parameter()
        return F.conv2d(x, weight, self.parameter() if bias else None, stride, pad)

    def relu(self, x):
        return F.relu(x)

    def gelu(self, x):
        return F.gelu(x)

    def add(self, x, y):
        return x + y

    def max_pool(self, x, size, stride=0, pad=0):
        return F.max_pool2d(x, size, stride or size, pad)

    def mean_pool(self, x):
        return go.mean(x, axis=[2, 3])

    def flatten(self, x):
        return go.flatten(x, 1)

    def batch_norm(self, x):
        shape, scale, shift = [x.shape[1]], self.parameter(), self.parameter()
        mean = go.static.create_global_var(shape, 0.0, "float32", persistable=True)
        variance = go.static.create_global_var(shape, 1.0, "float32", persistable=True)
        return F.batch_norm(x, mean, variance, scale, shift, training=True)

    def layer_norm(self, x):
        return F.layer_norm(x, x.shape[-1], self.parameter(), self.parameter())

    def embedding(self, tokens, rows, width):
        return F.embedding(tokens, self.parameter())

    def positions(self, x):
        return x + self.parameter()

    def attention(self, qkv, heads):
        n, t, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        split = go.reshape(qkv, [n, t, 3, heads, width // heads])
        q, k, v = (split[:, :, part] for part in range(3))
        return go.reshape(F.scaled_dot_product_attention(q, k, v), [n, t, width])


def record(row, rate, batch_num):
    """The training Program of a row, its startup Program and its loss."""
    main, startup = go.static.Program(), go.static.Program()
    with go.static.program_guard(main, startup):
        x = go.static.data("x", row.input, "int64" if row.tokens else "float32")
        y = go.static.data("y", row.labels, "int64" if row.classes else "float32")
        out = row.network(GraphLayers(rows.parameters(row)), x)
        lost = F.cross_entropy if row.classes else F.binary_cross_entropy_with_logits
        loss = lost(out, y)
        go.optimizer.ASGD(rate, batch_num=batch_num).minimize(loss)
    return main, startup, loss


class Trainer:
    """Feeds the batches round, through a prepared call where the executor offers one."""

    def __init__(self, row, rate, batch_num):
        main, startup, loss = record(row, rate, batch_num)
        exe = go.static.Executor()
        exe.run(startup)
        feeds = [{"x": x, "y": y} for x, y in rows.batches(row)]
        self.feeds = cycle(feeds)
        self.call = _prepared(exe, main, feeds[0], loss)

    def step(self):
        return self.call(next(self.feeds))[0]

    def wait(self, loss):
        return np.asarray(loss)


def _prepared(exe, main, feed, loss):
    if hasattr(exe, "prepare"):
        return exe.prepare(main, feed=feed, fetch_list=[loss])
    return lambda feed: exe.run(main, feed=feed, fetch_list=[loss])


class ScanTrainer:
    """All steps of an epoch in one call."""

    def __init__(self, row, rate, batch_num):
        self.exe: Any = go.static.Executor()
        if not hasattr(self.exe, "run_steps"):
            raise NotOffered("Executor.run_steps is not there yet")
        self.main, startup, self.loss = record(row, rate, batch_num)
        self.exe.run(startup)
        x, y = rows.stacked(row)
        self.feed = {"x": x, "y": y}

    def step(self):
        return self.exe.run_steps(self.main, self.feed, [self.loss])[0]

    def wait(self, loss):
        return np.asarray(loss)


def build(row, rate, batch_num):
    """A row ready to step."""
    return (ScanTrainer if row.scan else Trainer)(row, rate, batch_num)
