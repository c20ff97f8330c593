"""Why a Program has nothing to train: its weights are integers."""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.errors import GradientError
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Constant, Variable

# The formal inputs in which ops take integer weights.
INTEGER_WEIGHTS: Mapping[str, tuple[str, ...]] = {
    "ConvInteger": ("w",),
    "DequantizeLinear": ("x",),
    "MatMulInteger": ("A", "B"),
    "QLinearConv": ("w",),
    "QLinearMatMul": ("a", "b"),
}


def integer_weights(program: Program) -> list[Constant]:
    """The constants, of more than one element, that quantized ops take as weights."""
    found: dict[int, Constant] = {}
    for block in program.blocks:
        for op in block.ops:
            for slot in INTEGER_WEIGHTS.get(op.type, ()):
                v = op.maybe(slot)
                if isinstance(v, Constant) and v.value.size > 1:
                    found[id(v)] = v
    return list(found.values())


def check_trainable(loss: Variable) -> None:
    """Raise GradientError if the Program's weights are integers and it has no parameters.

    To be asked where nothing was found to train.
    """
    weights = integer_weights(loss.program)
    if weights and not loss.program.all_parameters():
        raise GradientError(
            "the model is quantized: its weights are integers, which cannot train",
            operands=[(v.name, v.tensor_type) for v in weights],
            where=loss.where,
            fix="load the model as it was before it was quantized",
            all_operands=True,
        )
