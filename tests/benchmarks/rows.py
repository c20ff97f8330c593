"""The rows of the benchmark: what is trained, on what data, and the work that one step is."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np

from tests.benchmarks import networks

Shape = tuple[int, ...]
Batch = tuple[np.ndarray, np.ndarray]  # inputs, labels
BATCHES = 20  # distinct batches; steps go round them
BATCH_NUM = 20
LEARNING_RATE = 1e-6  # weights stay where they are: nothing grows, nothing becomes denormal


@dataclass(frozen=True)
class Row:
    """A network, the shape of one batch of its input, and the kind of its labels.

    ``classes`` 0 is binary logistic regression with labels f32[n, 1]. With ``tokens`` the input is
    ids below it. A ``scan`` row runs that many steps in one call.
    """

    name: str
    about: str
    network: networks.Network
    input: Shape
    classes: int
    tokens: int = 0
    scan: int = 0

    @property
    def labels(self) -> Shape:
        """One label for each sample, or for each token."""
        return (self.input[0], 1) if not self.classes else self.input[: 2 if self.tokens else 1]


def _row(name: str, about: str, network: networks.Network, shape: Shape, classes: int = 10) -> Row:
    return Row(name, about, network, shape, classes)


def _text(name: str, about: str, blocks: int, shape: Shape) -> Row:
    return Row(name, about, networks.transformer(blocks), shape, classes=1000, tokens=1000)


_PERCEPTRON = networks.mlp(512, 512, 10)
_ALL = (
    _row("logistic", "logistic regression, 64 features, batch 32", networks.logistic, (32, 64), 0),
    Row(
        "logistic_scan",
        "logistic regression, 500 steps a call",
        networks.logistic,
        (32, 64),
        0,
        scan=500,
    ),
    _row("mlp_b8", "MLP 784-512-512-10, batch 8", _PERCEPTRON, (8, 784)),
    _row("mlp_b128", "MLP 784-512-512-10, batch 128", _PERCEPTRON, (128, 784)),
    _row("lenet_b64", "LeNet-5, batch 64", networks.lenet, (64, 1, 28, 28)),
    _row("resnet8_b32", "ResNet-8 on 32x32, batch 32", networks.resnet8, (32, 3, 32, 32)),
    _text("transformer", "transformer, 2 blocks, 512 tokens", 2, (8, 64)),
)
TIMED = {row.name: row for row in _ALL}
COMPILED = {
    row.name: row
    for row in (
        _row("resnet50", "ResNet-50 on 64x64, batch 2", networks.resnet50, (2, 3, 64, 64), 1000),
        _text("blocks12", "transformer, 12 blocks", 12, (2, 64)),
    )
}
SWEPT = _row("sweep", "MLP of a million parameters, batch 32", networks.mlp(960, 10), (32, 1024))
ROWS = TIMED | COMPILED | {SWEPT.name: SWEPT}


def batches(row: Row, count: int = BATCHES) -> list[Batch]:
    """The same batches for every framework."""
    draw = np.random.default_rng(7)
    found = []
    for _ in range(count):
        if row.tokens:
            x = draw.integers(0, row.tokens, row.input)
        else:
            x = draw.normal(size=row.input).astype("f4")
        y = draw.integers(0, row.classes or 2, row.labels)
        found.append((x, y if row.classes else y.astype("f4")))
    return found


def stacked(row: Row) -> Batch:
    """The batches of one call of a scan row        [steps, *input], [steps, *labels]."""
    own = batches(row)
    order = [own[k % len(own)] for k in range(row.scan)]
    return np.stack([x for x, _ in order]), np.stack([y for _, y in order])


def parameters(row: Row) -> list[np.ndarray]:
    """The first weights, the same for every framework, in the order the network asks for them."""
    draw = np.random.default_rng(1)
    return [_first(draw, kind, shape) for kind, shape in work(row).parameters]


def _first(draw: np.random.Generator, kind: str, shape: Shape) -> np.ndarray:
    if kind == "one":
        return np.ones(shape, "f4")
    if kind == "zero":
        return np.zeros(shape, "f4")
    fan_in = prod(shape[1:]) if len(shape) == 4 else shape[0]
    scale = 0.05 if kind == "table" else (1 / fan_in) ** 0.5
    return draw.normal(scale=scale, size=shape).astype("f4")


@dataclass(frozen=True)
class Work:
    """What one training step of a row needs at the least.

    ``flops``: of the matrix products and convolutions, forward and backward; two per multiply and
    add. Backward is twice forward, less the gradient of the network's own input.
    ``state_bytes``: w, d, y[i] and g of every parameter read and written once, as ASGD defines it.
    ``activation_bytes``: the result of every layer written once and read once.
    Not counted: elementwise arithmetic, softmax, and anything a framework keeps for itself.
    """

    parameters: tuple[tuple[str, Shape], ...]
    flops: float
    activation_bytes: float

    @property
    def state_bytes(self) -> float:
        """Eight times the parameters, f32."""
        return 8 * 4 * sum(prod(shape) for _, shape in self.parameters)


def work(row: Row) -> Work:
    """Count over shapes alone."""
    net = _Shapes(row.input)
    row.network(net, row.input)
    return Work(tuple(net.parameters), net.flops, net.activation_bytes)


class _Shapes:
    """Layers over shapes: lists the parameters and counts the work."""

    def __init__(self, first: Shape) -> None:
        self.first = first
        self.parameters: list[tuple[str, Shape]] = []
        self.flops = 0.0
        self.activation_bytes = 0.0

    def _made(self, shape: Iterable[int]) -> Shape:
        found = tuple(shape)
        self.activation_bytes += 2 * 4 * prod(found)
        return found

    def _product(self, x: Shape, multiplications: int, of_weights: bool = True) -> None:
        passes = 2 if of_weights and x is self.first else 3
        self.flops += 2 * passes * multiplications

    def linear(self, x: Shape, width: int) -> Shape:
        self.parameters += [("weight", (x[-1], width)), ("zero", (width,))]
        self._product(x, prod(x) * width)
        return self._made((*x[:-1], width))

    def conv(
        self, x: Shape, channels: int, size: int, stride: int = 1, pad: int = 0, bias: bool = True
    ) -> Shape:
        self.parameters.append(("weight", (channels, x[1], size, size)))
        self.parameters += [("zero", (channels,))] * bias
        y = self._made((x[0], channels, *windows(x, size, stride, pad)))
        self._product(x, prod(y) * x[1] * size * size)
        return y

    def relu(self, x: Shape) -> Shape:
        return self._made(x)

    def gelu(self, x: Shape) -> Shape:
        return self._made(x)

    def add(self, x: Shape, y: Shape) -> Shape:
        return self._made(x)

    def max_pool(self, x: Shape, size: int, stride: int = 0, pad: int = 0) -> Shape:
        return self._made((*x[:2], *windows(x, size, stride or size, pad)))

    def mean_pool(self, x: Shape) -> Shape:
        return self._made(x[:2])

    def flatten(self, x: Shape) -> Shape:
        return (x[0], prod(x[1:]))

    def batch_norm(self, x: Shape) -> Shape:
        self.parameters += [("one", (x[1],)), ("zero", (x[1],))]
        return self._made(x)

    def layer_norm(self, x: Shape) -> Shape:
        self.parameters += [("one", x[-1:]), ("zero", x[-1:])]
        return self._made(x)

    def embedding(self, tokens: Shape, rows: int, width: int) -> Shape:
        self.parameters.append(("table", (rows, width)))
        return self._made((*tokens, width))

    def positions(self, x: Shape) -> Shape:
        self.parameters.append(("table", x[1:]))
        return self._made(x)

    def attention(self, qkv: Shape, heads: int) -> Shape:
        n, t, width = qkv[0], qkv[1], qkv[2] // 3
        self._product(qkv, 2 * n * t * t * width, of_weights=False)
        self._made((n, heads, t, t))
        return self._made((n, t, width))


def windows(x: Shape, size: int, stride: int, pad: int) -> Shape:
    """The number of windows along each of the last dims."""
    return tuple((dim + 2 * pad - size) // stride + 1 for dim in x[2:])
