"""The types of persistable variables, as onnxruntime says them."""

from __future__ import annotations

from graphopt.errors import FeedError
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import fits
from graphopt.runtime.ort.values import Value


class StateType:
    """The type of a persistable variable as onnxruntime says it, to check the scope's values.

    Args:
        variable: the variable.

    Attributes:
        data_type: onnxruntime's name of the type, such as ``tensor(float)``.
        shape: the dims; None if some are open.
    """

    def __init__(self, variable: Variable) -> None:
        self.variable = variable
        name = variable.dtype.name
        self.data_type = f"tensor({_ORT_NAMES.get(name, name)})"
        self.shape = list(variable.shape) if variable.tensor_type.is_static else None

    def fits(self, value: Value) -> bool:
        """Whether ``value`` has this type."""
        if self.data_type != value.data_type():
            return False
        if self.shape is not None:
            return bool(value.shape() == self.shape)
        return fits(value.shape(), self.variable.tensor_type.shape)

    def check(self, value: Value) -> None:
        """Refuse a value of another type.

        Args:
            value: what the scope holds for the variable.

        Raises:
            FeedError: it has another dtype, or a shape that the variable cannot have.
        """
        if self.fits(value):
            return
        raise misfit(self.variable, f"{value.data_type()} {value.shape()}")


def misfit(v: Variable, held: object) -> FeedError:
    """What is raised where the scope holds a value of another type than its variable's.

    Args:
        v: the variable.
        held: the type of the value.
    """
    return FeedError(
        f"the scope holds {v.name} with another type than the Program's",
        operands=[("declared", v.tensor_type), ("in the scope", held)],
        where=v.where,
        fix=f"set it to an array of type {v.tensor_type}",
    )


_ORT_NAMES = {"float32": "float", "float64": "double"}
