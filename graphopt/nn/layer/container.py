"""Layers that hold layers or parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from graphopt.ir.model.variable import Parameter
from graphopt.nn.layer.layers import Layer


class LayerList(Layer):
    """Layers in a list; it is not called itself.

    ``sublayers`` are the first ones. They are read, replaced and counted like a list's items.

    >>> from graphopt.nn import Linear
    >>> layers = LayerList([Linear(4, 3), Linear(3, 2)])
    >>> len(layers), [p.name for p in layers.parameters()][::2]
    (2, ['linear_0.w_0', 'linear_1.w_0'])
    """

    def __init__(self, sublayers: Iterable[Layer] | None = None) -> None:
        super().__init__()
        self.items = list(sublayers or ())

    def append(self, sublayer: Layer) -> LayerList:
        """Add ``sublayer`` at the end; gives the list back."""
        self.items.append(sublayer)
        return self

    def extend(self, sublayers: Iterable[Layer]) -> LayerList:
        """Add ``sublayers`` at the end; gives the list back."""
        self.items.extend(sublayers)
        return self

    def insert(self, index: int, sublayer: Layer) -> None:
        """Put ``sublayer`` before the one at ``index``."""
        self.items.insert(index, sublayer)

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """The layers, each with its index as a name."""
        return ((str(k), layer) for k, layer in enumerate(self.items))

    def __getitem__(self, index: int) -> Layer:
        return self.items[index]

    def __setitem__(self, index: int, sublayer: Layer) -> None:
        self.items[index] = sublayer

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class ParameterList(Layer):
    """Parameters in a list; it is not called itself.

    ``parameters`` are the first ones.

    >>> scales = ParameterList()
    >>> for size in (2, 3):
    ...     scales = scales.append(scales.create_parameter([size]))
    >>> dict(scales.named_parameters())["1"], len(scales)
    (<Parameter parameterlist_0.w_1 : f32[3]>, 2)
    """

    def __init__(self, parameters: Iterable[Parameter] | None = None) -> None:
        super().__init__()
        self.items = list(parameters or ())

    def append(self, parameter: Parameter) -> ParameterList:
        """Add ``parameter`` at the end; gives the list back."""
        self.items.append(parameter)
        return self

    def own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters, each with its index as a name."""
        return ((str(k), parameter) for k, parameter in enumerate(self.items))

    def __getitem__(self, index: int) -> Parameter:
        return self.items[index]

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Sequential(Layer):
    """Layers called one after another, each with the result of the one before.

    ``layers`` are layers, named by their index, or pairs (name, layer).

    >>> from graphopt.nn import Dropout, Linear
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

    def add_sublayer(self, name: str, sublayer: Layer) -> Layer:
        """Add ``sublayer`` at the end, or put it in the place of the one of that ``name``."""
        self.items[name] = sublayer
        return sublayer

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """The layers, by name."""
        return iter(self.items.items())

    def forward(self, x: Any) -> Any:  # noqa: ANN401 - what the layers take and give
        """Record the layers' calls, the first with ``x``, and give the last one's result."""
        for layer in self.items.values():
            x = layer(x)
        return x

    def __getitem__(self, key: int | str) -> Layer:
        return self.items[key] if isinstance(key, str) else list(self.items.values())[key]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.items.values())

    def __len__(self) -> int:
        return len(self.items)
