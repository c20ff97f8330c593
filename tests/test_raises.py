"""The errors that docstrings name under ``Raises:`` are raised, and those raised are named."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import onnx.helper
import onnx.parser
import pytest

import graphopt
from graphopt.errors import (
    ArgumentError,
    ArgumentTypeError,
    DeviceError,
    DTypeError,
    FeedError,
    FileError,
    GradientError,
    LossError,
    MissingFeedError,
    ShapeError,
    StateError,
    UninitializedError,
    UnknownVariableError,
)

go: Any = graphopt  # the arguments are wrong on purpose
Backend, Rep = go.onnx.backend.GraphoptBackend, go.onnx.backend.GraphoptBackendRep
backend, initializer, regularizer = go.onnx.backend, go.nn.initializer, go.regularizer
optimizer, lr, Base = go.optimizer, go.optimizer.lr, go.optimizer.Optimizer
Merge, global_var = go.optimizer.GradientMerge, go.static.create_global_var


def x(dtype="float32"):
    """A fed variable : [N, 4]."""
    return go.static.data(f"x_{dtype}", [None, 4], dtype)


def loss():
    """The mean of x w."""
    return go.mean(x() * go.create_parameter([4], name="w"))


def model(body="g (float[2] x) => (float[2] y) { y = Relu(x) }"):
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {body}')


X = np.zeros(2, np.float32)
UNFIT = (
    "g (float[2] x) => (float[2] y) { z = Constant <value = float[3] {0, 0, 0}> () y = Add(x, z) }"
)
UNKNOWN = "g (float[2] x) => (float[2] y) { y = Addition(x, x) }"


def bits():
    """A loss behind an op that has no gradient."""
    p = go.create_parameter([3, 3])
    return go.sum(go.static.default_main_program().recorder().BitCast(go.exp(p), to=1))


def loaded(name):
    """An optimizer that took over the state of a vector with this name."""
    taker = optimizer.Adagrad(0.1)
    taker.set_state_dict({f"{name}_moment_0": np.zeros(3, np.float32)})
    return taker


def trained():
    """An optimizer whose state has no value yet."""
    used = optimizer.Adagrad(0.1)
    used.minimize(loss())
    return used


def weight(first=None, dtype="float32"):
    """A parameter w : [2]."""
    return go.create_parameter([2], dtype, name="w", default_initializer=first)


def to_model(fetch_list, program=None):
    return go.onnx.to_model(program or go.static.default_main_program(), [], fetch_list)


def run(inputs):
    return backend.prepare(model()).run(inputs)


def run_node(op, *arrays, domain=""):
    node = onnx.helper.make_node(op, ["a", "b"], ["c"], domain=domain)
    return backend.run_node(node, list(arrays))


SHARED = [
    (go.abs, ArgumentTypeError, lambda: go.abs("a")),
    (go.sum, ArgumentTypeError, lambda: go.sum(x(), axis="a")),
    (go.sum, ArgumentError, lambda: go.sum(x(), axis=2)),
    (go.full, ArgumentTypeError, lambda: go.full(["a"], 0)),
    (go.ones, ArgumentTypeError, lambda: go.ones([2], "float31")),
    (go.add, ArgumentError, lambda: go.add(x("int64"), np.array([2**64 - 1], np.uint64))),
    (go.add, ShapeError, lambda: go.add(x(), [1.0, 2.0])),
    (go.add, DTypeError, lambda: go.add(x("int64"), x())),
    (go.exp, DTypeError, lambda: go.exp(x("int64"))),
]

TENSOR = [
    (go.arange, ArgumentError, lambda: go.arange(0, 5, 0)),
    (go.arange, ArgumentError, lambda: go.arange(0.5, 5, dtype="int64")),
    (go.assign, ShapeError, lambda: go.assign(x(), go.create_parameter([2, 2]))),
    (go.assign, ArgumentError, lambda: go.assign([1.0], go.abs([2.0]))),
    (go.linspace, ArgumentTypeError, lambda: go.linspace(0, 1, 2.5)),
    (go.linspace, ArgumentError, lambda: go.linspace(0, 1, -1)),
    (go.diag, ArgumentError, lambda: go.diag(1.0)),
    (go.diagonal, ArgumentError, lambda: go.diagonal(x(), axis1=0, axis2=-2)),
    (go.einsum, ArgumentError, lambda: go.einsum("ij,jk->ik", x())),
    (go.bmm, ArgumentError, lambda: go.bmm(x(), x())),
    (go.dot, ArgumentError, lambda: go.dot(1.0, x())),
    (go.t, ArgumentError, lambda: go.t([[[1.0]]])),
    (go.chunk, ArgumentTypeError, lambda: go.chunk(x(), 2.5, axis=1)),
    (go.chunk, ArgumentError, lambda: go.chunk(x(), 3, axis=1)),
    (go.concat, ArgumentError, lambda: go.concat([])),
    (go.flatten, ArgumentError, lambda: go.flatten(x(), 1, 0)),
    (go.reshape, ArgumentError, lambda: go.reshape(x(), [-1, -1])),
    (go.reshape, ArgumentError, lambda: go.reshape(x(), [0, 0, 0])),
    (go.reshape, ShapeError, lambda: go.reshape([1.0, 2.0], [3])),
    (go.roll, ArgumentTypeError, lambda: go.roll(x(), 1.5)),
    (go.roll, ArgumentError, lambda: go.roll(x(), [1, 2], axis=0)),
    (go.roll, ArgumentError, lambda: go.roll(x(), [1, 2])),
    (go.roll, ArgumentError, lambda: go.roll(x(), [])),
    (go.split, ArgumentTypeError, lambda: go.split(x(), 2.5)),
    (go.split, ArgumentError, lambda: go.split(x(), [3, 3], axis=1)),
    (go.stack, ArgumentError, lambda: go.stack(x())),
    (go.transpose, ArgumentError, lambda: go.transpose(x(), [0, 0])),
    (go.unbind, ArgumentError, lambda: go.unbind(x())),
    (go.unstack, ArgumentError, lambda: go.unstack(x(), axis=1, num=3)),
    (go.clip, ArgumentError, lambda: go.clip(x(), min=[0.0, 1.0])),
    (go.clip, ArgumentError, lambda: go.clip(x(), max=[])),
    (go.increment, ArgumentTypeError, lambda: go.increment(1.0)),
    (go.put_along_axis, ArgumentError, lambda: go.put_along_axis(x(), [[0]], 1.0, 1, "sub")),
    (go.uniform, ArgumentTypeError, lambda: go.uniform(3)),
    (go.uniform, ArgumentTypeError, lambda: go.uniform([2], min="a")),
    (go.uniform, ArgumentError, lambda: go.uniform([-2])),
    (go.uniform, DTypeError, lambda: go.uniform([2], "int64")),
    (go.rand, ArgumentTypeError, lambda: go.rand(3)),
    (go.rand, ArgumentError, lambda: go.rand([-2])),
    (go.rand, DTypeError, lambda: go.rand([2], "int64")),
    (go.randn, ArgumentTypeError, lambda: go.randn(3)),
    (go.randn, ArgumentError, lambda: go.randn([-2])),
    (go.randn, DTypeError, lambda: go.randn([2], "int64")),
    (go.normal, ArgumentTypeError, lambda: go.normal(shape=3)),
    (go.normal, ArgumentError, lambda: go.normal()),
    (go.randint, ArgumentTypeError, lambda: go.randint(1.5)),
    (go.randint, ArgumentTypeError, lambda: go.randint(5, shape=3)),
    (go.randint, ArgumentError, lambda: go.randint(5, 5)),
    (go.randperm, ArgumentTypeError, lambda: go.randperm(2.5)),
    (go.randperm, ArgumentError, lambda: go.randperm(0)),
    (go.multinomial, ArgumentError, lambda: go.multinomial(x(), 5)),
    (go.norm, ArgumentError, lambda: go.norm(x(), p="nuc")),
    (go.broadcast_to, ShapeError, lambda: go.broadcast_to(x(), [2, 3])),
    (go.expand, ShapeError, lambda: go.expand(x(), [2, 3])),
    (go.expand_as, ShapeError, lambda: go.expand_as([1.0, 2.0], x())),
    (go.repeat_interleave, ArgumentError, lambda: go.repeat_interleave(x(), [1, 2], axis=1)),
    (go.gather, ArgumentError, lambda: go.gather(x(), [[[0]]])),
    (go.index_sample, ArgumentError, lambda: go.index_sample(x(), [0])),
    (go.index_select, ArgumentError, lambda: go.index_select(x(), [[0]])),
    (go.topk, ArgumentError, lambda: go.topk(x(), 5)),
    (go.where, ArgumentError, lambda: go.where(x() > 0.0, 1.0)),
]

OPTIMIZER = [
    (Base, ArgumentError, lambda: optimizer.SGD(None)),
    (Base, ArgumentError, lambda: optimizer.SGD(0.1, [{"weight_decay": 0.1}])),
    (Base, ArgumentTypeError, lambda: optimizer.SGD(1)),
    (Base, ArgumentTypeError, lambda: optimizer.SGD(0.1, grad_clip=1.0)),
    (optimizer.Adam, ArgumentError, lambda: optimizer.Adam(beta1=1.0)),
    (optimizer.Adam, ArgumentTypeError, lambda: optimizer.Adam(epsilon="a")),
    (optimizer.AdamW, ArgumentTypeError, lambda: optimizer.AdamW(weight_decay="a")),
    (optimizer.AdamW, ArgumentTypeError, lambda: optimizer.AdamW(lr_ratio=2.0)),
    (optimizer.AdamW, ArgumentError, lambda: optimizer.AdamW(epsilon=-1.0)),
    (optimizer.Adamax, ArgumentError, lambda: optimizer.Adamax(beta2=1.0)),
    (optimizer.Adamax, ArgumentTypeError, lambda: optimizer.Adamax(beta2="a")),
    (optimizer.Lamb, ArgumentError, lambda: optimizer.Lamb(beta2=1.0)),
    (optimizer.Lamb, ArgumentTypeError, lambda: optimizer.Lamb(lamb_weight_decay=None)),
    (optimizer.NAdam, ArgumentError, lambda: optimizer.NAdam(momentum_decay=-1.0)),
    (optimizer.NAdam, ArgumentTypeError, lambda: optimizer.NAdam(momentum_decay="a")),
    (optimizer.RAdam, ArgumentError, lambda: optimizer.RAdam(epsilon=None)),
    (optimizer.RAdam, ArgumentTypeError, lambda: optimizer.RAdam(epsilon="a")),
    (optimizer.Adadelta, ArgumentError, lambda: optimizer.Adadelta(rho=-1.0)),
    (optimizer.Adadelta, ArgumentTypeError, lambda: optimizer.Adadelta(rho="a")),
    (optimizer.Adagrad, ArgumentError, lambda: optimizer.Adagrad(0.1, epsilon=None)),
    (optimizer.Adagrad, ArgumentTypeError, lambda: optimizer.Adagrad(0.1, epsilon="a")),
    (optimizer.RMSProp, ArgumentError, lambda: optimizer.RMSProp(0.1, momentum=-1.0)),
    (optimizer.RMSProp, ArgumentTypeError, lambda: optimizer.RMSProp(0.1, momentum="a")),
    (optimizer.ASGD, ArgumentError, lambda: optimizer.ASGD(batch_num=0)),
    (optimizer.ASGD, ArgumentError, lambda: optimizer.ASGD(history="tape")),
    (optimizer.ASGD, ArgumentTypeError, lambda: optimizer.ASGD(batch_num=1.5)),
    (optimizer.Momentum, ArgumentTypeError, lambda: optimizer.Momentum(momentum=None)),
    (optimizer.Rprop, ArgumentError, lambda: optimizer.Rprop(etas=(0.5, 0.9))),
    (optimizer.Rprop, ArgumentError, lambda: optimizer.Rprop(learning_rate_range=(0.0, 1.0))),
    (Merge, ArgumentTypeError, lambda: Merge(0.1)),
    (Merge, ArgumentError, lambda: Merge(optimizer.SGD(0.1), k_steps=0)),
    (Merge.minimize, ArgumentTypeError, lambda: Merge(optimizer.SGD(0.1)).minimize(1.0)),
    (Merge.minimize, LossError, lambda: Merge(optimizer.SGD(0.1)).minimize(x())),
    (Base.set_lr, ArgumentTypeError, lambda: optimizer.SGD(0.1).set_lr("a")),
    (Base.set_lr, StateError, lambda: optimizer.SGD(lr.StepDecay(0.1, 2)).set_lr(0.1)),
    (Base.set_lr_scheduler, ArgumentTypeError, lambda: optimizer.SGD(0.1).set_lr_scheduler(0.1)),
    (Base.minimize, ArgumentTypeError, lambda: optimizer.SGD(0.1).minimize(1.0)),
    (
        Base.minimize,
        ArgumentTypeError,
        lambda: optimizer.SGD(0.1).minimize(loss(), no_grad_set=[1]),
    ),
    (Base.minimize, LossError, lambda: optimizer.SGD(0.1).minimize(x())),
    (Base.minimize, GradientError, lambda: optimizer.SGD(0.1).minimize(bits())),
    (
        Base.minimize,
        UnknownVariableError,
        lambda: optimizer.SGD(0.1).minimize(loss(), checkpoints=["h"]),
    ),
    (Base.minimize, StateError, lambda: loaded("v").minimize(loss())),
    (Base.minimize, ShapeError, lambda: loaded("w").minimize(loss())),
    (Base.backward, LossError, lambda: optimizer.SGD(0.1).backward(x())),
    (
        Base.append_regularization_ops,
        ArgumentTypeError,
        lambda: optimizer.SGD(0.1).append_regularization_ops([], "L2"),
    ),
    (Base.state_dict, UninitializedError, lambda: trained().state_dict(go.static.Scope())),
    (Base.set_state_dict, StateError, lambda: trained().set_state_dict({})),
    (lr.LRScheduler, ArgumentTypeError, lambda: lr.ExponentialDecay("a", 0.5)),
    (lr.LRScheduler, ArgumentError, lambda: lr.ExponentialDecay(-1.0, 0.5)),
    (lr.LRScheduler.step, ArgumentError, lambda: lr.OneCycleLR(0.1, 5).step(6)),
    (lr.LRScheduler.set_state_dict, StateError, lambda: lr.StepDecay(0.1, 2).set_state_dict({})),
    (lr.CosineAnnealingDecay, ArgumentTypeError, lambda: lr.CosineAnnealingDecay(0.1, 2.5)),
    (lr.CosineAnnealingDecay, ArgumentTypeError, lambda: lr.CosineAnnealingDecay(0.1, 2, "a")),
    (lr.CosineAnnealingDecay, ArgumentError, lambda: lr.CosineAnnealingDecay(0.1, 0)),
    (
        lr.CosineAnnealingWarmRestarts,
        ArgumentError,
        lambda: lr.CosineAnnealingWarmRestarts(0.1, 2).step(-1),
    ),
    (lr.OneCycleLR, ArgumentTypeError, lambda: lr.OneCycleLR(0.1, 5, phase_pct=1)),
    (lr.OneCycleLR, ArgumentError, lambda: lr.OneCycleLR(0.1, 5, anneal_strategy="sin")),
    (lr.CyclicLR, ArgumentTypeError, lambda: lr.CyclicLR(0.1, 0.5, 2, exp_gamma=1)),
    (lr.CyclicLR, ArgumentError, lambda: lr.CyclicLR(0.1, 0.5, 2, mode="square")),
    (lr.NoamDecay, ArgumentError, lambda: lr.NoamDecay(0, 1)),
    (lr.NaturalExpDecay, ArgumentError, lambda: lr.NaturalExpDecay(0.1, 0)),
    (lr.ExponentialDecay, ArgumentError, lambda: lr.ExponentialDecay(0.1, 1.5)),
    (lr.PolynomialDecay, ArgumentError, lambda: lr.PolynomialDecay(0.1, 2, power=0)),
    (lr.LinearLR, ArgumentTypeError, lambda: lr.LinearLR(0.1, 2.5)),
    (lr.LinearLR, ArgumentError, lambda: lr.LinearLR(0.1, 2, start_factor=0)),
    (lr.LambdaDecay, ArgumentTypeError, lambda: lr.LambdaDecay(0.1, 0.5)),
    (lr.MultiplicativeDecay, ArgumentTypeError, lambda: lr.MultiplicativeDecay(0.1, 0.5)),
    (lr.ReduceOnPlateau, ArgumentTypeError, lambda: lr.ReduceOnPlateau("a")),
    (lr.ReduceOnPlateau, ArgumentError, lambda: lr.ReduceOnPlateau(0.1, mode="best")),
    (lr.ReduceOnPlateau.step, ArgumentTypeError, lambda: lr.ReduceOnPlateau(0.1).step(x())),
    (lr.ReduceOnPlateau.step, ArgumentError, lambda: lr.ReduceOnPlateau(0.1).step(np.ones(2))),
    (lr.PiecewiseDecay, ArgumentError, lambda: lr.PiecewiseDecay([2], [0.1])),
    (lr.MultiStepDecay, ArgumentTypeError, lambda: lr.MultiStepDecay(0.1, 2)),
    (lr.MultiStepDecay, ArgumentError, lambda: lr.MultiStepDecay(0.1, [3, 2])),
    (lr.StepDecay, ArgumentTypeError, lambda: lr.StepDecay(0.1, 2.5)),
    (lr.StepDecay, ArgumentError, lambda: lr.StepDecay(0.1, 2, gamma=1.0)),
    (lr.LinearWarmup, ArgumentTypeError, lambda: lr.LinearWarmup("a", 2, 0.0, 0.1)),
    (lr.LinearWarmup, ArgumentTypeError, lambda: lr.LinearWarmup(0.1, 2, "a", "b")),
    (lr.LinearWarmup, ArgumentError, lambda: lr.LinearWarmup(0.1, 0, 0.0, 0.1)),
    (
        lr.LinearWarmup.set_state_dict,
        StateError,
        lambda: lr.LinearWarmup(lr.StepDecay(0.1, 2), 2, 0.0, 0.1).set_state_dict({}),
    ),
]

PARAMETERS = [
    (go.nn.ClipGradByValue, ArgumentTypeError, lambda: go.nn.ClipGradByValue("a")),
    (go.nn.ClipGradByValue, ArgumentError, lambda: go.nn.ClipGradByValue(-1.0)),
    (go.nn.ClipGradByNorm, ArgumentTypeError, lambda: go.nn.ClipGradByNorm("a")),
    (go.nn.ClipGradByNorm, ArgumentError, lambda: go.nn.ClipGradByNorm(0.0)),
    (go.nn.ClipGradByGlobalNorm, ArgumentTypeError, lambda: go.nn.ClipGradByGlobalNorm("a")),
    (initializer.Constant, ArgumentTypeError, lambda: initializer.Constant("a")),
    (initializer.Assign, ShapeError, lambda: weight(initializer.Assign([1.0]))),
    (initializer.Normal, ArgumentTypeError, lambda: initializer.Normal("a")),
    (initializer.Normal, DTypeError, lambda: weight(initializer.Normal(), "int64")),
    (initializer.Uniform, ArgumentTypeError, lambda: initializer.Uniform("a")),
    (initializer.Uniform, ArgumentError, lambda: initializer.Uniform(1.0, 0.0)),
    (initializer.Uniform, DTypeError, lambda: weight(initializer.Uniform(), "int64")),
    (initializer.TruncatedNormal, ArgumentError, lambda: initializer.TruncatedNormal(a=2.0)),
    (
        initializer.TruncatedNormal,
        DTypeError,
        lambda: weight(initializer.TruncatedNormal(), "int64"),
    ),
    (initializer.XavierUniform, DTypeError, lambda: weight(initializer.XavierUniform(), "int64")),
    (initializer.XavierNormal, DTypeError, lambda: weight(initializer.XavierNormal(), "int64")),
    (initializer.KaimingUniform, ArgumentError, lambda: initializer.KaimingUniform(mode="fan")),
    (initializer.KaimingUniform, DTypeError, lambda: weight(initializer.KaimingUniform(), "int64")),
    (
        initializer.KaimingNormal,
        ArgumentError,
        lambda: initializer.KaimingNormal(nonlinearity="step"),
    ),
    (initializer.KaimingNormal, DTypeError, lambda: weight(initializer.KaimingNormal(), "int64")),
    (regularizer.L1Decay, ArgumentError, lambda: regularizer.L1Decay(None)),
    (regularizer.L1Decay, ArgumentTypeError, lambda: regularizer.L1Decay("a")),
    (regularizer.L2Decay, ArgumentError, lambda: regularizer.L2Decay(None)),
    (regularizer.L2Decay, ArgumentTypeError, lambda: regularizer.L2Decay("a")),
    (regularizer.as_regularizer, ArgumentTypeError, lambda: regularizer.as_regularizer("L2")),
    (go.ParamAttr, ArgumentTypeError, lambda: go.ParamAttr(trainable="no")),
    (go.create_parameter, ShapeError, lambda: [weight()] and go.create_parameter([3], name="w")),
    (go.create_parameter, ArgumentError, lambda: go.create_parameter([None])),
    (go.create_parameter, ArgumentTypeError, lambda: go.create_parameter(3)),
    (go.create_parameter, DTypeError, lambda: go.create_parameter([3], "int64")),
    (global_var, ArgumentError, lambda: global_var([None], 0, "int64")),
    (global_var, ArgumentError, lambda: [weight()] and global_var([2], 0, "int64", name="w")),
    (global_var, ArgumentTypeError, lambda: global_var([2], "a", "int64")),
]

ONNX = [
    (go.onnx.to_model, UnknownVariableError, lambda: to_model(["y"])),
    (go.onnx.to_model, ArgumentTypeError, lambda: to_model([1])),
    (
        go.onnx.to_model,
        ArgumentError,
        lambda: to_model(optimizer.SGD(0.1).minimize(loss())[0], go.static.Program()),
    ),
    (go.grad, FileNotFoundError, lambda: go.grad("no-such-file.onnx", "x")),
    (go.grad, FileError, lambda: go.grad(b"no model", "x")),
    (go.grad, ArgumentTypeError, lambda: go.grad(1, "x")),
    (
        go.grad,
        ArgumentError,
        lambda: go.grad(model("g (float x) => (float y, float z) { y = Exp(x) z = Abs(x) }"), "x"),
    ),
    (go.grad, UnknownVariableError, lambda: go.grad(model(), "w")),
    (
        go.grad,
        DTypeError,
        lambda: go.grad(model("g (float[2] x) => (int64[1] n) { n = Shape(x) }"), "x"),
    ),
    (go.grad, ShapeError, lambda: go.grad(model(UNFIT), "x")),
    (Backend.prepare, FileError, lambda: backend.prepare(model(UNKNOWN))),
    (Backend.prepare, ShapeError, lambda: backend.prepare(model(UNFIT))),
    (Backend.prepare, DeviceError, lambda: backend.prepare(model(), "CUDA:99")),
    (Rep.run, ArgumentError, lambda: run([X, X])),
    (Rep.run, MissingFeedError, lambda: run([])),
    (Rep.run, FeedError, lambda: run([X[:1]])),
    (Rep.run, FeedError, lambda: run({"z": X})),
    (Backend.run_node, ArgumentError, lambda: run_node("Add", X)),
    (Backend.run_node, FileError, lambda: run_node("Addition", X, X)),
    (Backend.run_node, FileError, lambda: run_node("Add", X, X, domain="mine")),
    (Backend.run_node, ShapeError, lambda: run_node("Add", X, X[[0, 0, 0]])),
]


@pytest.mark.parametrize(
    ("documented", "error", "call"),
    [*TENSOR, *OPTIMIZER, *PARAMETERS, *ONNX],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_an_error_that_is_named(documented, error, call):
    with pytest.raises(error) as found:
        call()
    assert found.type is error
    (section,) = re.findall(
        r"^Raises:\n((?: +.*\n?)+)", inspect.getdoc(documented) or "", re.MULTILINE
    )
    assert re.search(rf"^    ([\w, ]+, )?{error.__name__}(, [\w, ]+)?: ", section, re.MULTILINE)


@pytest.mark.parametrize(("function", "error", "call"), SHARED)
def test_an_error_that_all_tensor_functions_share(function, error, call):
    with pytest.raises(error) as found:
        call()
    assert found.type is error
    assert f"\n- {error.__name__}: " in go.tensor.__doc__
