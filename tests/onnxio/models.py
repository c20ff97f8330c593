"""Small models in ONNX's text form, read and run."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort

import graphopt as go

HEADER = '<ir_version: 10, opset_import: ["" : {opset}]>'


def model(body, opset=21, **weights):
    """A model from its text; ``weights`` become initializers."""
    parsed = onnx.parser.parse_model(HEADER.format(opset=opset) + body)
    for name, value in weights.items():
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    return parsed


def load(proto, **options):
    """The Program, the names of its feeds and its fetches, in a scope of its own."""
    exe, scope = go.static.Executor(), go.static.Scope()
    with go.static.scope_guard(scope):
        program, names, fetches = go.static.load_inference_model(proto, exe, **options)
    return Loaded(exe, scope, program, names, fetches)


class Loaded:
    """A model that was read, and where its weights are."""

    def __init__(self, exe, scope, program, names, fetches):
        self.exe, self.scope, self.program = exe, scope, program
        self.names, self.fetches = names, fetches

    @property
    def trainable(self):
        return [p.name for p in self.program.all_parameters() if p.trainable]

    @property
    def frozen(self):
        return [p.name for p in self.program.all_parameters() if not p.trainable]

    @property
    def state(self):
        parameters = {p.name for p in self.program.all_parameters()}
        return [v.name for v in self.program.persistables() if v.name not in parameters]

    def run(self, fetch=None, **feed):
        fetch = self.fetches if fetch is None else fetch
        return self.exe.run(self.program, feed=feed, fetch_list=fetch, scope=self.scope)

    def minimize(self, optimizer=None):
        """A loss of all fetches, to be run."""
        startup = go.static.Program()
        with go.static.program_guard(self.program, startup):
            parts = [go.mean(v * v) for v in self.fetches if v.tensor_type.is_float]
            loss = sum(parts[1:], parts[0])
            (optimizer or go.optimizer.SGD(0.05)).minimize(loss)
        self.exe.run(startup, scope=self.scope)
        return loss

    def save(self, path, fetches=None):
        feeds = [self.program.global_block().var(name) for name in self.names]
        fetches = self.fetches if fetches is None else fetches
        with go.static.scope_guard(self.scope):
            go.static.save_inference_model(path, feeds, fetches, self.exe, program=self.program)
        return onnx.load(f"{path}.onnx")

    def save_training(self, path, loss):
        feeds = [self.program.global_block().var(name) for name in self.names]
        with go.static.scope_guard(self.scope):
            go.static.save_training_model(path, feeds, [loss], self.exe, program=self.program)


def on_onnxruntime(proto, **feed):
    """What onnxruntime makes of the model itself."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def check_equal(proto, **feed):
    """Read the model, and compare its results with those of the original."""
    loaded = load(proto)
    for found, wanted in zip(loaded.run(**feed), on_onnxruntime(proto, **feed), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    return loaded
