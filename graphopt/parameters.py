"""Parameters and persistable variables: in the main Program, with their first value in startup."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.errors import ArgumentError, ArgumentTypeError, ShapeError
from graphopt.initializer import Constant, Initializer, XavierUniform
from graphopt.ir.model.block import declared_type
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.types import DTypeLike, TensorType
from graphopt.ir.types.where import here
from graphopt.regularizer import WeightDecayRegularizer
from graphopt.scoping import default_main_program, default_startup_program


class ParamAttr:
    """How a parameter is named, initialized and trained.

    Args:
        name: the parameter's name; by default that of its layer with a suffix.
        initializer: its first value; by default that of its layer.
        learning_rate: a factor on the optimizer's rate.
        regularizer: L1Decay or L2Decay, which wins over the optimizer's.
        trainable: False freezes the parameter.
        do_model_average: accepted as in Paddle; changes nothing.
        need_clip: False keeps the gradient out of clipping.

    Raises:
        ArgumentTypeError: a field has the wrong type.
    """

    def __init__(
        self,
        name: str | None = None,
        initializer: Initializer | None = None,
        learning_rate: float = 1.0,
        regularizer: WeightDecayRegularizer | None = None,
        trainable: bool = True,
        do_model_average: bool = True,
        need_clip: bool = True,
    ) -> None:
        _check("name", name, str, optional=True)
        _check("initializer", initializer, Initializer, optional=True)
        _check("learning_rate", learning_rate, (int, float))
        _check("regularizer", regularizer, WeightDecayRegularizer, optional=True)
        _check("trainable", trainable, bool)
        _check("do_model_average", do_model_average, bool)
        _check("need_clip", need_clip, bool)
        self.name = name
        self.initializer = initializer
        self.learning_rate = float(learning_rate)
        self.regularizer = regularizer
        self.trainable = trainable
        self.do_model_average = do_model_average
        self.need_clip = need_clip


def _check(
    field: str, value: object, kind: type | tuple[type, ...], *, optional: bool = False
) -> None:
    if (optional and value is None) or isinstance(value, kind):
        return
    kinds = kind if isinstance(kind, tuple) else (kind,)
    expected = " or ".join(k.__name__ for k in kinds)
    raise ArgumentTypeError(f"a parameter's {field} must be {expected}, not {type(value).__name__}")


AttrLike = ParamAttr | str | Initializer | None


def as_param_attr(attr: AttrLike) -> ParamAttr:
    """A ParamAttr from what users may give in its place: None, a name or an initializer.

    Raises:
        ArgumentTypeError: ``attr`` is something else.
    """
    if attr is None:
        return ParamAttr()
    if isinstance(attr, str):
        return ParamAttr(name=attr)
    if isinstance(attr, Initializer):
        return ParamAttr(initializer=attr)
    if isinstance(attr, ParamAttr):
        return attr
    raise ArgumentTypeError(
        f"a parameter's attr is a ParamAttr, a name or an initializer, not {type(attr).__name__}"
    )


def create_parameter(
    shape: Sequence[int],
    dtype: DTypeLike = "float32",
    name: str | None = None,
    attr: AttrLike = None,
    is_bias: bool = False,
    default_initializer: Initializer | None = None,
    *,
    prefix: str = "create_parameter",
) -> Parameter:
    """A parameter of the default main Program, initialized by the default startup Program.

    A name that is taken gives the same parameter again.

    >>> import graphopt as go
    >>> go.create_parameter([3, 2])
    <Parameter create_parameter_0.w_0 : f32[3, 2]>

    Args:
        shape: a list of ints.
        dtype: by default f32.
        name: by default ``<prefix>_0.w_0``, or ``.b_0`` for a bias.
        attr: a ParamAttr, or only its name or initializer; its name wins over ``name``.
        is_bias: whether the default name and initializer are those of a bias.
        default_initializer: for want of one in ``attr``; by default XavierUniform, zeros for a
            bias.
        prefix: the layer's name in the default name.

    Raises:
        ShapeError: the name is taken by a variable that is no parameter, or of another shape or
            dtype, here or in the startup Program; ``shape`` is not that of the initializer's array.
        ArgumentError: a dim of ``shape`` is negative or not known.
        ArgumentTypeError: an argument has the wrong type.
        DTypeError: the initializer draws floats, and ``dtype`` is none.
    """
    attr = as_param_attr(attr)
    _check("name", name, str, optional=True)
    _check("default_initializer", default_initializer, Initializer, optional=True)
    main, startup = default_main_program(), default_startup_program()
    tensor_type = _static_type(main, shape, dtype)
    name = attr.name or name or parameter_name(main, prefix, "b" if is_bias else "w")
    if main.global_block().has_var(name):
        return _shared(main.global_block().var(name), tensor_type)
    parameter = Parameter(
        name,
        tensor_type,
        block=main.global_block(),
        where=here(),
        trainable=attr.trainable,
        learning_rate=attr.learning_rate,
        regularizer=attr.regularizer,
        need_clip=attr.need_clip,
    )
    fallback = default_initializer or (Constant(0.0) if is_bias else XavierUniform())
    initialize(parameter, attr.initializer or fallback, startup)
    main.global_block().add_var(parameter)
    return parameter


def _static_type(program: Program, shape: Sequence[int], dtype: DTypeLike) -> TensorType:
    if not isinstance(shape, (list, tuple)):
        raise ArgumentTypeError(
            f"the shape must be a list or tuple, not {type(shape).__name__}",
            where=here(),
            fix="e.g. [784, 10]",
        )
    tensor_type = declared_type(program, shape, dtype)
    if not tensor_type.is_static:
        raise ArgumentError(
            f"a value that lasts needs a shape of ints, not {list(shape)}",
            where=here(),
            fix="give the dims that it depends on in static.data",
        )
    return tensor_type


def parameter_name(program: Program, prefix: str, kind: str) -> str:
    """``linear_0.w_0`` for a layer's name ``linear_0`` (or a bare prefix, which is numbered)."""
    layer = prefix if prefix[-1:].isdigit() else program.unique_name(prefix)
    return program.unique_name(f"{layer}.{kind}")


