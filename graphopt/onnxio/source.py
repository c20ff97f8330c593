"""A model made ready to read: its weights taken out, functions inlined, at opset 21 or later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from graphopt.errors import ArgumentTypeError, FileError
from graphopt.ir.model.schema import OPSET
from graphopt.ir.types.types import from_onnx_dtype
from graphopt.onnxio.legacy import (
    hardmax_of_rows,
    rename,
    resize_as_before,
    resized,
    scan_without_batch,
)
from graphopt.onnxio.training import state_of, state_pairs

ModelLike = str | Path | bytes | onnx.ModelProto
SMALL = 256  # elements: what an op's conversion or inference may look at stays in the model
READING_IR = 10


@dataclass
class Source:
    """A model without functions, at an opset that Programs have.

    ``weights`` are its large initializers, which are inputs of ``model`` now. ``state`` says, of a
    training step, which output is the next value of which input.
    """

    model: onnx.ModelProto
    name: str
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)
    opset: int = OPSET

    @property
    def domains(self) -> dict[str, int]:
        """The versions of the domains other than ai.onnx."""
        return {o.domain: o.version for o in self.model.opset_import if not _is_standard(o)}


def open_model(model: ModelLike) -> Source:
    """Parse and prepare a model; a path's external data is read from beside it.

    Raises:
        ArgumentTypeError: ``model`` is not a path, bytes or a ModelProto.
        FileNotFoundError: there is no such file.
        FileError: it is not an ONNX model, its weights or state are not beside it, or onnx cannot
            convert it to a newer opset.
    """
    proto, name, base = _parsed(model)
    opset = next((o.version for o in proto.opset_import if _is_standard(o)), OPSET)
    source = Source(proto, name, state=state_pairs(proto), opset=max(opset, OPSET))
    del proto  # the memory of what is taken out goes with it
    _take_weights(source, base)
    if source.state:
        source.weights.update(_state_values(name, base))
    source.model.ir_version = max(source.model.ir_version, READING_IR)
    if source.model.functions:
        source.model = onnx.inliner.inline_local_functions(source.model, convert_version=True)
    if opset < OPSET:
        source.model = _converted(source.model, opset, name)
    return source


def _state_values(name: str, base: Path | None) -> dict[str, np.ndarray]:
    """The state that a training step starts from, out of the file that was saved with it."""
    path = None if base is None else base / f"{name.removesuffix('.train.onnx')}.state.onnx"
    if path is None or not path.is_file():
        raise FileError(
            f"{name} is a training step, and the file with its state is not beside it",
            fix="load it by its path, with the .state.onnx file in the same folder",
        )
    stored = Source(_parsed(path)[0], path.name)
    _take_weights(stored, base)
    return state_of(stored.model, stored.weights)


def _is_standard(opset: onnx.OperatorSetIdProto) -> bool:
    return opset.domain in ("", "ai.onnx")


def _parsed(model: ModelLike) -> tuple[onnx.ModelProto, str, Path | None]:
    """The model, its name for messages, and the folder of its external data."""
    if isinstance(model, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy, model.graph.name or "the model", None
    if isinstance(model, bytes):
        return _decoded(model, "the model"), "the model", None
    if not isinstance(model, (str, Path)):
        raise ArgumentTypeError(
            f"a model is a path, bytes or a ModelProto, not a {type(model).__name__}"
        )
    path = Path(model)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return _decoded(path.read_bytes(), path.name), path.name, path.parent


def _decoded(data: bytes, name: str) -> onnx.ModelProto:
    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own, which has no types
        raise FileError(f"{name} is not an ONNX model: {error}") from error
    if not proto.opset_import or not proto.HasField("graph"):
        raise FileError(f"{name} is not an ONNX model: it has no graph, or says no opset")
    return proto


def _take_weights(source: Source, base: Path | None) -> None:
    """Replace large initializers by inputs, so that converters and inference do not copy them."""
    graph = source.model.graph
    inputs = {i.name for i in graph.input}
    kept = []
    for tensor in graph.initializer:
        external = uses_external_data(tensor)
        if not external and int(np.prod(tensor.dims)) <= SMALL:
            kept.append(tensor)
            continue
        source.weights[tensor.name] = (
            _external(tensor, base, source.name)
            if external
            else np.array(onnx.numpy_helper.to_array(tensor))
        )
        if tensor.name not in inputs:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(info)
    saved = [onnx.TensorProto.FromString(t.SerializeToString()) for t in kept]
    del graph.initializer[:]
    graph.initializer.extend(saved)
    source.model = onnx.ModelProto.FromString(source.model.SerializeToString())
    graph = source.model.graph
    for inner in subgraphs(graph):
        for tensor in inner.initializer:
            if uses_external_data(tensor):
                value = _external(tensor, base, source.name)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))


def subgraphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The bodies of control-flow nodes, and the bodies in these."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield inner
                yield from subgraphs(inner)


def _external(tensor: onnx.TensorProto, base: Path | None, name: str) -> np.ndarray:
    """The values of a tensor that lie in a file of their own, read once."""
    if base is None:
        raise FileError(
            f"{name} keeps {tensor.name} in another file, which is not known from the model alone",
            fix="load the model by its path",
        )
    info = ExternalDataInfo(tensor)
    path = (base / info.location).resolve()
    if not path.is_relative_to(base.resolve()) or not path.is_file():
        raise FileError(
            f"{name} keeps {tensor.name} in {info.location!r}, which is not a file beside it",
            fix="put the file with the weights into the model's folder",
        )
    dtype, shape = from_onnx_dtype(tensor.data_type), tuple(tensor.dims)
    if dtype.name in ("int4", "uint4", "int2", "uint2", "float4_e2m1fn"):  # packed
        whole = onnx.TensorProto.FromString(tensor.SerializeToString())
        return np.asarray(onnx.numpy_helper.to_array(whole, str(base)))
    count = int(np.prod(shape))
    values = np.fromfile(path, dtype.newbyteorder("<"), count, offset=info.offset or 0)
    if values.size != count:
        raise FileError(f"{info.location} is too short: it ends inside {tensor.name}")
    return values.reshape(shape)


def _converted(model: onnx.ModelProto, opset: int, name: str) -> onnx.ModelProto:
    try:
        if opset == 8:
            scan_without_batch(model)
        graphs = _graphs(model)
        if opset < 13:
            for graph in graphs:
                hardmax_of_rows(graph)
        results = [resized(graph) for graph in graphs]
        converted = onnx.version_converter.convert_version(model, OPSET)
        if opset < 11 and any(results):
            _restore_resizes(converted, results)
    except Exception as error:
        raise FileError(
            f"{name} cannot be converted from opset {opset} to {OPSET}: {error}",
            fix=f"export it at opset {OPSET}",
        ) from error
    _restore_types(model, converted)
    return converted


def _restore_resizes(converted: onnx.ModelProto, results: list[list[str]]) -> None:
    graphs = _graphs(converted)
    names: dict[str, str] = {}
    for graph, own in zip(graphs, results, strict=True):
        names.update(resize_as_before(graph, own))
    for graph in graphs:
        rename(graph, names)


def _restore_types(original: onnx.ModelProto, converted: onnx.ModelProto) -> None:
    """Give what graphs take and return its types again: the converter makes open ranks 0.

    What it says of the values between is dropped for the same reason.
    """
    for old, new in zip(_graphs(original), _graphs(converted), strict=True):
        declared = {info.name: info.type for info in (*old.input, *old.output)}
        for info in (*new.input, *new.output):
            if info.name in declared:
                info.type.CopyFrom(declared[info.name])
        del new.value_info[:]


def _graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    return [model.graph, *subgraphs(model.graph)]
