"""Python's operators on Variables, with Paddle's type promotion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from graphopt.errors import ArgumentTypeError, DTypeError, did_you_mean
from graphopt.ir.model.indexing import getitem
from graphopt.ir.types.literals import as_literal
from graphopt.ir.types.types import FLOATS, DTypeLike, as_dtype, to_onnx_dtype
from graphopt.ir.types.where import here

if TYPE_CHECKING:
    from graphopt.ir.model.variable import Variable

Other: TypeAlias = "Variable | np.ndarray | float | int | bool"


class Arithmetic:
    """Operators of a Variable; each records one op (and casts where dtypes must be promoted)."""

    __slots__ = ()

    __array_ufunc__ = None  # numpy hands `array * variable` to the variable

    def __add__(self, other: Other) -> Variable:
        return binary("Add", self, other)

    def __radd__(self, other: Other) -> Variable:
        return binary("Add", other, self)

    def __sub__(self, other: Other) -> Variable:
        return binary("Sub", self, other)

    def __rsub__(self, other: Other) -> Variable:
        return binary("Sub", other, self)

    def __mul__(self, other: Other) -> Variable:
        return binary("Mul", self, other)

    def __rmul__(self, other: Other) -> Variable:
        return binary("Mul", other, self)

    def __truediv__(self, other: Other) -> Variable:
        return binary("Div", self, other, to_float=True)

    def __rtruediv__(self, other: Other) -> Variable:
        return binary("Div", other, self, to_float=True)

    def __floordiv__(self, other: Other) -> Variable:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: Other) -> Variable:
        return floor_divide(other, self)

    def __mod__(self, other: Other) -> Variable:
        return modulo(self, other)

    def __rmod__(self, other: Other) -> Variable:
        return modulo(other, self)

    def __pow__(self, other: Other) -> Variable:
        return binary("Pow", self, other)

    def __rpow__(self, other: Other) -> Variable:
        return binary("Pow", other, self)

    def __matmul__(self, other: Other) -> Variable:
        return binary("MatMul", self, other)

    def __rmatmul__(self, other: Other) -> Variable:
        return binary("MatMul", other, self)

    def __neg__(self) -> Variable:
        return unary("Neg", self)

    def __abs__(self) -> Variable:
        return unary("Abs", self)

    def __lt__(self, other: Other) -> Variable:  # type: ignore[misc]
        return binary("Less", self, other)

    def __le__(self, other: Other) -> Variable:  # type: ignore[misc]
        return binary("LessOrEqual", self, other)

    def __gt__(self, other: Other) -> Variable:  # type: ignore[misc]
        return binary("Greater", self, other)

    def __ge__(self, other: Other) -> Variable:  # type: ignore[misc]
        return binary("GreaterOrEqual", self, other)

    def __eq__(self, other: object) -> Variable:  # type: ignore[override]
        return binary("Equal", self, cast(Other, other))

    def __ne__(self, other: object) -> Variable:  # type: ignore[override]
        return unary("Not", binary("Equal", self, cast(Other, other)))

    __hash__ = object.__hash__

    def __iter__(self) -> Iterator[Variable]:
        x = cast("Variable", self)
        length = x.shape[0] if x.ndim else -1
        if length < 0:
            raise ArgumentTypeError(
                f"{x.name} cannot be iterated over: its first dim is not known while recording",
                operands=[(x.name, x.tensor_type)],
                where=here(),
                fix="declare the dim as an int",
            )
        return (self[k] for k in range(length))

    def __getitem__(self, index: Any) -> Variable:  # noqa: ANN401 - int, slice, None, …, tuple
        return getitem(cast("Variable", self), index)

    @property
    def T(self) -> Variable:  # noqa: N802 - numpy's and Paddle's name
        """The variable with its dims reversed."""
        x = cast("Variable", self)
        return cast("Variable", _tape(x).Transpose(x, perm=[*reversed(range(x.ndim))]))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a method of METHODS, bound
        if name in METHODS:
            return partial(METHODS[name], self)
        fix = "" if name.startswith("_") else did_you_mean(name, METHODS)
        raise AttributeError(f"a {type(self).__name__} has no attribute {name!r} {fix}".rstrip())

    def astype(self, dtype: DTypeLike) -> Variable:
        """The variable cast to another dtype."""
        return cast_to(cast("Variable", self), as_dtype(dtype))


METHODS: dict[str, Callable[..., Any]] = {}


def register_methods(functions: Iterable[Callable[..., Any]]) -> None:
    """Make functions of a variable callable as its methods: ``x.mean()`` for ``mean(x)``."""
    METHODS.update({function.__name__: function for function in functions})


def _tape(x: Variable) -> Any:  # noqa: ANN401 - a Tape; its module imports this one
    return x.block.program.recorder()


def _is_variable(x: object) -> bool:
    return isinstance(x, Arithmetic)


def cast_to(x: Variable, dtype: np.dtype) -> Variable:
    """x as another dtype; x itself if it has it already."""
    if x.dtype == dtype:
        return x
    return cast("Variable", _tape(x).Cast(x, to=to_onnx_dtype(dtype)))


def unary(type: str, x: object) -> Variable:
    """Record a one-operand op."""
    return cast("Variable", _tape(cast("Variable", x)).emit(type, x))


def binary(type: str, x: object, y: object, *, to_float: bool = False) -> Variable:
    """Record a two-operand op after promotion; ``to_float`` makes integer operands f32 first."""
    dtype = promoted(type, x, y)
    if to_float and dtype.kind in "iub":
        dtype = np.dtype("f4")
    tape = _tape(cast("Variable", x if _is_variable(x) else y))
    operands = [
        cast_to(cast("Variable", v), dtype) if _is_variable(v) else tape.const(v, dtype)
        for v in (x, y)
    ]
    return cast("Variable", tape.emit(type, *operands))


def promoted(type: str, x: object, y: object) -> np.dtype:
    """The dtype two operands meet in.

    A Python number takes the variable's dtype, except a float beside integers: f32. An integer
    variable beside a float variable is refused, as in Paddle.

    Raises:
        DTypeError: an integer variable meets a float variable.
    """
    if not (_is_variable(x) and _is_variable(y)):
        variable, number = (x, y) if _is_variable(x) else (y, x)
        dtype = cast("Variable", variable).dtype
        if as_literal(number).dtype.kind == "f" and dtype.kind in "iub":
            return np.dtype("f4")
        return np.dtype("i8") if dtype == np.bool_ and type in ("Add", "Sub", "Mul") else dtype
    a, b = cast("Variable", x), cast("Variable", y)
    if a.dtype == b.dtype:
        return a.dtype
    if (a.dtype in FLOATS) != (b.dtype in FLOATS):
        raise DTypeError(
            f"{type} cannot take an integer and a float variable",
            operands=[(a.name, a.tensor_type), (b.name, b.tensor_type)],
            where=here(),
            fix=f"cast one of them, e.g. {a.name}.astype('float32')",
        )
    if a.dtype in FLOATS:
        return max(a.dtype, b.dtype, key=lambda d: d.itemsize)
    return np.promote_types(a.dtype, b.dtype)


def floor_divide(x: object, y: object) -> Variable:
    """floor(x / y), also for negative integers."""
    quotient = binary("Div", x, y)
    if quotient.dtype in FLOATS:
        return unary("Floor", quotient)
    # ONNX's integer Div truncates: one less where a remainder is left and the signs differ.
    left = x if _is_variable(x) else _tape(quotient).const(x, quotient.dtype)
    remainder = binary("Sub", left, binary("Mul", quotient, y))
    right = y if _is_variable(y) else _tape(quotient).const(y, quotient.dtype)
    signs = binary("Xor", binary("Less", remainder, 0), binary("Less", right, 0))
    inexact = binary("And", signs, unary("Not", binary("Equal", remainder, 0)))
    return binary("Sub", quotient, cast_to(inexact, quotient.dtype))


def modulo(x: object, y: object) -> Variable:
    """The remainder with the sign of the divisor."""
    dtype = promoted("Mod", x, y)
    if dtype not in FLOATS:
        return binary("Mod", x, y)
    return binary("Sub", x, binary("Mul", unary("Floor", binary("Div", x, y)), y))
