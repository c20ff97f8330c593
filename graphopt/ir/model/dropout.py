"""Whether a Dropout drops: asked by its gradient, and by the passes that redraw or remove it."""

from __future__ import annotations

from graphopt.ir.model.operator import Operator
from graphopt.ir.model.variable import Constant


def drops(op: Operator) -> bool | None:
    """Whether a Dropout is in training mode; None if only the run knows.

    Without its operand ``training_mode`` a Dropout passes its input through, as ONNX has it.
    """
    training = op.maybe("training_mode")
    if training is None:
        return False
    return bool(training.value) if isinstance(training, Constant) else None
