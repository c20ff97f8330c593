"""ai.onnx.preview.training::Gradient: a node that asks for gradients, which become ops at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from graphopt.errors import FileError
from graphopt.ir.edit.clone import Copies
from graphopt.ir.model.operator import Role
from graphopt.ir.model.reach import needed_ops
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.passes.gradients.backward import gradients

TYPE = "ai.onnx.preview.training::Gradient"


def differentiate(
    node: onnx.NodeProto, g: Tape, known: Mapping[str, Variable | None]
) -> list[Variable]:
    """The gradients of ``y`` with respect to each of ``xs``, at the values of the node's operands.

    The operands are values for ``xs`` then ``zs``. If they are other tensors than those, the ops
    between are recorded again over them. What y does not depend on has zeros.

    Raises:
        FileError: a name is not a value above the node.
        GradientError: an op on the way has no gradient.
    """
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    xs = [_named(node, name, known) for name in attrs["xs"]]
    zs = [_named(node, name, known) for name in attrs.get("zs", ())]
    y = _named(node, attrs["y"], known)
    points = [v for v in map(known.__getitem__, node.input) if v is not None]
    if [id(v) for v in points] != [id(v) for v in (*xs, *zs)]:
        y = _at(g, y, [*xs, *zs], points)
        xs = points[: len(xs)]
    made = gradients([y], xs)
    return [g.zeros_like(x) if d is None else d for x, d in zip(xs, made, strict=True)]


def _named(node: onnx.NodeProto, name: bytes, known: Mapping[str, Variable | None]) -> Variable:
    found = known.get(name.decode())
    if found is None:
        raise FileError(f"{node.name or node.output[0]}: nothing above makes {name.decode()!r}")
    return found


def _at(g: Tape, y: Variable, names: Sequence[Variable], points: Sequence[Variable]) -> Variable:
    """y as a function of ``names``, recorded again at other ``points``."""
    copies = Copies(g.program, Role.FORWARD)
    copies.known.update((id(v), x) for v, x in zip(names, points, strict=True))
    between, _ = needed_ops(g.block.ops, [y], stop=names)
    for op in between:
        g.record(copies.op(op, g.block))
    return copies.of(y)
