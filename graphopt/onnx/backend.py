"""graphopt behind ONNX's backend interface, so that onnx's own test suite can be pointed at it.

Every model goes through a Program: it is read, pruned, lowered and run.

>>> import numpy as np
>>> import onnx
>>> import graphopt as go
>>> node = onnx.helper.make_node("Add", ["x", "y"], ["z"])
>>> go.onnx.backend.run_node(node, [np.float32([1, 2]), np.float32([3, 4])])
(array([4., 6.], dtype=float32),)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, namedtupledict

from graphopt.errors import ArgumentError, DeviceError, GraphoptError
from graphopt.ir.types.types import to_onnx_dtype
from graphopt.onnxio.read import ReadModel, read
from graphopt.onnxio.source import open_model
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.providers.names import as_place
from graphopt.runtime.state.scope import Scope


class GraphoptBackendRep(BackendRep):
    """A model that was read and is ready to run.

    ``found`` is the model as a Program, ``names`` are its outputs' names and ``place`` is where it
    runs. Made by ``prepare``.

    Raises:
        DeviceError: the place cannot be used.
    """

    def __init__(self, found: ReadModel, names: Sequence[str], place: Place) -> None:
        self._found = found
        self._names = list(names)
        self._executor = Executor(place)
        self._scope = Scope()
        for name, value in found.values.items():
            self._scope.take(name, value)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:  # noqa: ANN401 - as in the base
        """Run the model; returns a named tuple of its outputs.

        ``inputs`` are arrays in the model's order, one array, or a dict by name; ``kwargs`` are
        accepted as in onnx and not used.

        Raises:
            ArgumentError: there are more inputs than the model has.
            MissingFeedError: an input that the outputs need is not given.
            FeedError: an input has another shape or dtype than the model says, or an unknown name.
            StepError: onnxruntime failed.
        """
        feeds = self._feeds(inputs)
        values = self._executor.run(
            self._found.program, feeds, self._found.fetch_vars, scope=self._scope
        )
        return tuple(namedtupledict("Outputs", self._names)(*values))

    def _feeds(self, inputs: Any) -> dict[str, Any]:  # noqa: ANN401
        if isinstance(inputs, Mapping):
            return {name: _array(value) for name, value in inputs.items()}
        listed = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        names = self._found.feed_names
        if len(listed) > len(names):
            raise ArgumentError(f"{len(listed)} inputs are given, the model has {len(names)}")
        return dict(zip(names, map(_array, listed), strict=False))


def _array(value: Any) -> Any:  # noqa: ANN401
    """The array of a TensorProto: onnx's suite has its narrow dtypes so."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


class GraphoptBackend(Backend):
    """graphopt as a backend of onnx: see ``onnx.backend.base.Backend``."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:  # noqa: ANN401
        """Whether ``model`` can be read and ``device`` used; ``kwargs`` are not used."""
        try:
            cls.prepare(model, device)
        except GraphoptError:
            return False
        return True

    @classmethod
    def prepare(
        cls,
        model: onnx.ModelProto,
        device: str = "CPU",
        **kwargs: Any,  # noqa: ANN401
    ) -> GraphoptBackendRep:
        """Read ``model`` for a ``device`` such as 'CPU' or 'CUDA:0'; ``kwargs`` are not used.

        Raises:
            FileError: the model cannot be read.
            ArgumentError: there is no such device.
            ShapeError: a node of the model does not fit the shapes of its operands.
            DeviceError: the device cannot be used.
        """
        names = [output.name for output in model.graph.output]
        return GraphoptBackendRep(read(open_model(model)), names, as_place(device.lower()))

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,  # noqa: ANN401
        device: str = "CPU",
        outputs_info: object = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[Any, ...]:
        """Run one ``node`` on ``inputs``, arrays in order, and a ``device`` such as 'CUDA:0'.

        ``opset_version``, the only one of ``kwargs`` that is used, says which definition the node
        follows, by default the newest; ``outputs_info`` is accepted as in onnx and not used.

        Raises:
            ArgumentError: there are not as many arrays as operands.
            FileError: onnx does not define the op, or not for these dtypes.
            ShapeError: the op cannot take operands of these shapes.
            DeviceError: the device cannot be used.
            StepError: onnxruntime failed.
        """
        arrays = [np.asarray(v) for v in inputs]
        names = dict.fromkeys(name for name in node.input if name)
        graph = onnx.GraphProto(name="node", node=[node])
        if len(arrays) != len(names):
            raise ArgumentError(f"{len(arrays)} arrays for {len(names)} operands of {node.op_type}")
        for name, array in zip(names, arrays, strict=True):
            elem = to_onnx_dtype(array.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, elem, array.shape))
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
        version = kwargs.get("opset_version", onnx.defs.onnx_opset_version())
        opsets = [onnx.helper.make_opsetid("", version)]
        if onnx.defs.has(node.op_type, node.domain) and node.domain:
            schema = onnx.defs.get_schema(node.op_type, node.domain)
            opsets.append(onnx.helper.make_opsetid(node.domain, schema.since_version))
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        return cls.prepare(model, device).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether ``device``, e.g. 'CPU', 'CUDA' or 'CUDA:1', can be used here."""
        try:
            as_place(device.lower()).check()
        except (ArgumentError, DeviceError):
            return False
        return True


is_compatible = GraphoptBackend.is_compatible
prepare = GraphoptBackend.prepare
run_model = GraphoptBackend.run_model
run_node = GraphoptBackend.run_node
supports_device = GraphoptBackend.supports_device
