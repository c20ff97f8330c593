"""Layer: parameters made once, used by every call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from graphopt.errors import ArgumentError
from graphopt.initializer import Constant, Initializer
from graphopt.ir.types import DTypeLike
from graphopt.ir.variable import Parameter
from graphopt.parameters import AttrLike, ParamAttr, as_param_attr, create_parameter
from graphopt.scoping import default_main_program
from graphopt.tensor.operands import TensorLike

LayerAttr: TypeAlias = AttrLike | bool  # False: no such parameter


class Layer:
    """Base of the layers: subclasses make parameters when constructed and record ops when called.

    Parameters and sublayers are the attributes that hold one. ``train()`` and ``eval()`` set what
    dropout and batch normalization record from then on.

    >>> layer = Layer()
    >>> layer.full_name(), layer.parameters()
    ('layer_0', [])
    """

    PREFIX = ""

    def __init__(self, name_scope: str | None = None, dtype: DTypeLike = "float32") -> None:
        self.training = True
        self._dtype = dtype
        self._name_scope = name_scope or self.PREFIX or type(self).__name__.lower()
        self._full_name = ""

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the subclass's own
        """Record ``forward``."""
        return self.forward(*inputs, **kwargs)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the subclass's own
        """The result for the given inputs."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def full_name(self) -> str:
        """The prefix of the parameters' names, unique in the Program: linear_0."""
        if not self._full_name:  # only layers that are asked use up a number
            self._full_name = default_main_program().unique_name(self._name_scope)
        return self._full_name

    def create_parameter(
        self,
        shape: Sequence[int],
        attr: LayerAttr = None,
        dtype: DTypeLike | None = None,
        is_bias: bool = False,
        default_initializer: Initializer | None = None,
    ) -> Parameter | None:
        """A parameter named after the layer; None where ``attr`` is False."""
        return layer_parameter(
            self.full_name(), shape, attr, dtype or self._dtype, is_bias, default_initializer
        )

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """The sublayers one level down."""
        return ((name, v) for name, v in vars(self).items() if isinstance(v, Layer))

    def children(self) -> Iterator[Layer]:
        """The sublayers one level down."""
        return (layer for _, layer in self.named_children())

    def named_sublayers(
        self, prefix: str = "", include_self: bool = False
    ) -> Iterator[tuple[str, Layer]]:
        """All layers inside, each under its path."""
        if include_self:
            yield prefix, self
        for name, layer in self.named_children():
            yield from layer.named_sublayers(_path(prefix, name), include_self=True)

    def sublayers(self, include_self: bool = False) -> list[Layer]:
        """All layers inside."""
        return [layer for _, layer in self.named_sublayers(include_self=include_self)]

    def named_parameters(
        self, prefix: str = "", include_sublayers: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters under their paths, each once; running statistics are among them."""
        seen: set[int] = set()
        layers = self.named_sublayers(prefix, include_self=True)
        for path, layer in layers if include_sublayers else [(prefix, self)]:
            for name, v in vars(layer).items():
                if isinstance(v, Parameter) and id(v) not in seen:
                    seen.add(id(v))
                    yield _path(path, name), v

    def parameters(self, include_sublayers: bool = True) -> list[Parameter]:
        """All parameters, each once."""
        return [p for _, p in self.named_parameters(include_sublayers=include_sublayers)]

    def train(self) -> None:
        """Record for training from now on."""
        self._set_training(True)

    def eval(self) -> None:
        """Record for inference from now on."""
        self._set_training(False)

    def _set_training(self, training: bool) -> None:
        for layer in self.sublayers(include_self=True):
            layer.training = training

    def extra_repr(self) -> str:
        """The arguments that ``repr`` shows."""
        return ""

    def __repr__(self) -> str:
        inner = [
            f"({name}): {layer!r}".replace("\n", "\n  ") for name, layer in self.named_children()
        ]
        if not inner:
            return f"{type(self).__name__}({self.extra_repr()})"
        return "\n  ".join([f"{type(self).__name__}(", *inner]) + "\n)"


def _path(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def layer_parameter(
    layer: str,
    shape: Sequence[int],
    attr: LayerAttr,
    dtype: DTypeLike = "float32",
    is_bias: bool = False,
    default_initializer: Initializer | None = None,
) -> Parameter | None:
    """``<layer>.w_0``, ``.w_1``, … (``.b_0`` for a bias); None where ``attr`` is False."""
    if attr is False:
        return None
    attr = as_param_attr(None if attr is True else attr)
    kind = "b" if is_bias else "w"
    return create_parameter(
        shape,
        dtype,
        name=attr.name or default_main_program().unique_name(f"{layer}.{kind}"),
        attr=attr,
        is_bias=is_bias,
        default_initializer=default_initializer,
    )


def statistic(layer: str, size: int, value: float, name: str | None, dtype: DTypeLike) -> Parameter:
    """A running mean or variance: a parameter that is not trained."""
    attr = ParamAttr(name=name, initializer=Constant(value), trainable=False)
    made = layer_parameter(layer, [size], attr, dtype)
    assert made is not None
    return made


def required(parameter: Parameter | None, argument: str) -> Parameter:
    """The parameter.

    Raises:
        ArgumentError: it was switched off.
    """
    if parameter is None:
        raise ArgumentError(
            f"{argument} cannot be False here", fix="leave it out or give a ParamAttr"
        )
    return parameter


class FunctionLayer(Layer):
    """A layer without parameters: one function of nn.functional, with fixed options."""

    def __init__(
        self, function: Callable[..., Any], name: str | None = None, **options: object
    ) -> None:
        super().__init__()
        self.function, self.name, self.options = function, name, options

    def forward(self, *inputs: TensorLike) -> Any:  # noqa: ANN401 - the function's own
        """The function of the inputs."""
        return self.function(*inputs, **self.options, name=self.name)

    def extra_repr(self) -> str:
        """The options."""
        return ", ".join(f"{k}={v!r}" for k, v in self.options.items())
