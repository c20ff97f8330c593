"""Models loaded by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from graphopt.errors import DeviceError
from graphopt.onnxio.ort_order import written_early
from graphopt.runtime.ort.bindings import Binding, Bound, Passed, PassedObjects
from graphopt.runtime.ort.library import LOG_FATAL, onnxruntime
from graphopt.runtime.ort.place import Place


class Session:
    """A model loaded by onnxruntime on one place.

    Args:
        model: its nodes are reordered, in place, if there are so many that loading would be slow.
        place: where it is to run.
        in_order: run the nodes in the order they are written. Nodes that onnxruntime's optimizers
            make run last of those that can. Without this onnxruntime chooses the order; it puts
            all weight gradients behind the rest.
        arrays: the values of large constants, by name, that the model only names. They are read
            where they are.

    Attributes:
        writes_in_place: whether a run writes outputs over the memory they are bound to, so that an
            input's memory can take the output that replaces it.

    Raises:
        DeviceError: no Program can run on the place.
        Exception: one of ``failures()``: onnxruntime cannot load the model.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        place: Place,
        in_order: bool = False,
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        place.check()
        ort = onnxruntime()
        options = ort.SessionOptions()
        options.log_severity_level = LOG_FATAL
        # The pattern would be a second block beside what the first run took: twice the memory.
        options.enable_mem_pattern = False
        if in_order:
            options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        elif written_early(model):
            # Its optimizers would find next to nothing in what passes have left, and take longer
            # than all else that is done to load so long a graph.
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            # For every value it would look through all free buffers for one of its size, which is
            # quadratic. The arena reuses the memory just as well while the graph runs.
            options.enable_mem_reuse = False
        self.place = place
        self._arrays = dict(arrays or {})
        if self._arrays:
            values = map(ort.OrtValue.ortvalue_from_numpy, self._arrays.values())
            options.add_external_initializers(list(self._arrays), list(values))
        if not model.graph.input:  # it runs once; folding would do so while loading it, but slower
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=place.choose(options),
            enable_fallback=0,  # to the processor, with a line on stdout
            # The one removes a Dropout whose mask nobody reads, even one that is training; the
            # other takes back the transposes that are written because they are quicker.
            disabled_optimizers=["EliminateDropout", "GemmTransposeFusion"],
        )
        self._binding: type[Bound | Passed] = _kind_of_binding(model, place)
        self.writes_in_place = self._binding is Bound
        if place.provider not in self._session.get_providers():
            raise DeviceError(f"onnxruntime could not load {place.provider}", fix=place.remedy)

    def bind(self) -> Binding:
        """A new binding: where runs are to read inputs and write outputs, to be filled in."""
        return self._binding(self._session, self.place)


def _kind_of_binding(model: onnx.ModelProto, place: Place) -> type[Bound | Passed]:
    if any(map(_is_object, (*model.graph.input, *model.graph.output))):
        return PassedObjects
    return Bound if place.keeps_bindings else Passed


def _is_object(info: onnx.ValueInfoProto) -> bool:
    """Whether values of this type are no tensors of numbers."""
    kind = info.type.WhichOneof("value")
    return kind != "tensor_type" or info.type.tensor_type.elem_type == onnx.TensorProto.STRING
