"""What onnx states of an op: formal inputs and outputs, attributes, and its type inference."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx.defs import OpSchema

from graphopt.errors import DTypeError, GraphoptError, ShapeError, UnknownOpError, did_you_mean
from graphopt.ir.model.control_types import CONTROL
from graphopt.ir.types.inference_gaps import repaired
from graphopt.ir.types.types import Inferred, TensorType, from_proto, to_onnx_dtype, to_proto

OPSET = 21
Attr: TypeAlias = Any  # int, float, str, bytes-free lists of them, numpy array, or a Block
Infer: TypeAlias = Callable[[Sequence["TensorType | None"], Mapping[str, Attr]], list[Inferred]]

MAX_VERSION = 1000  # beyond the newest version of every domain
MAX_MEMO = 20_000  # inferences remembered; training graphs repeat a few hundred
MAX_DATA_SIZE = 64  # larger constants carry no shape information


@dataclass(frozen=True, slots=True)
class Formal:
    """A formal input or output of an op."""

    name: str
    type_str: str = "T"
    dtypes: frozenset[str] = frozenset()
    optional: bool = False
    variadic: bool = False
    homogeneous: bool = True


@dataclass(frozen=True, slots=True)
class AttrDef:
    """A formal attribute; ``kind`` is onnx's name of its type, such as INT or FLOATS."""

    kind: str
    required: bool
    default: Attr


@dataclass(frozen=True, eq=False)
class OpDef:
    """The definition of an op. ``schema`` is set for ONNX ops, ``infer`` where we type the op.

    ``type`` is onnx's name, with the domain where it is not ai.onnx: ``ai.onnx.ml::Scaler``.
    """

    type: str
    domain: str
    since: int
    inputs: tuple[Formal, ...]
    outputs: tuple[Formal, ...]
    attributes: Mapping[str, AttrDef] = field(default_factory=dict)
    schema: OpSchema | None = None
    infer: Infer | None = None
    has_blocks: bool = False

    def __repr__(self) -> str:
        return f"<OpDef {self.domain or 'ai.onnx'}::{self.type}-{self.since}>"

    @property
    def op_type(self) -> str:
        """The name without the domain."""
        return self.type.rpartition("::")[2]

    @cached_property
    def variadic_input(self) -> bool:
        """Whether the last formal input takes any number of operands."""
        return bool(self.inputs) and self.inputs[-1].variadic

    @cached_property
    def defaults(self) -> Mapping[str, Attr] | None:
        """The attributes of an op that is given none; None if it needs one."""
        if any(a.required and a.default is None for a in self.attributes.values()):
            return None
        found = {name: a.default for name, a in self.attributes.items()}
        return {name: value for name, value in found.items() if value is not None}

    def formal_input(self, index: int) -> Formal:
        """The formal input of the operand at ``index``."""
        return self.inputs[min(index, len(self.inputs) - 1)]

    def slots(self, operands: Sequence[Any]) -> dict[str, list[Any]]:
        """Operands by the name of their formal input."""
        return _slots(self.inputs, operands)

    def result_slots(self, results: Sequence[Any]) -> dict[str, list[Any]]:
        """Results by the name of their formal output."""
        return _slots(self.outputs, results)


def _slots(formals: tuple[Formal, ...], values: Sequence[Any]) -> dict[str, list[Any]]:
    last = len(formals) - 1
    return {
        f.name: list(values[i:] if f.variadic and i == last else values[i : i + 1])
        for i, f in enumerate(formals)
    }


_composites: dict[str, OpDef] = {}


def register_composite(definition: OpDef) -> None:
    """Make a composite known under its type."""
    _composites[definition.type] = definition


def op_def(type: str, opset: int = 0) -> OpDef:
    """The definition of an op: a composite, else ONNX's newest at ``opset``, else its first later.

    ``opset`` is the version of the op's own domain; 0 means the one that Programs start from.

    Raises:
        UnknownOpError: there is no such op.
    """
    return _composites.get(type) or _onnx_op_def(type, opset)


def domain_of(type: str) -> str:
    """The domain of an op's type; '' is ai.onnx."""
    return type.rpartition("::")[0]


@cache
def _onnx_op_def(type: str, opset: int) -> OpDef:
    schema = _find_schema(type, opset)
    return OpDef(
        type=type,
        domain=schema.domain,
        since=schema.since_version,
        inputs=tuple(_formal(f) for f in schema.inputs),
        outputs=tuple(_formal(f) for f in schema.outputs),
        attributes={name: _attr_def(a) for name, a in schema.attributes.items()},
        schema=schema,
        infer=CONTROL.get(type),
        has_blocks=any(a.type == OpSchema.AttrType.GRAPH for a in schema.attributes.values()),
    )


def _find_schema(type: str, opset: int) -> OpSchema:
    domain, _, name = type.rpartition("::")
    first = opset or (OPSET if domain == "" else MAX_VERSION)
    for version in (first, MAX_VERSION):
        try:
            schema = onnx.defs.get_schema(name, version, domain)
        except onnx.defs.SchemaError:
            continue
        if not schema.deprecated:
            return schema
    names = {s.name for s in onnx.defs.get_all_schemas()} | set(_composites)
    raise UnknownOpError(
        f"there is no op {type!r}", fix=did_you_mean(type, names) or "see docs/op-table.md"
    )


def _formal(formal: OpSchema.FormalParameter) -> Formal:
    option = OpSchema.FormalParameterOption
    return Formal(
        name=formal.name,
        type_str=formal.type_str,
        dtypes=frozenset(formal.types),
        optional=formal.option == option.Optional,
        variadic=formal.option == option.Variadic,
        homogeneous=formal.is_homogeneous,
    )