def _shared(existing: Variable, tensor_type: TensorType) -> Parameter:
    if isinstance(existing, Parameter) and existing.tensor_type == tensor_type:
        return existing
    raise ShapeError(
        f"{existing.name} is taken by a variable of another kind or shape",
        operands=[("existing", existing.tensor_type), ("new", tensor_type)],
        where=existing.where,
        fix="give the new parameter another name",
    )


def initialize(variable: Variable, initializer: Initializer, startup: Program) -> None:
    """Record in ``startup`` the ops that give a persistable variable its first value.

    All or nothing: if the initializer refuses the variable, ``startup`` is as before.

    Raises:
        ShapeError: ``startup`` initializes the name with another shape or dtype.
    """
    with startup.all_or_nothing():
        initializer(_twin(variable, startup), startup.global_block())


def _twin(variable: Variable, startup: Program) -> Variable:
    """The startup Program's variable of the same name and type."""
    block = startup.global_block()
    if block.has_var(variable.name):
        if block.vars[variable.name].tensor_type != variable.tensor_type:
            raise ShapeError(
                f"the startup Program initializes {variable.name} with another type",
                operands=[
                    ("startup", block.vars[variable.name].tensor_type),
                    ("main", variable.tensor_type),
                ],
                where=variable.where,
                fix="use a startup Program of its own for each main Program",
            )
        return block.vars[variable.name]
    twin = Variable(
        variable.name, variable.tensor_type, block=block, where=variable.where, persistable=True
    )
    block.add_var(twin)
    return twin


def create_state(
    main: Program, startup: Program, name: str, tensor_type: TensorType, initializer: Initializer
) -> Variable:
    """A persistable variable that is not a parameter: optimizer state, running statistics.

    Raises:
        ShapeError: ``startup`` initializes the name with another shape or dtype.
    """
    variable = Variable(
        name,
        tensor_type,
        block=main.global_block(),
        where=here(),
        persistable=True,
        stop_gradient=True,
    )
    main.global_block().add_var(variable)
    initialize(variable, initializer, startup)
    return variable


def create_global_var(
    shape: Sequence[int],
    value: float,
    dtype: DTypeLike,
    persistable: bool = False,
    force_cpu: bool = False,
    name: str | None = None,
) -> Variable:
    """A variable of the main Program that startup fills with ``value``, a number.

    It keeps its value between runs, whether ``persistable`` or not; that and ``force_cpu`` are
    accepted as in Paddle. ``shape`` is a list of ints; ``name`` is by default ``global_var_0``.

    >>> import graphopt as go
    >>> go.static.create_global_var([1], 0, "int64")
    <Variable global_var_0 : i64[1]>

    Raises:
        ArgumentError: a dim of ``shape`` is negative or not known; the name is taken.
        ArgumentTypeError: ``shape`` is not a list or tuple of ints; ``value`` is not a number;
            ``dtype`` is none.
        ShapeError: the startup Program initializes the name with another shape or dtype.
    """
    main = default_main_program()
    tensor_type = _static_type(main, shape, dtype)
    name = name or main.unique_name("global_var")
    return create_state(main, default_startup_program(), name, tensor_type, Constant(value))
