"""Metrics as ops of the Program."""

from __future__ import annotations

import numpy as np

from graphopt.ir.model.variable import Variable
from graphopt.ir.types.types import to_onnx_dtype
from graphopt.scoping import recorder


def accuracy(input: Variable, label: Variable, k: int = 1) -> Variable:
    """The share of rows whose label is among the ``k`` largest scores.

    input: [n, classes], the scores   label: i64[n] or [n, 1]   result: f32[]

    >>> import graphopt as go
    >>> with go.static.program_guard(go.static.Program()):
    ...     scores = go.static.data("scores", [None, 10])
    ...     label = go.static.data("label", [None], "int64")
    ...     print(go.static.accuracy(scores, label).tensor_type)
    f32[]
    """
    g = recorder(input, label)
    if k == 1:
        best = g.ArgMax(input, axis=-1, keepdims=1)  # [n, 1]
    else:
        _, best = g.TopK(input, np.array([k]), outputs=2)  # [n, k]
    column = g.Unsqueeze(label, np.array([1])) if label.ndim == 1 else label  # [n, 1]
    hits = g.Cast(g.Equal(best, g.cast(column, np.dtype("i8"))), to=to_onnx_dtype(np.dtype("f4")))
    found: Variable = g.ReduceMean(g.ReduceSum(hits, np.array([1]), keepdims=0), keepdims=0)
    return found
