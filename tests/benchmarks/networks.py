"""The networks of the benchmarks, each written once over the layers a framework supplies.

A framework implements ``Layers`` in the way that is fastest for it. It is told nothing about a
network but the calls made here; parameters are asked for in the order of these calls.
"""

from collections.abc import Callable
from typing import Any, Protocol

Tensor = Any  # of the framework at hand


class Layers(Protocol):
    """What a framework does with tensors of its own.

    Images are asked for as [n, c, h, w]; a framework may hold them in another order. Weights of
    ``linear`` are [in, out], those of ``conv`` [out, in, h, w].
    """

    def linear(self, x: Tensor, width: int) -> Tensor:
        """X w + b over the last dim."""

    def conv(
        self, x: Tensor, channels: int, size: int, stride: int = 1, pad: int = 0, bias: bool = True
    ) -> Tensor:
        """Cross-correlation with square windows."""

    def relu(self, x: Tensor) -> Tensor:
        """max(x, 0)."""

    def gelu(self, x: Tensor) -> Tensor:
        """X Φ(x), Φ by erf."""

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """X + y."""

    def max_pool(self, x: Tensor, size: int, stride: int = 0, pad: int = 0) -> Tensor:
        """Maxima over square windows; stride 0 is the size."""

    def mean_pool(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, c]."""

    def flatten(self, x: Tensor) -> Tensor:
        """[n, c, h, w] to [n, c h w]."""

    def batch_norm(self, x: Tensor) -> Tensor:
        """By the statistics of the batch, scaled and shifted; epsilon 1e-5."""

    def layer_norm(self, x: Tensor) -> Tensor:
        """Over the last dim, scaled and shifted; epsilon 1e-5."""

    def embedding(self, tokens: Tensor, rows: int, width: int) -> Tensor:
        """Rows of a table: int[n, t] to [n, t, width]."""

    def positions(self, x: Tensor) -> Tensor:
        """X + a table        x: [n, t, width]   table: [t, width]."""

    def attention(self, qkv: Tensor, heads: int) -> Tensor:
        """softmax(q kᵀ / √d) v of every head        qkv: [n, t, 3 width]   out: [n, t, width]."""


Network = Callable[[Layers, Tensor], Tensor]


def logistic(net: Layers, x: Tensor) -> Tensor:
    """One logit of each sample."""
    return net.linear(x, 1)


def mlp(*widths: int) -> Network:
    """Linear layers with relu between."""

    def forward(net: Layers, x: Tensor) -> Tensor:
        for width in widths[:-1]:
            x = net.relu(net.linear(x, width))
        return net.linear(x, widths[-1])

    return forward


def lenet(net: Layers, x: Tensor) -> Tensor:
    """LeNet-5 with relu and maximum pooling        x: [n, 1, 28, 28]."""
    x = net.max_pool(net.relu(net.conv(x, 6, 5, pad=2)), 2)
    x = net.max_pool(net.relu(net.conv(x, 16, 5)), 2)
    return mlp(120, 84, 10)(net, net.flatten(x))


def _normed(net: Layers, x: Tensor, channels: int, size: int, stride: int = 1) -> Tensor:
    return net.batch_norm(net.conv(x, channels, size, stride, pad=size // 2, bias=False))


def _shortcut(net: Layers, x: Tensor, channels: int, stride: int, project: bool) -> Tensor:
    return _normed(net, x, channels, 1, stride) if project else x


def resnet8(net: Layers, x: Tensor) -> Tensor:
    """Three basic blocks        x: [n, 3, 32, 32]."""
    x = net.relu(_normed(net, x, 16, 3))
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        y = net.relu(_normed(net, x, channels, 3, stride))
        y = _normed(net, y, channels, 3)
        x = net.relu(net.add(y, _shortcut(net, x, channels, stride, stride > 1)))
    return net.linear(net.mean_pool(x), 10)


def resnet50(net: Layers, x: Tensor) -> Tensor:
    """Sixteen bottleneck blocks        x: [n, 3, h, w]."""
    x = net.max_pool(net.relu(_normed(net, x, 64, 7, 2)), 3, 2, 1)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            channels, stride = 64 << stage, 2 if stage and not block else 1
            y = net.relu(_normed(net, x, channels, 1))
            y = net.relu(_normed(net, y, channels, 3, stride))
            y = _normed(net, y, 4 * channels, 1)
            x = net.relu(net.add(y, _shortcut(net, x, 4 * channels, stride, not block)))
    return net.linear(net.mean_pool(x), 1000)


def transformer(blocks: int, width: int = 256, heads: int = 4, vocabulary: int = 1000) -> Network:
    """Blocks with the norm first, full attention        x: int[n, t]   out: [n, t, vocabulary]."""

    def forward(net: Layers, x: Tensor) -> Tensor:
        x = net.positions(net.embedding(x, vocabulary, width))
        for _ in range(blocks):
            mixed = net.attention(net.linear(net.layer_norm(x), 3 * width), heads)
            x = net.add(x, net.linear(mixed, width))
            hidden = net.gelu(net.linear(net.layer_norm(x), 4 * width))
            x = net.add(x, net.linear(hidden, width))
        return net.linear(net.layer_norm(x), vocabulary)

    return forward
