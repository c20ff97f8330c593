"""Tape: records typed ops. ``tape.MatMul(a, b)`` is one MatMul with its inferred result.

Users' layers record on a tape over the current block. Gradient rules record on a scratch tape,
from which only what is needed is spliced into the Program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from graphopt.errors import ArgumentError, DTypeError, GraphoptError, ShapeError, did_you_mean
from graphopt.ir.model import schema
from graphopt.ir.model.operator import Operator, Role
from graphopt.ir.model.ranks import settle
from graphopt.ir.model.reach import needed_ops
from graphopt.ir.model.schema import Attr, OpDef, op_def
from graphopt.ir.model.symbols import equal_fed_dims, renamed
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.literals import as_literal, converted
from graphopt.ir.types.onnx_ops import OnnxOps
from graphopt.ir.types.types import TensorType, to_onnx_dtype
from graphopt.ir.types.where import Where, here

if TYPE_CHECKING:
    from graphopt.ir.model.block import Block

Operand: TypeAlias = (
    "Variable | np.ndarray | np.generic | float | int | bool | Sequence[Any] | None"
)


class Tape(OnnxOps):
    """Records ops into ``block``, or, as a scratch tape, into a list of its own.

    Without ``unify`` fed dims with two symbols may meet in one op: those of a file may broadcast.
    """

    def __init__(
        self,
        block: Block,
        *,
        role: Role = Role.FORWARD,
        scratch: bool = False,
        made_by: str = "",
        unify: bool = True,
    ) -> None:
        self.block = block
        self.program = block.program
        self.role = role
        self.made_by = made_by
        # Whether ops make fed dims equal. Only ops of the global block can rename a symbol
        # everywhere: other variables are not registered yet.
        self.unify = unify and not scratch and block.parent is None
        self.scratch: list[Operator] | None = [] if scratch else None
        # Results that ops of the Program get if what is spliced reads them, and how they get them.
        self.deferred: list[tuple[Variable, Callable[[], None]]] = []
        self.asked: dict[tuple[int, int | str], Variable] = {}

    def __getattr__(self, type: str) -> Any:  # noqa: ANN401 - typed by tape.pyi
        if not type[:1].isupper():
            raise AttributeError(type)
        return partial(self.emit, type)

    def emit(
        self,
        type: str,
        /,
        *operands: Operand,
        outputs: int = 1,
        into: Sequence[Variable | None] | None = None,
        names: Sequence[str] | None = None,
        **attrs: Attr,
    ) -> Any:  # noqa: ANN401 - one Variable, or a tuple of ``outputs`` of them
        """Record one op.

        Numbers and arrays among ``operands`` become constants of the dtype the op wants; None is
        an omitted optional input. ``into`` assigns the results to existing variables; ``names``
        names new ones, '' leaves one out.
        """
        definition = op_def(type, self.program.opset_of(type))
        where = here()
        inputs = self._operands(definition, operands, where)
        equal = equal_fed_dims(self.program, definition.type, inputs) if self.unify else {}
        filled = _filled_attrs(definition, attrs, where)
        settle(definition.type, inputs, filled, self.program.fresh_symbol)
        n_outputs = len(into or names or ()) or outputs
        types = self._infer(definition, inputs, filled, n_outputs, where, equal)
        for old, new in equal.items():
            self.program.rename_symbol(old, new, where)
        results = self._results(types, into, where, names)
        self.record(Operator(definition, inputs, results, filled, self.role, where, self.made_by))
        return results[0] if n_outputs == 1 else tuple(results)

    def _operands(
        self, definition: OpDef, operands: Sequence[Operand], where: Where
    ) -> list[Variable | None]:
        if len(operands) > len(definition.inputs) and not definition.variadic_input:
            raise ArgumentError(
                f"{definition.type} takes at most {len(definition.inputs)} inputs, "
                f"{len(operands)} were given",
                where=where,
            )
        literal = any(v is not None and not isinstance(v, Variable) for v in operands)
        dtypes = _bound_dtypes(definition, operands) if literal else {}
        found = [self._operand(value, definition, k, dtypes) for k, value in enumerate(operands)]
        while found and found[-1] is None:
            found.pop()
        fixed = len(definition.inputs) - 1 if definition.variadic_input else 0  # of a Loop: 2
        return found + [None] * (fixed - len(found))

    def _operand(
        self, value: Operand, definition: OpDef, index: int, dtypes: dict[str, np.dtype]
    ) -> Variable | None:
        if value is None or isinstance(value, Variable):
            if value is not None and value.block is not self.block:
                self._check_visible(value)
            return value
        formal = definition.formal_input(index)
        dtype = dtypes.get(formal.type_str) or _literal_dtype(value, formal.dtypes)
        return self.const(value, dtype)

    def _check_visible(self, variable: Variable) -> None:
        """Raise ArgumentError for what is made inside a body that is not around this block."""
        block: Block | None = self.block
        while block is not None and block is not variable.block:
            block = block.parent
        if block is None and variable.block.parent is not None:
            raise ArgumentError(
                f"{variable.name} is made inside a body of control flow, and used outside of it",
                operands=[(variable.name, variable.tensor_type)],
                where=variable.where,
                fix=f"return {variable.name} from the body, and use what the control flow gives",
            )

    def const(self, value: Operand, dtype: np.dtype | None = None) -> Constant:
        """A constant. Python floats are float32, Python ints int64, unless ``dtype`` says."""
        array = as_literal(value)
        if dtype is None and not isinstance(value, (np.ndarray, np.generic)):
            dtype = _literal_dtype(value, frozenset())
        return self.program.constant(array if dtype is None else converted(array, dtype))

    def _infer(
        self,
        definition: OpDef,
        inputs: Sequence[Variable | None],
        attrs: dict[str, Attr],
        n_outputs: int,
        where: Where,
        equal: Mapping[str, str] | None = None,
    ) -> list[TensorType]:
        types = [None if v is None else v.tensor_type for v in inputs]
        if equal:
            types = [None if t is None else renamed(t, equal) for t in types]
        data = {k: v.value for k, v in enumerate(inputs) if isinstance(v, Constant)}
        try:
            found = schema.infer(definition, types, data, attrs, n_outputs)
        except (ShapeError, DTypeError) as error:
            raise _explained(error, definition, inputs, where) from error
        return [self.program.tensor_type(t) for t in found]

    def _results(
        self,
        types: Sequence[TensorType],
        into: Sequence[Variable | None] | None,
        where: Where,
        names: Sequence[str] | None,
    ) -> list[Variable | None]:
        if names is not None:
            return [
                Variable(name, t, block=self.block, where=where) if name else None
                for name, t in zip(names, types, strict=True)
            ]
        if into is None:
            return [Variable("", t, block=self.block, where=where) for t in types]
        for variable, found in zip(into, types, strict=True):
            if variable is not None and not variable.persistable:
                variable.tensor_type = found
        return list(into)

    def record(self, op: Operator) -> None:
        """Append an op that is made already."""
        for variable in op.writes():
            if not variable.tensor_type.is_float and not variable.persistable:
                variable.stop_gradient = True
        if self.scratch is None:
            self.block.append(op)
        else:
            self.scratch.append(op)

    def result_of(self, op: Operator, slot: str) -> Variable:
        """An optional result of a recorded op, added to it if it is not there yet."""
        op = op.origin or op
        index = op.output_names.index(slot)
        recorded = op.result(slot)
        found = self.asked.get((id(op), index)) if recorded is None else recorded
        if found is not None:
            return found
        types = self._infer(op.definition, op.inputs, op.attrs, index + 1, op.where)
        variable = Variable("", types[index], block=self.block, where=op.where)
        variable.stop_gradient = not types[index].is_float
        self.asked[id(op), index] = variable
        self.deferred.append((variable, partial(add_result, op, index, variable)))
        return variable

    def splice(self, wanted: Iterable[Variable]) -> list[Operator]:
        """Append the scratch ops that ``wanted`` needs to the block; returns them."""
        assert self.scratch is not None, "only a scratch tape is spliced"
        results = list(wanted)
        kept, needed = needed_ops(self.scratch, results)
        asked = [add for variable, add in self.deferred if variable in needed]
        for add in asked:
            add()
        if asked:  # what they add may need further ops of this tape
            kept, _ = needed_ops(self.scratch, results)
        for op in kept:
            for v in op.writes():
                if v.name and self.block.vars.get(v.name, v) is not v:
                    v.name = self.program.unused_name(v.name)
            self.block.append(op)
        return kept

    # Helpers that rules and layers share. They are a few ops each, never an op of their own.

    def shape_of(self, x: Variable) -> Variable:
        """The shape of x as an i64 tensor: a constant where it is known."""
        if x.tensor_type.is_static:
            return self.const(np.array(x.tensor_type.shape, np.int64))
        return self.Shape(x)

    def dim_of(self, x: Variable, axis: int) -> Variable:
        """One dim of x as i64[1]: a constant where it is known."""
        shape = x.tensor_type.shape
        rank = x.ndim
        axis = axis % rank
        if shape is not None and isinstance(shape[axis], int):
            return self.const(np.array([shape[axis]], np.int64))
        return self.Shape(x, start=axis, end=axis + 1)

    def size_of(self, x: Variable) -> Variable:
        """The number of elements of x as i64[]: a constant where it is known."""
        if x.tensor_type.is_static:
            return self.const(int(np.prod(x.shape)))
        return self.Size(x)

    def cast(self, x: Variable, dtype: np.dtype) -> Variable:
        """x as ``dtype``: x itself if it is that already, a constant if x is one."""
        if x.dtype == dtype:
            return x
        if isinstance(x, Constant):
            return self.const(x.value.astype(dtype))
        return self.Cast(x, to=to_onnx_dtype(dtype))

    def reshape_like(self, x: Variable, like: Variable) -> Variable:
        """x with the shape of ``like``; needs no Shape op while at most one dim is symbolic."""
        shape = like.tensor_type.shape
        if shape is not None and shape == x.tensor_type.shape:
            return x
        symbols = () if shape is None else [d for d in shape if isinstance(d, str)]
        if shape is not None and len(symbols) == 1 and 0 not in shape:
            dims = [d if isinstance(d, int) else -1 for d in shape]
            target: Variable = self.const(np.array(dims, np.int64))
        else:
            target = self.shape_of(like)
        return typed(self.Reshape(x, target, allowzero=int(_may_be_empty(target))), like)

    def dims(self, *parts: int | Variable) -> Variable:
        """Dims, given as ints and i64 vectors, as one i64 vector: a constant where all are."""
        vectors = [p if isinstance(p, Variable) else self.const([p]) for p in parts]
        if all(isinstance(v, Constant) for v in vectors):
            return self.const(np.concatenate([v.value for v in vectors]))
        return self.Concat(*vectors, axis=0)

    def reshape(self, x: Variable, *parts: int | Variable) -> Variable:
        """x with dims given as ints (0 and -1 as ONNX reads them) and i64[1] variables."""
        y: Variable = self.Reshape(x, self.dims(*parts))
        if y.tensor_type.shape is None:
            fresh = self.program.fresh_symbol
            shape = tuple(p if isinstance(p, int) and p > 0 else fresh() for p in parts)
            y.tensor_type = TensorType(y.dtype, shape)
        return y

    def expand_like(self, x: Variable, like: Variable) -> Variable:
        """x broadcast to the shape of ``like``."""
        if x.tensor_type.shape is not None and x.tensor_type.shape == like.tensor_type.shape:
            return x
        return typed(self.Expand(x, self.shape_of(like)), like)

    def zeros_like(self, x: Variable) -> Variable:
        """Zeros of x's type."""
        zero = self.const(np.zeros((), x.dtype))
        return typed(self.Expand(zero, self.shape_of(x)), x)

    def full(self, value: float, like: Variable) -> Constant:
        """A scalar of ``like``'s dtype."""
        return self.const(value, like.dtype)

    def swap(self, x: Variable) -> Variable:
        """x with its last two dims exchanged."""
        if x.tensor_type.shape is None:
            return self.Einsum(x, equation="...ij->...ji")
        n = x.ndim
        return self.Transpose(x, perm=[*range(n - 2), n - 1, n - 2])


