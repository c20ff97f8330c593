"""Builds a card's case as a Program, and evaluates Programs in float64 on the reference."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.reference
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_erf import Erf

from graphopt.ir.model.program import Program
from graphopt.ir.model.schema import op_def
from graphopt.ir.model.variable import Constant, Variable
from graphopt.onnxio.write import inlined, lower
from graphopt.ops.registry.cases import Case, Draw
from graphopt.passes.select.prune import Prune

# onnx's reference Erf (1.23) rounds to float32 whatever the dtype, also inside the body of Gelu
Erf._run = lambda self, x: (np.vectorize(math.erf, otypes=[x.dtype])(x),)  # type: ignore[method-assign]


class GlobalLpPool(OpRun):
    """The reference evaluator has none."""

    def _run(self, x, p=2):
        flat = x.reshape(*x.shape[:2], -1)
        return (np.linalg.norm(flat, p, axis=2).reshape(*x.shape[:2], *[1] * (x.ndim - 2)),)


NEW_OPS: list[type[OpRun]] = [GlobalLpPool]


@dataclass
class Built:
    """A Program with one op, its fed operands with values, and its float results."""

    program: Program
    feeds: dict[str, np.ndarray]
    wrt: list[Variable]
    results: list[Variable]


def build(type: str, case: Case, rng: np.random.Generator, *, symbolic: bool, dtype="f8") -> Built:
    program = Program()
    block = program.global_block()
    feeds: dict[str, np.ndarray] = {}
    wrt: list[Variable] = []

    def operand(name, spec):
        if spec is None:
            return None
        if isinstance(spec, list):
            return [operand(f"{name}{k}", s) for k, s in enumerate(spec)]
        if not isinstance(spec, Draw):
            value = np.asarray(spec)
            return program.constant(value.astype(dtype) if value.dtype.kind == "f" else value)
        value = spec.sample(rng, spec.shape)
        value = value.astype(dtype) if value.dtype.kind == "f" else value
        hidden = symbolic and spec.symbolic  # a dim of 1 stays: only it may be broadcast
        shape = [None if hidden and d != 1 else d for d in value.shape]
        variable = block.create_var(name, shape, value.dtype)
        variable.is_data = True
        feeds[name] = value
        if variable.tensor_type.is_float:
            wrt.append(variable)
        return variable

    operands = []
    for formal in op_def(type).inputs:
        found = operand(formal.name, case.inputs.get(formal.name))
        operands += found if isinstance(found, list) else [found]
    made = program.recorder().emit(type, *operands, outputs=case.results, **case.attrs)
    results = [made] if case.results == 1 else list(made)
    return Built(program, feeds, wrt, [r for r in results if r.tensor_type.is_float])


def evaluate(program: Program, fetch: Sequence[Any], feeds: dict[str, np.ndarray]):
    """The fetched values, and the model that gave them."""
    run = prepared(program, fetch)
    return run(feeds), run.model


def prepared(program: Program, fetch: Sequence[Any]) -> "Run":
    """What evaluates the fetched variables of the Program as it is now, once or many times."""
    step = Prune(tuple(v if isinstance(v, Constant) else v.name for v in fetch)).run(program)
    inputs = step.inputs()
    lowered = lower(step)
    model = inlined(lowered.model)
    if all(v.tensor_type.shape is not None for v in (*inputs, *step.fetch)):  # or it is refused
        onnx.checker.check_model(model, full_check=True)
    return Run(model, [v.name for v in inputs], list(lowered.fetched))


class Run:
    """A model on the reference evaluator."""

    def __init__(self, model: onnx.ModelProto, inputs: list[str], fetched: list[str]) -> None:
        self.model, self.inputs, self.fetched = model, inputs, fetched
        self.session = onnx.reference.ReferenceEvaluator(model, new_ops=NEW_OPS)

    def __call__(self, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = self.session.run(None, {name: feeds[name] for name in self.inputs})
        by_name = dict(zip([o.name for o in self.model.graph.output], found, strict=True))
        return [np.asarray(by_name[name]) for name in self.fetched]
