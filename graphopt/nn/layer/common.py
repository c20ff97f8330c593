"""Linear maps, tables, dropout, and layers that hold layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from graphopt.initializer import XavierUniform
from graphopt.ir.tape import Tape
from graphopt.ir.variable import Parameter, Variable
from graphopt.nn import functional
from graphopt.nn.functional.input import padding_row
from graphopt.nn.layer.layers import FunctionLayer, Layer, LayerAttr, required
from graphopt.scoping import default_startup_program
from graphopt.tensor.manipulation import flatten
from graphopt.tensor.operands import Axes, TensorLike


class Dropout(Layer):
    """Zero each element with probability p in training        x: [*n].

    >>> drop = Dropout(0.1)
    >>> drop.eval()
    >>> drop(x)
    <Variable x : f32[N, 4]>
    """

    def __init__(
        self,
        p: float = 0.5,
        axis: Axes = None,
        mode: str = "upscale_in_train",
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.p, self.axis, self.mode, self.name = p, axis, mode, name

    def forward(self, x: TensorLike) -> Variable:
        """x with elements dropped."""
        return functional.dropout(x, self.p, self.axis, self.training, self.mode, self.name)

    def extra_repr(self) -> str:
        """p, axis, mode."""
        return f"p={self.p}, axis={self.axis}, mode={self.mode}"


class Embedding(Layer):
    """Rows of a table        x: int[*n]   weight: [num_embeddings, embedding_dim].

    The row padding_idx is zero, and stays it.

    >>> Embedding(10, 3)(label)
    <Variable gather_0 : f32[N, 3]>
    """

    PREFIX = "embedding"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        sparse: bool = False,
        weight_attr: LayerAttr = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.shape = [num_embeddings, embedding_dim]
        row = None if padding_idx is None else padding_row(padding_idx, num_embeddings)
        self.padding_idx, self.sparse = row, sparse
        made = self.create_parameter(self.shape, weight_attr, default_initializer=XavierUniform())
        self.weight = required(made, "Embedding: weight_attr")
        if row is not None:
            zero_row(self.weight, row)

    def forward(self, x: TensorLike) -> Variable:
        """The rows of x."""
        return functional.embedding(x, self.weight, self.padding_idx, self.sparse)

    def extra_repr(self) -> str:
        """The shape of the table, padding_idx."""
        pad = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.shape[0]}, {self.shape[1]}{pad}"


def zero_row(weight: Parameter, row: int) -> None:
    """Make one row of a table zero in the startup Program."""
    block = default_startup_program().global_block()
    twin = block.var(weight.name)
    zeros = np.zeros((1, weight.shape[1]), weight.dtype)
    Tape(block).emit("ScatterND", twin, np.array([[row]]), zeros, into=[twin])


class Flatten(FunctionLayer):
    """The dims from start_axis to stop_axis made one        x: [*n]."""

    def __init__(self, start_axis: int = 1, stop_axis: int = -1) -> None:
        super().__init__(flatten, start_axis=start_axis, stop_axis=stop_axis)


class Identity(Layer):
    """x as it is; the arguments are ignored        x: [*n]."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def forward(self, x: Variable) -> Variable:
        """x."""
        return x


class LayerList(Layer):
    """Layers in a list; it is not called itself.

    >>> layers = LayerList([Linear(4, 3), Linear(3, 2)])
    >>> len(layers), [p.name for p in layers.parameters()][::2]
    (2, ['linear_0.w_0', 'linear_1.w_0'])
    """

    def __init__(self, sublayers: Iterable[Layer] | None = None) -> None:
        super().__init__()
        self.items = list(sublayers or ())

    def append(self, sublayer: Layer) -> LayerList:
        """Add a layer at the end."""
        self.items.append(sublayer)
        return self

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """The layers, by their place."""
        return ((str(k), layer) for k, layer in enumerate(self.items))

    def __getitem__(self, index: int) -> Layer:
        return self.items[index]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Linear(Layer):
    """X weight + bias        x: [*n, in_features]   weight: [in, out]   bias: [out].

    >>> linear = Linear(4, 2)
    >>> linear.parameters()
    [<Parameter linear_0.w_0 : f32[4, 2]>, <Parameter linear_0.b_0 : f32[2]>]
    >>> linear(x)
    <Variable add_0 : f32[N, 2]>
    """

    PREFIX = "linear"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        weight_attr: LayerAttr = None,
        bias_attr: LayerAttr = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.in_features, self.out_features = in_features, out_features
        made = self.create_parameter([in_features, out_features], weight_attr)
        self.weight = required(made, "Linear: weight_attr")
        self.bias = self.create_parameter([out_features], bias_attr, is_bias=True)

    def forward(self, x: TensorLike) -> Variable:
        """X weight + bias."""
        return functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The features."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class Sequential(Layer):
    """Layers called one after another; pairs (name, layer) name them.

    >>> net = Sequential(Linear(4, 3), Dropout(0.5), Linear(3, 2))
    >>> [name for name, _ in net.named_parameters()]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """

    def __init__(self, *layers: Layer | tuple[str, Layer]) -> None:
        super().__init__()
        self.items: dict[str, Layer] = {}
        for k, item in enumerate(layers):
            name, layer = item if isinstance(item, tuple) else (str(k), item)
            self.items[name] = layer

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """The layers, by name."""
        return iter(self.items.items())

    def forward(self, x: Any) -> Any:  # noqa: ANN401 - what the layers take and give
        """The last layer's result."""
        for layer in self.items.values():
            x = layer(x)
        return x

    def __getitem__(self, key: int | str) -> Layer:
        return self.items[key] if isinstance(key, str) else list(self.items.values())[key]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.items.values())

    def __len__(self) -> int:
        return len(self.items)