def typed(x: Variable, like: Variable) -> Variable:
    """x, known to have the shape of ``like`` where onnx's inference could not tell."""
    x.tensor_type = TensorType(x.dtype, like.tensor_type.shape)
    return x


def _may_be_empty(target: Variable) -> bool:
    """Whether a target shape may have a 0 that means no elements: it has no -1 to infer."""
    return not isinstance(target, Constant) or 0 in target.value


def add_result(op: Operator, index: int, variable: Variable) -> None:
    """Give a recorded op one more result."""
    before = op.outputs
    longer = [*before, *[None] * (index + 1 - len(before))]
    longer[index] = variable
    op.outputs = longer
    block = op.block
    if block is None:
        return  # an op of this tape: its results are registered when it is spliced
    variable.name = block.program.unique_name(op.type.lower())
    variable.block = block
    block.add_var(variable)


def _bound_dtypes(definition: OpDef, operands: Sequence[Operand]) -> dict[str, np.dtype]:
    """The dtypes that the variables among the operands give to the schema's type variables."""
    return {
        definition.formal_input(k).type_str: value.dtype
        for k, value in reversed(list(enumerate(operands)))
        if isinstance(value, Variable) and (definition.formal_input(k).homogeneous)
    }


def _literal_dtype(value: Operand, allowed: frozenset[str]) -> np.dtype:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype
    if len(allowed) == 1 and "tensor(int64)" in allowed:
        return np.dtype("i8")
    if len(allowed) == 1 and "tensor(bool)" in allowed:
        return np.dtype("?")
    natural = np.asarray(value).dtype
    if natural == np.float64:
        return np.dtype("f4")
    return np.dtype("i8") if natural.kind == "i" else natural


