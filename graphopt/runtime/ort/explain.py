"""onnxruntime's failures said in terms of the user's Program."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from graphopt.errors import StepError
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import TensorType

NODE_NAME = re.compile(r"[Nn]ame:\s*'([^']*)'|node \(?([\w/.@-]+)\)?")
CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")


def explained(
    error: Exception, ops: Mapping[str, Operator], feeds: Mapping[str, np.ndarray], doing: str
) -> StepError:
    """An error that says which op failed, on what operands, and at which line of the user.

    Args:
        error: what onnxruntime raised; it is to be the cause of what is returned.
        ops: the model's ops by the names of their nodes.
        feeds: the fed arrays by name; their shapes are shown.
        doing: 'loading' or 'running'.
    """
    text = CODE.sub("", str(error)).strip()
    op = failed_op(text, ops)
    if op is None:
        return StepError(f"onnxruntime failed while {doing} the Program: {_first_line(text)}")
    operands = [
        (f"{op.definition.formal_input(k).name} = {v.name}", _described(v, feeds))
        for k, v in enumerate(op.inputs)
        if v is not None
    ]
    return StepError(
        f"{op.type} failed while {doing} the Program: {_reason(text)}",
        operands=operands,
        where=op.where,
        fix="see the shapes above; the original message is in __cause__",
    )


def failed_op(text: str, ops: Mapping[str, Operator]) -> Operator | None:
    """The op whose node a message names; None if it names none.

    Args:
        text: onnxruntime's message. It names nodes inside each other from the outside in: the
            innermost counts.
        ops: the ops by the names of their nodes.
    """
    names = [match[1] or match[2] for match in NODE_NAME.finditer(text)]
    calls = [name.rpartition("@")[0] for name in names]  # of what a composite does: the composite
    return next((ops[name] for name in (*reversed(names), *reversed(calls)) if name in ops), None)


def _described(variable: Variable, feeds: Mapping[str, np.ndarray]) -> str:
    declared = str(variable.tensor_type)
    if variable.name not in feeds:
        return declared
    array = feeds[variable.name]
    return f"fed {TensorType(array.dtype, array.shape)}, declared {declared}"


def _reason(text: str) -> str:
    """The sentence after the C++ location, or the first line."""
    tail = text.rsplit("Status Message: ", 1)[-1]
    tail = re.sub(r"^\S*\.(cc|h|cpp):\d+ .*?\) ", "", tail)
    return _first_line(tail)


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "no message"
