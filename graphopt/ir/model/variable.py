"""Variable, Parameter, Constant: the values of a Program."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from graphopt.errors import ArgumentTypeError
from graphopt.ir.model import current_scope
from graphopt.ir.model.arithmetic import Arithmetic
from graphopt.ir.types.types import TensorType, dtype_text
from graphopt.ir.types.where import Where

if TYPE_CHECKING:
    from graphopt.ir.model.block import Block
    from graphopt.ir.model.operator import Operator
    from graphopt.ir.model.program import Program

GRAD_SUFFIX = "@GRAD"
Content: TypeAlias = tuple[str, tuple[int, ...], bytes]  # of an array: dtype, shape, digest
# What can be done without a value, by the function that asks for one.
INSIDE = {
    "bool": "compare inside the Program (go.where, static.nn.cond), or ",
    "len": "ask for its shape (x.shape, or go.shape(x) inside the Program), or ",
}


class Variable(Arithmetic):
    """A named tensor of a Program. Users get one from ``static.data``, layers and functions.

    ``name`` is unlike all others in the Program; ``tensor_type`` has the dtype and the symbolic
    shape; ``block`` holds the variable and ``where`` is the user's line. ``persistable`` values
    live in a scope between runs; gradients stop where ``stop_gradient`` is set; ``is_data`` says
    that it is fed.

    Attributes:
        maker: the op of the Program that makes it. None for what is fed or kept between runs: ops
            of a Program assign state, they do not make it.
        uses: what reads it in the Program, and how often: ops, and blocks whose result it is.
    """

    __slots__ = (
        "block", "is_data", "maker", "name", "persistable", "stop_gradient", "tensor_type", "uses",
        "where",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        tensor_type: TensorType,
        *,
        block: Block,
        where: Where,
        persistable: bool = False,
        stop_gradient: bool = False,
        is_data: bool = False,
    ) -> None:
        self.name = name
        self.tensor_type = tensor_type
        self.block = block
        self.where = where
        self.persistable = persistable
        self.stop_gradient = stop_gradient
        self.is_data = is_data
        self.maker: Operator | None = None
        self.uses: dict[Operator | Block, int] = {}

    @property
    def program(self) -> Program:
        """The Program that holds the variable."""
        return self.block.program

    @property
    def dtype(self) -> np.dtype:
        """The element type."""
        return self.tensor_type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape as Paddle shows it: -1 for a dim that is not known while recording."""
        self._need_rank()
        return tuple(d if isinstance(d, int) else -1 for d in self.tensor_type.shape or ())

    @property
    def ndim(self) -> int:
        """The number of dims."""
        self._need_rank()
        return len(self.tensor_type.shape or ())

    def _need_rank(self) -> None:
        if self.tensor_type.shape is None:
            raise ArgumentTypeError(f"the rank of {self.name} is not known", where=self.where)

    @property
    def is_parameter(self) -> bool:
        """Whether the variable is a Parameter."""
        return isinstance(self, Parameter)

    @property
    def grad_name(self) -> str:
        """The name of the variable's gradient."""
        return self.name + GRAD_SUFFIX

    def get_value(self, scope: current_scope.Holder | None = None) -> np.ndarray:
        """The value that the scope holds (of a persistable variable).

        Raises:
            UninitializedError: there is none.
        """
        return current_scope.read([self], scope)[self.name]

    def set_value(self, value: object, scope: current_scope.Holder | None = None) -> None:
        """Replace the value in the scope.

        Raises:
            StateError: another shape or dtype, or the variable is not persistable.
        """
        own = {self.name: self} if self.persistable else {}
        current_scope.write(own, {self.name: np.asarray(value)}, scope)

    def _value_for(self, function: str) -> np.ndarray:
        """The value, for a function of Python or numpy, or a ``.method``, that asks for it.

        All of them ask here and nowhere else: a subclass whose variables have values overrides it.

        Raises:
            ArgumentTypeError: always: a variable has no value while a Program is recorded.
        """
        method = function.startswith(".")
        call = f"{self.name}{function}()" if method else f"{function}({self.name})"
        raise ArgumentTypeError(
            f"{call}: a variable has no value while a Program is recorded",
            operands=[(self.name, self.tensor_type)],
            where=self.where,
            fix=INSIDE.get(function, "") + "fetch it with Executor.run(program, feed, [variable])",
        )

    def numpy(self) -> np.ndarray:
        """The value as an array, where there is one: of a Program's variable there is none."""
        return self._value_for(".numpy")

    def tolist(self) -> Any:  # noqa: ANN401 - a number, or nested lists of them
        """The value as Python's numbers in lists, where there is one."""
        return self._value_for(".tolist").tolist()

    def item(self, *index: int) -> Any:  # noqa: ANN401 - a number of Python, or a str
        """The one element, or that at ``index``, where there is a value."""
        return self._value_for(".item").item(*index)

    def __bool__(self) -> bool:
        return bool(self._value_for("bool").item())

    def __float__(self) -> float:
        return float(self._value_for("float").item())

    def __int__(self) -> int:
        return int(self._value_for("int").item())

    def __complex__(self) -> complex:
        return complex(self._value_for("complex").item())

    def __index__(self) -> int:
        return operator.index(self._value_for("operator.index").item())

    def __len__(self) -> int:
        return len(self._value_for("len"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:  # noqa: ANN401
        value = self._value_for("numpy.asarray")
        return np.asarray(value, dtype) if copy is None else np.array(value, dtype, copy=copy)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} : {self.tensor_type}>"


class Parameter(Variable):
    """A persistable variable that optimizers train. Users get one from ``create_parameter``.

    ``name``, ``tensor_type``, ``block`` and ``where`` are those of a Variable. ``trainable=False``
    freezes it; ``learning_rate``, kept in ``optimize_attr``, multiplies the optimizer's rate;
    ``regularizer`` wins over the optimizer's; ``need_clip=False`` keeps its gradient out of
    clipping.
    """

    __slots__ = ("need_clip", "optimize_attr", "regularizer", "trainable")

    def __init__(
        self,
        name: str,
        tensor_type: TensorType,
        *,
        block: Block,
        where: Where,
        trainable: bool = True,
        learning_rate: float = 1.0,
        regularizer: object | None = None,
        need_clip: bool = True,
    ) -> None:
        super().__init__(
            name,
            tensor_type,
            block=block,
            where=where,
            persistable=True,
            stop_gradient=not trainable,
        )
        self.trainable = trainable
        self.optimize_attr = {"learning_rate": learning_rate}
        self.regularizer = regularizer
        self.need_clip = need_clip


class Constant(Variable):
    """A variable whose value is known while recording. Shared within a Program; read-only.

    ``content`` is equal for equal values.
    """

    __slots__ = ("content", "value")

    def __init__(
        self, name: str, value: np.ndarray, content: Content, *, block: Block, where: Where
    ) -> None:
        super().__init__(
            name, TensorType(value.dtype, value.shape), block=block, where=where, stop_gradient=True
        )
        self.value = value
        self.content = content

    def __repr__(self) -> str:
        return f"<Constant {self.name} : {dtype_text(self.dtype)}{list(self.value.shape)}>"
