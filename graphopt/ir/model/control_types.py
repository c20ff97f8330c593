"""Types of the results of ops that have blocks, from those of the blocks' results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from graphopt.errors import ShapeError
from graphopt.ir.types.types import ContainerType, Inferred, TensorType, container, inferred

if TYPE_CHECKING:
    from graphopt.ir.model.block import Block

Types: TypeAlias = Sequence["TensorType | None"]
TypesRule: TypeAlias = Callable[[Types, Mapping[str, Any]], list[Inferred]]


def merged(a: TensorType, b: TensorType) -> Inferred:
    """The type of what has one of two types: dims in which they differ are open.

    Raises:
        ShapeError: the dtypes, or the kinds of containers, differ.
    """
    if isinstance(a, ContainerType) or isinstance(b, ContainerType):
        return _merged_containers(a, b)
    if a.dtype != b.dtype:
        raise ShapeError(f"the results have the types {a} and {b}")
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return Inferred(a.dtype)
    dims = zip(a.shape, b.shape, strict=True)
    return Inferred(a.dtype, tuple(d if d == e else None for d, e in dims))


def _merged_containers(a: TensorType, b: TensorType) -> Inferred:
    if isinstance(a, ContainerType) and isinstance(b, ContainerType) and a.kind == b.kind:
        if a == b:
            return inferred(a)
        element = merged(a.element, b.element)
        if element.dims is not None and None in element.dims:
            element = Inferred(element.dtype)
        return Inferred(a.dtype if a.key is None else a.key, kind=a.kind, element=element)
    if isinstance(a, ContainerType) and a.kind == "optional":
        return merged(a, container("optional", b))
    if isinstance(b, ContainerType) and b.kind == "optional":
        return merged(container("optional", a), b)
    raise ShapeError(f"the results have the types {a} and {b}")


def if_types(inputs: Types, attrs: Mapping[str, Any]) -> list[Inferred]:
    """One type per result of the two branches."""
    then, orelse = _results(attrs["then_branch"]), _results(attrs["else_branch"])
    if len(then) != len(orelse):
        raise ShapeError(f"one branch has {len(then)} results, the other has {len(orelse)}")
    return [merged(a, b) for a, b in zip(then, orelse, strict=True)]


def loop_types(inputs: Types, attrs: Mapping[str, Any]) -> list[Inferred]:
    """Carried values merged with what the body makes of them, then stacks of further results."""
    results = _results(attrs["body"])[1:]
    carried = list(inputs[2:])
    if len(results) < len(carried):
        raise ShapeError(f"the body has {len(results)} results for {len(carried)} carried values")
    final = [_carried(a, b) for a, b in zip(carried, results, strict=False) if a is not None]
    return final + [_stacked(t, None, 0) for t in results[len(carried) :]]


def _carried(start: TensorType, made: TensorType) -> Inferred:
    """What a Loop gives: the type its body makes, where only one of both is an optional."""
    kinds = {getattr(t, "kind", "tensor") for t in (start, made)}
    return merged(start, made) if len(kinds) == 1 else inferred(made)


def scan_types(inputs: Types, attrs: Mapping[str, Any]) -> list[Inferred]:
    """States as the body makes them, then stacks of further results."""
    results = _results(attrs["body"])
    count = len(inputs) - attrs["num_scan_inputs"]
    scanned = inputs[count]
    axes = attrs.get("scan_input_axes") or [0]
    assert scanned is not None
    length = None if scanned.shape is None else scanned.shape[axes[0]]
    stacks = results[count:]
    along = attrs.get("scan_output_axes") or [0] * len(stacks)
    found = [merged(a, b) for a, b in zip(inputs[:count], results, strict=False) if a is not None]
    return found + [_stacked(t, length, axis) for t, axis in zip(stacks, along, strict=True)]


def sequence_map_types(inputs: Types, attrs: Mapping[str, Any]) -> list[Inferred]:
    """A sequence per result of the body."""
    return [inferred(container("seq", t)) for t in _results(attrs["body"])]


def flex_attention_types(inputs: Types, attrs: Mapping[str, Any]) -> list[Inferred]:
    """Q's type with the last dim of V."""
    q, v = inputs[0], inputs[2]
    assert q is not None
    if q.shape is None or v is None or not v.shape:
        return [Inferred(q.dtype)]
    return [Inferred(q.dtype, (*q.shape[:-1], v.shape[-1]))]


def _results(block: Block) -> list[TensorType]:
    return [v.tensor_type for v in block.outputs]


def _stacked(element: TensorType, length: int | str | None, axis: int) -> Inferred:
    if element.shape is None:
        return Inferred(element.dtype)
    dims = list(element.shape)
    at = axis if axis >= 0 else axis + len(dims) + 1
    return Inferred(element.dtype, (*dims[:at], length, *dims[at:]))


CONTROL: dict[str, TypesRule] = {
    "ai.onnx.preview::FlexAttention": flex_attention_types,
    "If": if_types,
    "Loop": loop_types,
    "Scan": scan_types,
    "SequenceMap": sequence_map_types,
}
