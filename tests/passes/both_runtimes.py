"""Programs run by onnxruntime and by onnx's reference evaluator, state included."""

import numpy as np
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from graphopt.ir.text.parse import parse
from graphopt.ir.types.types import TensorType
from graphopt.onnxio.write import inlined, lower
from graphopt.passes.select.prune import free_variables

RUNTIMES = ["onnxruntime", "reference"]


class FusedMatMul(OpRun):
    """What onnxruntime's documentation says of it."""

    op_domain = "com.microsoft"

    def _run(self, a, b, transA=0, transB=0, alpha=1.0, **_):
        a = np.swapaxes(a, -1, -2) if transA else a
        b = np.swapaxes(b, -1, -2) if transB else b
        return ((alpha * (a @ b)).astype(a.dtype),)


class FusedGemm(OpRun):
    """The same."""

    op_domain = "com.microsoft"

    def _run(self, a, b, c=None, activation="", transA=0, transB=0, alpha=1.0, beta=1.0, **_):
        assert activation == "Relu"
        product = alpha * ((a.T if transA else a) @ (b.T if transB else b))
        return (np.maximum(product if c is None else product + beta * c, 0).astype(a.dtype),)


FUSED = (FusedGemm, FusedMatMul)


def lines(program):
    """The ops, without the header and the declarations."""
    text = program.text(where=False).splitlines()[1:]
    kinds = ("feed ", "param ", "state ", "frozen ", "var ", "-- ")
    return [line.strip() for line in text if not line.strip().startswith(kinds)]


def rewritten(step, text):
    """The ops of a Program's text after a pass, which must leave its input alone."""
    program = parse(text)
    before = program.text()
    result = step.run(program)
    assert program.text() == before
    if "const " not in result.text():
        assert parse(result.text()).text() == result.text()
    return lines(result)


class Runner:
    """A Program as a step that is run again and again; state starts from ``values``."""

    def __init__(self, program, fetch, values, runtime):
        block = program.global_block()
        state = {v.name: v for op in block.ops for v in op.writes() if v.persistable}
        inputs = {v.name: v for v in free_variables(program)}
        lowered = lower(
            program, [*inputs.values()], [block.var(f) for f in fetch], [*state.values()]
        )
        self.lowered, self.names = lowered, lowered.inputs
        self.values = {name: values[name] for name in {*inputs, *state} if name in values}
        model = inlined(lowered.model)
        self.outputs = [o.name for o in model.graph.output]
        if runtime == "onnxruntime":
            options = ort.SessionOptions()
            options.log_severity_level = 4
            self.run = ort.InferenceSession(model.SerializeToString(), options).run
        else:
            self.run = ReferenceEvaluator(model, new_ops=[*FUSED]).run

    def step(self, feeds=None):
        """The fetched values of one step, and all state after it."""
        given = {**self.values, **(feeds or {})}
        found = self.run(self.outputs, {name: given[name] for name in self.names})
        made = dict(zip(self.outputs, found, strict=True))
        for name, output in self.lowered.next_state.items():
            self.values[name] = np.asarray(made[output])
        return [np.asarray(made[f]) for f in self.lowered.fetched]

    def state(self):
        """The state by name."""
        return {name: self.values[name] for name in self.lowered.next_state}


def sample_values(program, rng, sizes=None):
    """Random values for what the Program reads; every open dim is ``sizes[symbol]`` or 3."""
    return {v.name: _sample(v.tensor_type, rng, sizes or {}) for v in free_variables(program)}


def _sample(kind: TensorType, rng, sizes):
    shape = [d if isinstance(d, int) else sizes.get(d, 3) for d in kind.shape or ()]
    if kind.dtype.kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if kind.dtype.kind in "iu":
        return np.asarray(rng.integers(0, 3, shape), kind.dtype)
    return np.asarray(rng.uniform(0.5, 2.0, shape), kind.dtype)


def agree(found, expected, rtol=1e-6):
    """The arrays are equal up to ``rtol`` of the largest element."""
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.max(np.abs(b), initial=0.0))
