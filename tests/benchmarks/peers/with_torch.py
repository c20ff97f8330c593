"""PyTorch, eager: plain functions, and an update by the foreach kernels that the optimizers use."""

from itertools import cycle

import numpy as np
import torch
from torch.nn import functional as F

from tests.benchmarks import rows
from tests.benchmarks.peers import NotOffered

THREADS = 2


class TorchLayers:
    """Layers over the given parameters. Weights of ``linear`` are used as they are, [in, out]."""

    def __init__(self, parameters):
        self.parameters = iter(parameters)

    def linear(self, x, width):
        weight = next(self.parameters)
        return F.linear(x, weight.t(), next(self.parameters))

    def conv(self, x, channels, size, stride=1, pad=0, bias=True):
        weight = next(self.parameters)
        return F.conv2d(x, weight, next(self.parameters) if bias else None, stride, pad)

    def relu(self, x):
        return torch.relu(x)

    def gelu(self, x):
        return F.gelu(x)

    def add(self, x, y):
        return x + y

    def max_pool(self, x, size, stride=0, pad=0):
        return F.max_pool2d(x, size, stride or size, pad)

    def mean_pool(self, x):
        return x.mean((2, 3))

    def flatten(self, x):
        return x.flatten(1)

    def batch_norm(self, x):
        scale = next(self.parameters)
        return F.batch_norm(x, None, None, scale, next(self.parameters), training=True)

    def layer_norm(self, x):
        scale = next(self.parameters)
        return F.layer_norm(x, x.shape[-1:], scale, next(self.parameters))

    def embedding(self, tokens, rows, width):
        return F.embedding(tokens, next(self.parameters))

    def positions(self, x):
        return x + next(self.parameters)

    def attention(self, qkv, heads):
        n, t, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        q, k, v = qkv.view(n, t, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, width)


def loss_of(row, parameters, x, y):
    """The mean loss of one batch."""
    out = row.network(TorchLayers(parameters), x)
    if not row.classes:
        return F.binary_cross_entropy_with_logits(out, y)
    return F.cross_entropy(out.flatten(0, -2), y.flatten())


def gradients(row, parameters, x, y):
    """The loss and the gradient of each parameter."""
    loss = loss_of(row, parameters, x, y)
    return loss.detach(), torch.autograd.grad(loss, parameters)


def _placed(x):
    """Images channels last in memory, which is faster here; the layers keep to it."""
    placed = torch.from_numpy(x)
    return placed.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else placed


class Trainer:
    """Keeps ASGD's table as references to the gradients themselves: storing a row costs nothing."""

    def __init__(self, row, rate, batch_num, gradients=gradients):
        torch.set_num_threads(THREADS)
        self.row, self.rate, self.gradients = row, rate, gradients
        self.w = [torch.tensor(value, requires_grad=True) for value in rows.parameters(row)]
        self.d = [torch.zeros_like(w) for w in self.w]
        self.y = [[torch.zeros_like(w) for w in self.w] for _ in range(batch_num)]
        self.steps = 0
        pairs = ((_placed(x), torch.from_numpy(y)) for x, y in rows.batches(row))
        self.batches = cycle(list(pairs))

    def step(self):
        x, y = next(self.batches)
        loss, grads = self.gradients(self.row, self.w, x, y)
        self.update(grads)
        return loss

    @torch.no_grad()
    def update(self, grads):
        slot = self.steps % len(self.y)
        self.steps += 1
        torch._foreach_sub_(self.d, self.y[slot])
        torch._foreach_add_(self.d, grads)
        self.y[slot] = grads
        torch._foreach_add_(self.w, self.d, alpha=-self.rate / min(self.steps, len(self.y)))

    def wait(self, loss):
        return np.asarray(loss.item())


def build(row, rate, batch_num):
    """A row ready to step."""
    if row.scan:
        raise NotOffered("eager steps are one call each")
    return Trainer(row, rate, batch_num)
