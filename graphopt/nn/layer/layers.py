"""Layer, the base of all layers: parameters made once, used by every call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.initializer import Assign, Constant, Initializer
from graphopt.ir.model import current_scope
from graphopt.ir.model.current_scope import Holder
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.types import DTypeLike, TensorType
from graphopt.ir.types.where import here
from graphopt.parameters import (
    AttrLike,
    ParamAttr,
    as_param_attr,
    create_parameter,
    create_state,
)
from graphopt.scoping import default_main_program, default_startup_program
from graphopt.tensor.operands import TensorLike

LayerAttr: TypeAlias = AttrLike | bool  # False: no such parameter


class Layer:
    """Base of the layers: subclasses make parameters when constructed and record ops when called.

    Parameters and sublayers are the attributes that hold one; buffers are registered. ``train()``
    and ``eval()`` set what dropout and batch normalization record from then on.

    ``name_scope`` is the prefix of ``full_name()``: the class's name by default. ``dtype`` is that
    of the parameters that ``create_parameter`` makes.

    >>> layer = Layer()
    >>> scale = layer.add_parameter("scale", layer.create_parameter([2]))
    >>> layer.register_buffer("table", [[1, 2]])
    >>> layer.full_name(), layer.parameters(), layer.buffers()
    ('layer_0', [<Parameter layer_0.w_0 : f32[2]>], [<Variable layer_0.table_0 : i64[1, 2]>])
    """

    PREFIX = ""

    def __init__(self, name_scope: str | None = None, dtype: DTypeLike = "float32") -> None:
        self.training = True
        self._dtype = dtype
        self._name_scope = name_scope or self.PREFIX or type(self).__name__.lower()
        self._full_name = ""
        self._buffers: dict[str, bool] = {}  # name to whether the state has it

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the subclass's own
        """Record ``forward`` with these ``inputs`` and ``kwargs``, and give its result."""
        return self.forward(*inputs, **kwargs)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the subclass's own
        """Record the layer's ops for these ``inputs`` and ``kwargs``; each subclass has its own.

        Raises:
            NotImplementedError: the class has none.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def full_name(self) -> str:
        """The prefix of the parameters' names, unique in the Program, such as linear_0."""
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
        """A parameter named after the layer; None where ``attr`` is False.

        The layer has it once it is set as an attribute. ``shape``, ``attr``, ``is_bias`` and
        ``default_initializer`` are those of ``static.create_parameter``, and so are the errors;
        ``dtype`` is the layer's unless given.
        """
        return layer_parameter(
            self.full_name(), shape, attr, dtype or self._dtype, is_bias, default_initializer
        )

    def add_parameter(self, name: str, parameter: Parameter | None) -> Parameter | None:
        """Make ``parameter`` the layer's attribute ``name``; gives it back.

        Raises:
            ArgumentTypeError: the name is not a str, or the parameter is neither a Parameter nor
                None.
            ArgumentError: the name is empty, holds a dot, or is that of a method.
        """
        self._check_member(name, parameter, Parameter)
        setattr(self, name, parameter)
        return parameter

    def add_sublayer(self, name: str, sublayer: Layer) -> Layer:
        """Make ``sublayer`` this layer's attribute ``name``; gives it back.

        Raises:
            ArgumentTypeError: the name is not a str, or the sublayer not a Layer.
            ArgumentError: the name is empty, holds a dot, or is that of a method.
        """
        self._check_member(name, sublayer, Layer)
        setattr(self, name, sublayer)
        return sublayer

    def register_buffer(
        self, name: str, tensor: Variable | TensorLike | None, persistable: bool = True
    ) -> None:
        """Make a value that is kept between runs, but not trained, the layer's attribute ``name``.

        ``tensor`` is an array, for which a new variable is made that the startup Program sets, or a
        persistable Variable, or None. Without ``persistable`` the value is not part of
        ``state_dict``.

        Raises:
            ArgumentTypeError: the name is not a str.
            ArgumentError: the name is empty, holds a dot, or is that of a method; or the
                Variable does not keep its value between runs.
        """
        self._check_member(name, None, Variable)
        if tensor is not None and not isinstance(tensor, Variable):
            tensor = self._kept(name, np.asarray(tensor))
        if tensor is not None and not tensor.persistable:
            raise ArgumentError(
                f"register_buffer: {tensor.name} does not keep its value between runs",
                where=here(),
                fix="give an array, or make the variable with static.create_global_var",
            )
        self._buffers[name] = persistable
        setattr(self, name, tensor)

    def _kept(self, name: str, value: np.ndarray) -> Variable:
        main, startup = default_main_program(), default_startup_program()
        full = main.unique_name(f"{self.full_name()}.{name}")
        return create_state(
            main, startup, full, TensorType(value.dtype, value.shape), Assign(value)
        )

    def _check_member(self, name: str, value: object, kind: type) -> None:
        if not isinstance(name, str) or not (value is None or isinstance(value, kind)):
            raise ArgumentTypeError(
                f"a name and a {kind.__name__} are wanted, not {name!r} and {value!r}", where=here()
            )
        if not name or "." in name or (hasattr(self, name) and name not in vars(self)):
            raise ArgumentError(f"a member of a layer cannot be named {name!r}", where=here())

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """The sublayers that are attributes of this layer, by name."""
        return ((name, v) for name, v in vars(self).items() if isinstance(v, Layer))

    def children(self) -> Iterator[Layer]:
        """The sublayers that are attributes of this layer."""
        return (layer for _, layer in self.named_children())

    def named_sublayers(
        self, prefix: str = "", include_self: bool = False
    ) -> Iterator[tuple[str, Layer]]:
        """All layers inside, each under its path; paths start with ``prefix``.

        ``include_self`` puts this layer first, under ``prefix``.
        """
        if include_self:
            yield prefix, self
        for name, layer in self.named_children():
            yield from layer.named_sublayers(_path(prefix, name), include_self=True)

    def sublayers(self, include_self: bool = False) -> list[Layer]:
        """All layers inside, and this one first if ``include_self``."""
        return [layer for _, layer in self.named_sublayers(include_self=include_self)]

    def named_parameters(
        self, prefix: str = "", include_sublayers: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """All parameters under their paths, each once; running statistics are among them.

        Paths start with ``prefix``. Without ``include_sublayers`` they are the layer's own.
        """
        seen: set[int] = set()
        for path, layer in self._layers(prefix, include_sublayers):
            for name, v in layer.own_parameters():
                if id(v) not in seen:
                    seen.add(id(v))
                    yield _path(path, name), v

    def own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters that are not those of a sublayer, by name."""
        return ((name, v) for name, v in vars(self).items() if isinstance(v, Parameter))

    def _layers(self, prefix: str, include_sublayers: bool) -> Iterable[tuple[str, Layer]]:
        if include_sublayers:
            return self.named_sublayers(prefix, include_self=True)
        return [(prefix, self)]

    def parameters(self, include_sublayers: bool = True) -> list[Parameter]:
        """All parameters, each once; without ``include_sublayers`` the layer's own."""
        return [p for _, p in self.named_parameters(include_sublayers=include_sublayers)]

    def named_buffers(
        self, prefix: str = "", include_sublayers: bool = True
    ) -> Iterator[tuple[str, Variable]]:
        """All buffers under their paths, which start with ``prefix``.

        Without ``include_sublayers`` they are the layer's own.
        """
        for path, layer in self._layers(prefix, include_sublayers):
            yield from ((_path(path, k), v) for k, v, _ in layer._own_buffers())

    def _own_buffers(self) -> Iterator[tuple[str, Variable, bool]]:
        for name, persistable in self._buffers.items():
            value = getattr(self, name)
            if value is not None:
                yield name, value, persistable

    def buffers(self, include_sublayers: bool = True) -> list[Variable]:
        """All buffers; without ``include_sublayers`` the layer's own."""
        return [v for _, v in self.named_buffers(include_sublayers=include_sublayers)]

    def _state(self) -> dict[str, Variable]:
        found: dict[str, Variable] = dict(self.named_parameters())
        for path, layer in self._layers("", include_sublayers=True):
            found |= {_path(path, name): v for name, v, kept in layer._own_buffers() if kept}
        return found

    def state_dict(self, scope: Holder | None = None) -> dict[str, np.ndarray]:
        """The values of parameters and buffers, under their paths.

        They are those that ``scope`` holds: the current scope unless given.

        Raises:
            UninitializedError: a value is missing, e.g. because the startup Program has not run.
        """
        state = self._state()
        values = current_scope.read(state.values(), scope)
        return {path: values[v.name] for path, v in state.items()}

    def set_state_dict(
        self, state_dict: Mapping[str, object], scope: Holder | None = None
    ) -> tuple[list[str], list[str]]:
        """Set values by path: all that the layer has, or on an error none.

        The values of ``state_dict`` go to ``scope``: the current scope unless given. Returns the
        paths that the dict lacks, which keep their values, and those that the layer lacks.

        Raises:
            ArgumentTypeError: not a dict.
            StateError: a value has another shape or dtype.
        """
        if not isinstance(state_dict, Mapping):
            raise ArgumentTypeError(f"a dict is wanted, not a {type(state_dict).__name__}")
        state = self._state()
        known = {path: v for path, v in state.items() if path in state_dict}
        values = {v.name: state_dict[path] for path, v in known.items()}
        current_scope.write({v.name: v for v in known.values()}, values, scope)
        missing = [path for path in state if path not in state_dict]
        return missing, [path for path in state_dict if path not in state]

    set_dict = load_dict = set_state_dict

    def apply(self, fn: Callable[[Layer], object]) -> Layer:
        """Call ``fn`` with every layer inside, then with this one; gives this one back."""
        for layer in self.children():
            layer.apply(fn)
        fn(self)
        return self

    def train(self) -> None:
        """Record for training from now on, here and in all layers inside."""
        self._set_training(True)

    def eval(self) -> None:
        """Record for inference from now on, here and in all layers inside."""
        self._set_training(False)

    def _set_training(self, training: bool) -> None:
        for layer in self.sublayers(include_self=True):
            layer.training = training

    def extra_repr(self) -> str:
        """What ``repr`` shows between the parentheses."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        inner = [
            f"({name}): {layer!r}".replace("\n", "\n  ") for name, layer in self.named_children()
        ]
        if not inner:
            return f"{type(self).__name__}({extra})"
        return "\n  ".join([f"{type(self).__name__}(", *([extra] if extra else []), *inner]) + "\n)"


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
    """A parameter <layer>.w_0, .w_1, … (.b_0 for a bias); None where ``attr`` is False."""
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
        ArgumentError: it is None, as its attr is False.
    """
    if parameter is None:
        raise ArgumentError(
            f"{argument} cannot be False here", fix="leave it out or give a ParamAttr"
        )
    return parameter


def arguments(scope: Mapping[str, Any]) -> dict[str, Any]:
    """What a constructor was given, by name, of its ``locals()``."""
    return {k: v for k, v in scope.items() if k not in ("self", "__class__")}


class FunctionLayer(Layer):
    """A layer without parameters: one function, with fixed options.

    A subclass gives its constructor's ``locals()``: all but ``name`` are options of the function,
    of the same names.
    """

    def __init__(self, function: Callable[..., Any], scope: Mapping[str, Any]) -> None:
        super().__init__()
        self.options = arguments(scope)
        self.function, self.name = function, self.options.pop("name", None)

    def forward(self, *inputs: TensorLike) -> Any:  # noqa: ANN401 - the function's own
        """Record the function of the ``inputs``."""
        return self.function(*inputs, **self.options, name=self.name)

    def extra_repr(self) -> str:
        """The options."""
        return ", ".join(f"{k}={v!r}" for k, v in self.options.items())
