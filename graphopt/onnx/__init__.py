"""``graphopt.onnx``: Programs as ONNX models."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import ModelProto

from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.onnx import backend
from graphopt.onnxio.write import inlined
from graphopt.runtime.plan.plan import plan_file
from graphopt.runtime.request.fetches import as_request


def to_model(
    program: Program,
    feed: Iterable[str | Variable] = (),
    fetch_list: object = None,
    inline: bool = False,
) -> ModelProto:
    """What ``Executor.run(program, feed, fetch_list)`` would run, as an ONNX model.

    Inputs: the feeds, then the state that is read, by name. Outputs: the fetches, then the next
    value of every state variable that is assigned, as ``<name>@NEXT``. Update rules are model-local
    functions; ``inline=True`` leaves ``ai.onnx`` ops only.

    ``feed`` holds names or Variables (the keys of a feed dict will do).

    >>> import graphopt as go
    >>> main = go.static.Program()
    >>> with go.static.program_guard(main):
    ...     x = go.static.data("x", [None, 3])
    ...     y = go.nn.functional.relu(x)
    >>> [node.op_type for node in to_model(main, ["x"], [y]).graph.node]
    ['Relu']

    Raises:
        UnknownVariableError: the Program has no variable that ``fetch_list`` names.
        ArgumentTypeError: ``fetch_list`` holds what is neither a Variable, a name nor an update op.
        ArgumentError: an update op in ``fetch_list`` is one of another Program.
    """
    names = tuple(v if isinstance(v, str) else v.name for v in feed)
    model = plan_file(program, as_request(program, fetch_list), names).lower().model
    return inlined(model) if inline else model


__all__ = ["backend", "to_model"]
