"""Symbols become ints: a Program for feeds of known shapes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from graphopt.errors import GraphoptError
from graphopt.ir.model import schema
from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.variable import Constant, Variable
from graphopt.ir.types.types import ContainerType, Dim, Shape, TensorType
from graphopt.passes.engine.base import Pass


@dataclass(frozen=True)
class Specialise(Pass):
    """Give fed variables these ``shapes``; whatever follows from them is inferred anew.

    >>> from graphopt.ir.text.parse import parse_step
    >>> s = parse_step('''
    ... step
    ... feed x : f32[N, 4]
    ... y : f32[M] = Reshape(x, [-1])
    ... z : f32[M] = Exp(y)
    ... -> z
    ... ''')
    >>> print(Specialise({"x": (2, 4)}).run(s).text(where=False))
    step : opset 21, 2 ops, 1 feed, 0 params
      feed x : f32[2, 4]
      -- forward
      y : f32[8] = Reshape(x, [-1])
      z : f32[8] = Exp(y)
      -> z
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def needed(self, step: Step) -> bool:
        """Whether the shapes say anything new."""
        declared = step.global_block().vars
        return any(n in declared and not declared[n].tensor_type.is_static for n in self.shapes)

    def change(self, step: Step) -> None:
        """Put ints in place of symbols, and infer what follows."""
        types, declared = Types(frozenset(step.states)), step.global_block().vars
        for name, shape in self.shapes.items():
            if name in declared:
                types.bind(declared[name], shape)
        for v in step.list_vars():
            v.tensor_type = types.of(v.tensor_type)
        _refine_all(types, step.global_block())
        if types.grew:
            types.substitute(step.list_vars())


class Types:
    """The ints that symbols turned out to be, found out as ops are walked in order.

    Variables of ``fixed`` keep their types.
    """

    def __init__(self, fixed: Collection[Variable] = ()) -> None:
        self.fixed = fixed
        self.known: dict[str, int] = {}
        self.grew = False  # whether ``refine`` has found further symbols

    def bind(self, variable: Variable, shape: tuple[int, ...]) -> None:
        """The variable has this shape."""
        old = variable.tensor_type
        if isinstance(old, ContainerType) or old.is_static:
            return
        for dim, size in zip(old.shape or (), shape, strict=False):
            if isinstance(dim, str):
                self.known.setdefault(dim, size)
        variable.tensor_type = TensorType(old.dtype, shape)

    def of(self, old: TensorType) -> TensorType:
        """A type with ints for the symbols that are known."""
        if isinstance(old, ContainerType):
            element = self.of(old.element)
            return old if element is old.element else replace(old, element=element)
        shape = old.shape
        if not shape or not any(isinstance(d, str) and d in self.known for d in shape):
            return old
        return TensorType(old.dtype, tuple(self._dim(d) for d in shape))

    def _dim(self, dim: Dim) -> Dim:
        return self.known.get(dim, dim) if isinstance(dim, str) else dim

    def substitute(self, variables: Iterable[Variable]) -> bool:
        """Give variables ints for the symbols that are known; whether that has changed one."""
        changed = False
        for v in variables:
            old = v.tensor_type
            if v not in self.fixed:
                v.tensor_type = self.of(old)
            changed |= v.tensor_type is not old
        return changed

    def refine(self, op: Operator) -> bool:
        """Infer the op's results that have open dims; whether that has closed one."""
        results = list(op.writes())
        self.substitute(results)
        if all(v.tensor_type.is_static for v in results):
            return False
        types = [None if v is None else v.tensor_type for v in op.inputs]
        data = {k: v.value for k, v in enumerate(op.inputs) if isinstance(v, Constant)}
        try:
            found = schema.infer(op.definition, types, data, op.attrs, len(op.outputs))
        except GraphoptError:  # shapes that the op cannot take: the run says so
            return False
        pairs = zip(op.outputs, found, strict=False)
        closed = [self._close(v, f.dims) for v, f in pairs if v is not None]
        return any(closed)

    def _close(self, v: Variable, dims: tuple[Dim | None, ...] | None) -> bool:
        """Take over the ints that were inferred for dims that are open."""
        old = v.tensor_type
        if isinstance(old, ContainerType) or dims is None:
            return False
        shape = _closed(old.shape, dims)
        if shape is None or shape == old.shape:
            return False
        for dim, size in zip(old.shape or (), shape, strict=False):
            if isinstance(dim, str) and isinstance(size, int):
                self.grew |= self.known.setdefault(dim, size) == size
        v.tensor_type = TensorType(old.dtype, shape)
        return True


def _closed(old: Shape | None, dims: tuple[Dim | None, ...]) -> Shape | None:
    """The old dims, where they are symbols the ints that were found."""
    if old is None:
        known = [d for d in dims if d is not None]
        return tuple(known) if len(known) == len(dims) else None
    if len(old) != len(dims):
        return None
    pairs = zip(old, dims, strict=True)
    return tuple(f if isinstance(d, str) and isinstance(f, int) else d for d, f in pairs)


def _refine_all(types: Types, block: Block) -> None:
    for op in block.ops:
        for inner in op.blocks() if op.definition.has_blocks else ():
            types.substitute(inner.inputs)
            _refine_all(types, inner)
        types.refine(op)