def _attr_def(attribute: OpSchema.Attribute) -> AttrDef:
    default = attribute.default_value
    value = onnx.helper.get_attribute_value(default) if default.type else None
    kind: str = attribute.type.name  # type: ignore[attr-defined]
    return AttrDef(kind, attribute.required, _plain(value))


def _plain(value: Attr) -> Attr:
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value


_memo: dict[Any, list[Inferred]] = {}


def infer(
    definition: OpDef,
    inputs: Sequence[TensorType | None],
    data: Mapping[int, np.ndarray],
    attrs: Mapping[str, Attr],
    n_outputs: int,
) -> list[Inferred]:
    """Dtype and dims of each output, by onnx's own inference or the composite's trace.

    ``data`` has the values of constant inputs by position.

    Raises:
        ShapeError, DTypeError: onnx's sentence, without operands (the caller knows their names).
    """
    if definition.has_blocks:  # what a block gives changes with the block
        assert definition.infer is not None
        return definition.infer(inputs, attrs)[:n_outputs]
    values = {i: v for i, v in data.items() if v.size <= MAX_DATA_SIZE}
    key = (
        definition,
        n_outputs,
        tuple(inputs),
        tuple((i, v.tobytes()) for i, v in values.items()),
        tuple((k, _frozen(v)) for k, v in attrs.items()),
    )
    found = _memo.get(key)  # asked once: another thread may clear it at any time
    if found is None:
        if definition.infer is not None:
            found = definition.infer(inputs, attrs)[:n_outputs]
        else:
            found = _infer_onnx(definition, inputs, values, attrs, n_outputs)
        if len(_memo) >= MAX_MEMO:
            _memo.clear()
        _memo[key] = found
    return found


def _frozen(value: Attr) -> Attr:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return tuple(value) if isinstance(value, list) else value


def _infer_onnx(
    definition: OpDef,
    inputs: Sequence[TensorType | None],
    data: Mapping[int, np.ndarray],
    attrs: Mapping[str, Attr],
    n_outputs: int,
) -> list[Inferred]:
    assert definition.schema is not None
    names = [f"i{k}" if t is not None else "" for k, t in enumerate(inputs)]
    results = [f"o{k}" for k in range(n_outputs)]
    node = make_node(definition, names, results, attrs)
    types = {f"i{k}": to_proto(t) for k, t in enumerate(inputs) if t is not None}
    tensors = {f"i{k}": onnx.numpy_helper.from_array(v) for k, v in data.items()}
    version = max(OPSET, definition.since) if definition.domain == "" else definition.since
    opsets = [onnx.helper.make_opsetid(definition.domain, version)]
    try:
        found = onnx.shape_inference.infer_node_outputs(
            definition.schema, node, types, tensors, opset_imports=opsets
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise _refusal(error, names) from error
    dims = [from_proto(found[name]) for name in results]
    return repaired(definition.type, inputs, data, attrs, dims)


def _refusal(error: Exception, names: Sequence[str]) -> GraphoptError:
    text = re.sub(r"\[\w+\]|\(op_type:[^)]*\):?|\x1b", "", str(error)).strip(" :\n")
    kind = DTypeError if isinstance(error, onnx.checker.ValidationError) else ShapeError
    if "type" in text and "shape" not in text.lower():
        kind = DTypeError
    return kind(text.splitlines()[0] if text else "refused by onnx")


def make_node(
    definition: OpDef, inputs: Sequence[str], outputs: Sequence[str], attrs: Mapping[str, Attr]
) -> onnx.NodeProto:
    """The ONNX node; attributes that equal their default are left out."""
    node = onnx.NodeProto(
        op_type=definition.op_type, domain=definition.domain, input=inputs, output=outputs
    )
    for name, value in attrs.items():
        if not is_default(definition, name, value):
            node.attribute.append(make_attribute(definition, name, value))
    return node


def is_block(definition: OpDef, name: str) -> bool:
    """Whether an attribute holds a Block."""
    attribute = definition.attributes.get(name)
    return attribute is not None and attribute.kind == "GRAPH"


def is_default(definition: OpDef, name: str, value: Attr) -> bool:
    """Whether ``value`` is what the op assumes when the attribute is absent."""
    attribute = definition.attributes.get(name)
    if attribute is None or attribute.required or isinstance(value, np.ndarray):
        return False
    if definition.type == "STFT":
        return False  # onnx's inference takes an absent onesided for 0
    return bool(attribute.default == value)


def make_attribute(definition: OpDef, name: str, value: Attr) -> onnx.AttributeProto:
    """The attribute with the kind that the schema asks for (so [] and 1 keep their meaning)."""
    kind = definition.attributes[name].kind
    if kind == "TENSOR":
        value = onnx.numpy_helper.from_array(np.asarray(value))
    elif kind == "TYPE_PROTO":
        value = to_proto(value)
    elif kind == "TENSORS":
        value = [onnx.numpy_helper.from_array(np.asarray(v)) for v in value]
    elif kind in ("FLOAT", "FLOATS"):
        value = [float(v) for v in value] if kind == "FLOATS" else float(value)
    code = getattr(onnx.AttributeProto, kind)
    return onnx.helper.make_attribute(name, value, attr_type=code)


def attr_value(proto: onnx.AttributeProto) -> Attr:
    """The plain Python value of an attribute."""
    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, onnx.TypeProto):
        return from_proto(value).closed(lambda: "N")
    if isinstance(value, (list, tuple)) or hasattr(value, "extend"):
        if proto.type == onnx.AttributeProto.TENSORS:
            return [onnx.numpy_helper.to_array(v) for v in value]
        return [_plain(v) for v in value]
    return _plain(value)


def dtype_attr(dtype: np.dtype) -> int:
    """The value of a ``to`` or ``dtype`` attribute."""
    return to_onnx_dtype(dtype)