def _filled_attrs(definition: OpDef, attrs: dict[str, Attr], where: Where) -> dict[str, Attr]:
    known = definition.attributes
    if not attrs and definition.defaults is not None:
        return dict(definition.defaults)
    for name in attrs:
        if name not in known:
            raise ArgumentError(
                f"{definition.type} has no attribute {name!r}",
                where=where,
                fix=did_you_mean(name, known) or f"it has {', '.join(known) or 'none'}",
            )
    filled = {}
    for name, attribute in known.items():
        value = attrs.get(name)
        if value is None:
            value = attribute.default
        if value is not None:
            filled[name] = list(value) if isinstance(value, tuple) else value
        elif attribute.required:
            raise ArgumentError(f"{definition.type} needs the attribute {name!r}", where=where)
    return filled


def _explained(
    error: GraphoptError, definition: OpDef, inputs: Sequence[Variable | None], where: Where
) -> GraphoptError:
    operands = [
        (f"{definition.formal_input(k).name} = {v.name}", v.tensor_type)
        for k, v in enumerate(inputs)
        if v is not None
    ]
    fix = (
        "cast one of them: go.cast(x, 'float32')"
        if isinstance(error, DTypeError)
        else "change one of the shapes above"
    )
    what = f"{definition.type} cannot take these inputs: {error.what}"
    return type(error)(what, operands=operands, where=where, fix=fix)
