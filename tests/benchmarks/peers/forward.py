"""The forward pass of a row as an ONNX model, for the frameworks that make theirs from one."""

from itertools import count
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.benchmarks import rows

OPSET = 17


class OnnxLayers:
    """Layers that append nodes; a tensor is its name and its shape.

    ``whole_norms``: one op for a norm, with its statistics as outputs. A differentiator may need
    these, or know no op with more than one output.
    """

    def __init__(self, values, *, whole_norms):
        self.values = iter(values)
        self.whole_norms = whole_norms
        self.nodes, self.initializers, self.parameters = [], [], []
        self.names = (f"t{k}" for k in count())

    def op(self, kind, *inputs, outputs=1, **attributes):
        names = [next(self.names) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names if outputs > 1 else names[0]

    def const(self, value):
        name = next(self.names)
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def number(self, value):
        return self.const(np.float32(value))

    def parameter(self):
        value = next(self.values)
        self.parameters.append(f"p{len(self.parameters)}")
        self.initializers.append(numpy_helper.from_array(value, self.parameters[-1]))
        return self.parameters[-1]

    def reshape(self, x, shape):
        return self.op("Reshape", x, self.const(np.array(shape, "i8")))

    def linear(self, x, width):
        name, shape = x
        weight, bias = self.parameter(), self.parameter()
        if len(shape) == 2:
            return self.op("Gemm", name, weight, bias), (shape[0], width)
        flat = self.reshape(name, [prod(shape[:-1]), shape[-1]])
        product = self.op("Gemm", flat, weight, bias)
        return self.reshape(product, [*shape[:-1], width]), (*shape[:-1], width)

    def conv(self, x, channels, size, stride=1, pad=0, bias=True):
        name, shape = x
        inputs = [name, self.parameter(), *([self.parameter()] if bias else [])]
        windows = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        y = self.op("Conv", *inputs, **windows)
        return y, (shape[0], channels, *rows.windows(shape, size, stride, pad))

    def relu(self, x):
        return self.op("Relu", x[0]), x[1]

    def gelu(self, x):
        name, shape = x
        scaled = self.op("Mul", name, self.number(0.5**0.5))
        doubled = self.op("Add", self.op("Erf", scaled), self.number(1.0))
        return self.op("Mul", self.op("Mul", name, self.number(0.5)), doubled), shape

    def add(self, x, y):
        return self.op("Add", x[0], y[0]), x[1]

    def max_pool(self, x, size, stride=0, pad=0):
        name, shape = x
        stride = stride or size
        windows = {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self.op("MaxPool", name, **windows), (
            *shape[:2],
            *rows.windows(shape, size, stride, pad),
        )

    def mean_pool(self, x):
        name, shape = x
        return self.reshape(self.op("GlobalAveragePool", name), shape[:2]), shape[:2]

    def flatten(self, x):
        name, shape = x
        flat = (shape[0], prod(shape[1:]))
        return self.reshape(name, flat), flat

    def batch_norm(self, x):
        name, shape = x
        scale, shift = self.parameter(), self.parameter()
        if self.whole_norms:
            mean, variance = (np.full(shape[1], v, "f4") for v in (0.0, 1.0))
            inputs = (name, scale, shift, self.const(mean), self.const(variance))
            return self.op("BatchNormalization", *inputs, outputs=3, training_mode=1)[0], shape
        columns = [self.reshape(p, [1, shape[1], 1, 1]) for p in (scale, shift)]
        return self._standard(name, [0, 2, 3], *columns), shape

    def _standard(self, x, axes, scale, shift):
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=axes))
        squares = self.op("Mul", centred, centred)
        variance = self.op("ReduceMean", squares, axes=axes)
        root = self.op("Sqrt", self.op("Add", variance, self.number(1e-5)))
        return self.op("Add", self.op("Mul", centred, self.op("Div", scale, root)), shift)

    def layer_norm(self, x):
        name, shape = x
        scale = self.parameter()
        inputs = (name, scale, self.parameter())
        if self.whole_norms:
            return self.op("LayerNormalization", *inputs, outputs=3)[0], shape
        return self.op("LayerNormalization", *inputs), shape

    def embedding(self, tokens, rows, width):
        name, shape = tokens
        found = self.op("Gather", self.parameter(), self.reshape(name, [prod(shape)]))
        return self.reshape(found, [*shape, width]), (*shape, width)

    def positions(self, x):
        return self.op("Add", x[0], self.parameter()), x[1]

    def attention(self, qkv, heads):
        name, (n, t, three) = qkv
        width = three // 3
        parts = self.op("Split", name, self.const(np.array([width] * 3)), outputs=3, axis=2)
        split = [self.reshape(part, [n, t, heads, width // heads]) for part in parts]
        q, v = (self.op("Transpose", split[k], perm=[0, 2, 1, 3]) for k in (0, 2))
        k = self.op("Transpose", split[1], perm=[0, 2, 3, 1])
        scores = self.op("MatMul", self.op("Mul", q, self.number((heads / width) ** 0.5)), k)
        mixed = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        mixed = self.reshape(self.op("Transpose", mixed, perm=[0, 2, 1, 3]), [n, t, width])
        return mixed, (n, t, width)

    def mean_loss(self, row, out):
        """The loss in plain ops; labels of classes are given as rows of an identity matrix."""
        if not row.classes:
            each = self.op("Sub", self.op("Softplus", out), self.op("Mul", out, "y"))
            return self.op("ReduceMean", each, keepdims=0)
        logs = self.op("Log", self.op("Softmax", out, axis=-1))
        total = self.op("ReduceSum", self.op("Mul", logs, "y"), keepdims=0)
        return self.op("Mul", total, self.number(-1 / prod(row.labels)))


def model(row, *, loss, whole_norms):
    """The model, the name of its output and its parameters' names.

    With ``loss`` its output is the mean loss and y an input; without it the logits [n, classes].
    """
    net = OnnxLayers(rows.parameters(row), whole_norms=whole_norms)
    out, shape = row.network(net, ("x", row.input))
    flat = [prod(shape[:-1]), shape[-1]]
    out = out if len(shape) == 2 else net.reshape(out, flat)
    inputs = [_info("x", row.tokens, row.input)]
    if loss:
        out, flat = net.mean_loss(row, out), []
        inputs.append(_info("y", 0, [prod(row.labels), row.classes or 1]))
    graph = helper.make_graph(
        net.nodes, row.name, inputs, [_info(out, 0, flat)], initializer=net.initializers
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), out, net.parameters


def _info(name, integers, shape) -> onnx.ValueInfoProto:
    kind = TensorProto.INT64 if integers else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, list(shape))
