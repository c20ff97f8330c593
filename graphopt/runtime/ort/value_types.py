"""The types of persistable variables in onnxruntime's words."""

from __future__ import annotations

from graphopt.errors import FeedError
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import fits
from graphopt.runtime.ort.values import Value


class StateType:
    """The type of a persistable variable in onnxruntime's words, made once: checks are per step."""

    def __init__(self, variable: Variable) -> None:
        self.variable = variable
        name = variable.dtype.name
        self.data_type = f"tensor({_ORT_NAMES.get(name, name)})"
        self.shape = list(variable.shape) if variable.tensor_type.is_static else None

    def fits(self, value: Value) -> bool:
        """Whether a value has this type."""
        if self.data_type != value.data_type():
            return False
        if self.shape is not None:
            return bool(value.shape() == self.shape)
        return fits(value.shape(), self.variable.tensor_type.shape)

    def check(self, value: Value) -> None:
        """Raise FeedError if the scope holds a value of another type."""
        if self.fits(value):
            return
        raise misfit(self.variable, f"{value.data_type()} {value.shape()}")


def misfit(v: Variable, held: object) -> FeedError:
    """What is raised where the scope holds ``held`` for a variable of another type."""
    return FeedError(
        f"the scope holds {v.name} with another type than the Program's",
        operands=[("declared", v.tensor_type), ("in the scope", held)],
        where=v.where,
        fix=f"set it to an array of type {v.tensor_type}",
    )


_ORT_NAMES = {"float32": "float", "float64": "double"}
