"""Programs run by onnxruntime and by onnx's reference evaluator, state included."""

import numpy as np
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from graphopt.ir.model.step import Step
from graphopt.ir.text.parse import parse
from graphopt.ir.types.types import TensorType
from graphopt.onnxio.write import inlined, lower
from graphopt.passes.select.functional import functional

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


def as_step(program, *fetch, feed=()):
    """The Step of all ops of a Program, or of its text, that gives variables of these names."""
    program = parse(program) if isinstance(program, str) else program
    if isinstance(program, Step):
        return program
    block = program.global_block()
    return functional(program, fetch=[block.var(name) for name in fetch], feed=feed)


def lines(step):
    """The ops, without the header, the declarations and what is given."""
    text = step.text(where=False).splitlines()[1:]
    kinds = ("feed ", "param ", "state ", "frozen ", "var ", "-- ", "#")
    found = [line.strip() for line in text if not line.strip().startswith(kinds)]
    return found[:-1] if found and text[-1].startswith("  ->") else found


def rewritten(step_pass, text, *fetch):
    """The ops of the Step of a Program's text after a pass, which must leave its input alone."""
    step = as_step(text, *fetch)
    before = step.text()
    result = step_pass.run(step)
    assert step.text() == before
    if "const " not in result.text():
        assert parse(result.text()).text() == result.text()
    return lines(result)


class Runner:
    """The Step of a Program, run again and again; state starts from ``values``.

    What many steps are fed goes by the names that it has in one.
    """

    def __init__(self, program, fetch, values, runtime):
        step = as_step(program, *fetch)
        lowered = lower(step)
        state = [v.name for v in step.states]
        self.lowered, self.names = lowered, lowered.inputs
        self.stacks = {name: v.name for name, v in step.slices.items()}
        self.values = {n: values[n] for n in {*lowered.inputs, *state} if n in values}
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
        fed = {self.stacks.get(name, name): value for name, value in (feeds or {}).items()}
        given = {**self.values, **fed}
        found = self.run(self.outputs, {name: np.asarray(given[name]) for name in self.names})
        made = dict(zip(self.outputs, found, strict=True))
        for name, output in self.lowered.next_state.items():
            self.values[name] = np.asarray(made[output])
        return [np.asarray(made[f]) for f in self.lowered.fetched]

    def state(self):
        """The state by name."""
        return {name: self.values[name] for name in self.lowered.next_state}


def sample_values(step, rng, sizes=None):
    """Random values for what the Step reads; every open dim is ``sizes[symbol]`` or 3."""
    inputs = as_step(step).inputs()
    return {v.name: _sample(v.tensor_type, rng, sizes or {}) for v in inputs}


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
