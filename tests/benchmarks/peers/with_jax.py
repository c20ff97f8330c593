"""JAX: one jitted step whose state is donated; images are held channels last, as XLA wants them."""

from functools import partial
from itertools import cycle

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.benchmarks import rows


class JaxLayers:
    """Layers over the given parameters."""

    def __init__(self, parameters):
        self.parameters = iter(parameters)

    def linear(self, x, width):
        return x @ next(self.parameters) + next(self.parameters)

    def conv(self, x, channels, size, stride=1, pad=0, bias=True):
        y = lax.conv_general_dilated(
            x,
            next(self.parameters),
            (stride, stride),
            [(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y + next(self.parameters) if bias else y

    def relu(self, x):
        return jax.nn.relu(x)

    def gelu(self, x):
        return jax.nn.gelu(x, approximate=False)

    def add(self, x, y):
        return x + y

    def max_pool(self, x, size, stride=0, pad=0):
        window, steps = (1, size, size, 1), (1, stride or size, stride or size, 1)
        padding = [(0, 0), (pad, pad), (pad, pad), (0, 0)]
        return lax.reduce_window(x, -jnp.inf, lax.max, window, steps, padding)

    def mean_pool(self, x):
        return x.mean((1, 2))

    def flatten(self, x):
        return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)

    def batch_norm(self, x):
        return self._standard(x, (0, 1, 2))

    def layer_norm(self, x):
        return self._standard(x, (-1,))

    def _standard(self, x, axes):
        mean = x.mean(axes, keepdims=True)
        variance = jnp.square(x - mean).mean(axes, keepdims=True)
        scale, shift = next(self.parameters), next(self.parameters)
        return (x - mean) * (lax.rsqrt(variance + 1e-5) * scale) + shift

    def embedding(self, tokens, rows, width):
        return next(self.parameters)[tokens]

    def positions(self, x):
        return x + next(self.parameters)

    def attention(self, qkv, heads):
        n, t, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        q, k, v = jnp.moveaxis(qkv.reshape(n, t, 3, heads, width // heads), 2, 0)
        return jax.nn.dot_product_attention(q, k, v).reshape(n, t, width)


def loss_of(row, parameters, x, y):
    """The mean loss of one batch."""
    out = row.network(JaxLayers(parameters), x)
    if not row.classes:
        return (jax.nn.softplus(out) - out * y).mean()
    picked = jnp.take_along_axis(out, y[..., None], axis=-1)[..., 0]
    return (jax.nn.logsumexp(out, axis=-1) - picked).mean()


def updated(row, w, d, old, pace, batch):
    """w and d after one step, the gradients, the loss; ``old`` are the gradients they replace."""
    loss, g = jax.value_and_grad(partial(loss_of, row))(w, *batch)
    d = [a - b + c for a, b, c in zip(d, old, g, strict=True)]
    return [a - pace * b for a, b in zip(w, d, strict=True)], d, g, loss


def first_state(row):
    """w and a d of zeros."""
    values = (v.transpose(2, 3, 1, 0) if v.ndim == 4 else v for v in rows.parameters(row))
    w = [jnp.array(value) for value in values]
    return w, [jnp.zeros_like(value) for value in w]


class Trainer:
    """Does not wait for a step before it starts the next: JAX queues them.

    ASGD's table is a list of the gradients themselves. As one array it would be copied every step.
    """

    def __init__(self, row, rate, batch_num):
        self.call = jax.jit(partial(updated, row), donate_argnums=(0, 1, 2))
        self.steps = 0
        self.paces = [jax.device_put(np.float32(rate / (k + 1))) for k in range(batch_num)]
        self.w, self.d = first_state(row)
        self.y = [[jnp.zeros_like(w) for w in self.w] for _ in range(batch_num)]
        self.batches = cycle([_placed(*pair) for pair in rows.batches(row)])

    def step(self):
        slot = self.steps % len(self.y)
        pace = self.paces[min(self.steps, len(self.y) - 1)]
        self.steps += 1
        state = (self.w, self.d, self.y[slot], pace, next(self.batches))
        self.w, self.d, self.y[slot], loss = self.call(*state)
        return loss

    def wait(self, loss):
        jax.block_until_ready((self.w, self.d, loss))
        return np.asarray(loss)


def scanned(row, rate, state, batch):
    """The state after one step, its table one array, and the loss: what lax.scan takes."""
    w, d, y, m = state
    size = y[0].shape[0]
    slot = m % size
    old = [lax.dynamic_index_in_dim(table, slot, keepdims=False) for table in y]
    pace = rate / jnp.minimum(m + 1, size)
    w, d, g, loss = updated(row, w, d, old, pace, batch)
    y = [lax.dynamic_update_index_in_dim(a, b, slot, 0) for a, b in zip(y, g, strict=True)]
    return (w, d, y, m + 1), loss


class ScanTrainer:
    """All steps of an epoch in one call."""

    def __init__(self, row, rate, batch_num):
        self.call = jax.jit(partial(lax.scan, partial(scanned, row, rate)), donate_argnums=0)
        w, d = first_state(row)
        tables = [jnp.zeros((batch_num, *value.shape), "f4") for value in w]
        self.state = (w, d, tables, jnp.zeros((), "i4"))
        self.batches = _placed(*rows.stacked(row))

    def step(self):
        self.state, losses = self.call(self.state, self.batches)
        return losses

    def wait(self, loss):
        jax.block_until_ready((self.state, loss))
        return np.asarray(loss)


def _placed(x, y):
    return jax.device_put(_last(x)), jax.device_put(y)


def _last(x):
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x


def build(row, rate, batch_num):
    """A row ready to step."""
    return (ScanTrainer if row.scan else Trainer)(row, rate, batch_num)
