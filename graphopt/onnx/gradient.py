"""Gradients from model to model: what ``graphopt.grad`` is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from graphopt.errors import ArgumentError, DTypeError, UnknownVariableError, did_you_mean
from graphopt.ir.model.operator import Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.onnxio.interface import complete, under_own_names
from graphopt.onnxio.read import ReadModel, read
from graphopt.onnxio.source import open_model
from graphopt.onnxio.weights import state_kinds
from graphopt.onnxio.write import inlined
from graphopt.passes.gradients.backward import gradients
from graphopt.runtime.plan.plan import plan_file
from graphopt.runtime.request.fetches import as_request

Names = str | Sequence[str]


def grad(
    model: str | Path | bytes | onnx.ModelProto, wrt: Names, of: Names | None = None
) -> onnx.ModelProto:
    """The model with gradients as further outputs: vector-Jacobian products, in plain ONNX ops.

    ``model`` is a path, bytes or a ModelProto. ``wrt`` names inputs, weights or any other float
    values; ``of`` names what is differentiated, by default the model's only output. The result has
    the model's inputs and outputs, and behind these one output per name in ``wrt``, of the same
    shape, called ``<name>@GRAD``: the gradient of the sum over ``of`` of cotangent times value. The
    cotangent of a single number is 1; that of anything else is a further input ``<name>@GRAD`` of
    its shape. The gradient for a value that ``of`` does not depend on is zeros.

    Apply it twice for products with a Hessian (differentiate ``x@GRAD`` of a scalar ``of`` with
    respect to ``x``: the cotangent is the vector) or a Jacobian (differentiate ``x@GRAD`` with
    respect to the cotangent ``y@GRAD``). A name that is taken gets a number: ``x@GRAD_0``.

    >>> import numpy as np
    >>> import onnx, onnx.parser, onnx.reference
    >>> import graphopt as go
    >>> cube = onnx.parser.parse_model('''
    ...     <ir_version: 10, opset_import: ["": 21]>
    ...     cube (double[2] x) => (double y) { z = Mul(x, x)  c = Mul(z, x)
    ...         y = ReduceSum <keepdims = 0> (c) }''')
    >>> first = go.grad(cube, wrt="x")
    >>> [o.name for o in first.graph.output]
    ['y', 'x@GRAD']
    >>> second = go.grad(first, wrt="x", of="x@GRAD")
    >>> run = onnx.reference.ReferenceEvaluator(second).run
    >>> run(["x@GRAD_0"], {"x": np.array([1.0, 2.0]), "x@GRAD@GRAD": np.array([1.0, 0.0])})
    [array([6., 0.])]

    Raises:
        FileNotFoundError: there is no such file.
        FileError: the model cannot be read.
        ArgumentTypeError: ``model`` is not a path, bytes or a ModelProto.
        ArgumentError: ``of`` is not given, and the model does not have exactly one output.
        UnknownVariableError: the model has no value of a name.
        DTypeError: a value is not of floats.
        GradientError: ops on the way have no gradient; all are named.
        ShapeError: a node of the model does not fit the shapes of its operands.
    """
    found = read(open_model(model))
    targets = [_named(found, name) for name in _listed(of) or _only_output(found)]
    inputs = [_named(found, name) for name in _listed(wrt)]
    seeds = [_cotangent(found, v) for v in targets]
    made = gradients(targets, inputs, seeds)
    tape = Tape(found.program.global_block(), role=Role.BACKWARD)
    found.fetch_vars += [_result(tape, v, d) for v, d in zip(inputs, made, strict=True)]
    return written(found)


def written(found: ReadModel) -> onnx.ModelProto:
    """A model that was read, as a file again: its weights are initializers."""
    request = as_request(found.program, found.fetch_vars)
    request.updates = "none"
    plan = plan_file(found.program, request, found.feed_names)
    lowered = plan.lower()
    model = inlined(lowered.model)
    feeds = [found.program.global_block().var(name) for name in found.feed_names]
    complete(model, feeds, lowered.fetched)
    under_own_names(model, dict(zip(lowered.fetched, found.fetch_vars, strict=True)))
    held = [v for v in plan.inputs if v.persistable]
    state_kinds(model, held)
    _bake(model, {v.name: found.values[v.name] for v in held})
    return model


def _bake(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> None:
    kept = [onnx.ValueInfoProto.FromString(i.SerializeToString())
            for i in model.graph.input if i.name not in values]  # fmt: skip
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for name, value in values.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))


def _listed(names: Names | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())


def _only_output(found: ReadModel) -> list[str]:
    names = [v.name for v in found.fetch_vars]
    if len(names) != 1:
        raise ArgumentError(
            f"the model has {len(names)} outputs: grad must be told of which",
            fix=f"pass of=, one or more of {', '.join(names[:8])}",
        )
    return names


def _named(found: ReadModel, name: str) -> Variable:
    variables = _variables(found.program)
    if name not in variables:
        fix = did_you_mean(name, variables) or f"it has {', '.join([*variables][:8])}, …"
        raise UnknownVariableError(f"the model has no value {name!r}", fix=fix)
    variable = variables[name]
    if not variable.tensor_type.is_float:
        raise DTypeError(
            f"{name} is not of floats, so it has no gradient",
            operands=[(name, variable.tensor_type)],
            where=variable.where,
        )
    return variable


def _variables(program: Program) -> dict[str, Variable]:
    """Values by name; constants of the file too."""
    found: dict[str, Variable] = {c.name: c for c in program.constants.values()}
    return {**found, **program.global_block().vars}


def _cotangent(found: ReadModel, target: Variable) -> Variable | None:
    """A further input, unless the target is a single number."""
    shape = target.tensor_type.shape
    if shape is not None and all(d == 1 for d in shape):
        return None
    block = found.program.global_block()
    name = found.program.unused_name(target.grad_name)
    variable = Variable(
        name, target.tensor_type, block=block, where=target.where, stop_gradient=True, is_data=True
    )
    block.add_var(variable)
    found.feed_names.append(name)
    return variable


def _result(g: Tape, v: Variable, grad: Variable | None) -> Variable:
    """The gradient of v as an op's result: zeros if there is none, a copy of a cotangent."""
    names = [g.program.unused_name(v.grad_name)]
    if grad is None:
        zero = g.const(np.zeros((), v.dtype))
        grad = g.emit("Expand", zero, g.shape_of(v), names=names)
    elif grad.is_data:
        grad = g.emit("Identity", grad, names=names)
    return grad
