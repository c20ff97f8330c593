"""Block: a list of ops and the variables they define."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError, UnknownVariableError, did_you_mean
from graphopt.ir.model.name_scopes import name_scope_of
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import Attr, Formal, op_def
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.ir.types.types import DTypeLike, TensorType, as_dtype
from graphopt.ir.types.where import here

if TYPE_CHECKING:
    from graphopt.ir.model.program import Program


class Block:
    """A list of ops and the variables they define.

    Block 0 of ``program`` is global. Others are attributes of control-flow ops: they take
    ``inputs``, read variables of the blocks around them, from ``parent`` on, and give ``outputs``.
    ``idx`` is -1 while the op that holds the block does not stand in the Program.
    """

    def __init__(self, program: Program, parent: Block | None = None) -> None:
        self.program = program
        self.parent = parent
        self.idx = -1 if parent else 0
        self._ops: list[Operator] = []
        self.vars: dict[str, Variable] = {}
        self.inputs: list[Variable] = []
        self._outputs: tuple[Variable, ...] = ()

    @property
    def ops(self) -> Sequence[Operator]:
        """The ops in order, to be read; ``append`` and its like change them."""
        return self._ops

    @property
    def outputs(self) -> tuple[Variable, ...]:
        """The variables that are the block's results."""
        return self._outputs

    @outputs.setter
    def outputs(self, values: Sequence[Variable]) -> None:
        journal = self.program.journal
        if journal is not None:
            journal.field(self, "outputs")
        self._unread()
        self._outputs = tuple(values)
        if self.idx >= 0:
            self._read()

    def _read(self) -> None:
        for v in self._outputs:
            v.uses[self] = v.uses.get(self, 0) + 1

    def _unread(self) -> None:
        for v in self._outputs:
            v.uses.pop(self, None)

    def enter(self, parent: Block) -> None:
        """The op that holds the block has come to stand in ``parent``: so do those inside."""
        if self.idx < 0:
            self.program.register(self, parent)
            self._read()
        for op in self._ops:
            op.place()

    def leave(self) -> None:
        """The op that holds the block has left the Program."""
        for op in self._ops:
            op.lift()
        self._unread()
        self.program.forget(self)

    @property
    def parent_idx(self) -> int:
        """The index of the block around this one; -1 for the global block."""
        return -1 if self.parent is None else self.parent.idx

    def captures(self) -> Iterator[Variable]:
        """The variables of the blocks around this one that it reads, once each."""
        own = {id(v) for v in self.inputs}
        own.update(id(v) for op in self._ops for v in op.writes())
        for v in (*(v for op in self._ops for v in op.reads()), *self._outputs):
            if id(v) not in own:
                own.add(id(v))
                yield v

    def var(self, name: str) -> Variable:
        """The variable of this name.

        Raises:
            UnknownVariableError: there is none.
            ArgumentTypeError: ``name`` is not a str.
        """
        if not isinstance(name, str):
            raise ArgumentTypeError(f"a variable's name is a str, not {type(name).__name__}")
        if name not in self.vars:
            raise UnknownVariableError(
                f"the Program has no variable {name!r}", fix=did_you_mean(name, self.vars)
            )
        return self.vars[name]

    def has_var(self, name: str) -> bool:
        """Whether this block has a variable of this name."""
        return name in self.vars

    def all_parameters(self) -> list[Parameter]:
        """The block's parameters."""
        return list(self.iter_parameters())

    def iter_parameters(self) -> Iterator[Parameter]:
        """The block's parameters, lazily."""
        return (v for v in self.vars.values() if isinstance(v, Parameter))

    def add_input(self, name: str, tensor_type: TensorType) -> Variable:
        """A new formal input of the type ``tensor_type``, called ``name``, or that and a number."""
        variable = Variable(self.program.unused_name(name), tensor_type, block=self, where=here())
        variable.stop_gradient = not tensor_type.is_float
        self.add_var(variable)
        self.inputs.append(variable)
        return variable

    def add_var(self, variable: Variable) -> None:
        """Register a variable under its name.

        Raises:
            ArgumentError: the name is taken, or empty.
            ArgumentTypeError: the name is not a str.
        """
        if not isinstance(variable.name, str):
            kind = type(variable.name).__name__
            raise ArgumentTypeError(f"a variable's name is a str, not {kind}", where=variable.where)
        if not variable.name:
            raise ArgumentError("a variable needs a name that is not empty", where=variable.where)
        if variable.name in self.vars:
            raise ArgumentError(
                f"the Program already has a variable {variable.name!r}",
                operands=[
                    ("existing", self.vars[variable.name].tensor_type),
                    ("new", variable.tensor_type),
                ],
                where=self.vars[variable.name].where,
                fix="give one of them another name",
            )
        journal = self.program.journal
        if journal is not None:
            journal.entry(self.vars, variable.name)
        self.vars[variable.name] = variable
        self.program.names.take(variable.name, journal)
        self.program.note_symbols(variable.tensor_type)
        self.program.version += 1

    def remove_var(self, variable: Variable) -> None:
        """The block has no such variable any more; its name stays taken."""
        if self.vars.get(variable.name) is not variable:
            return
        if self.program.journal is not None:
            self.program.journal.whole(self.vars)
        del self.vars[variable.name]
        self.program.version += 1

    def create_var(
        self,
        name: str | None = None,
        shape: Sequence[int | str | None] = (),
        dtype: DTypeLike = "float32",
        persistable: bool = False,
        stop_gradient: bool = False,
    ) -> Variable:
        """A new variable; None or -1 in ``shape`` is a dim of any size, a str a symbol for one.

        ``name`` is by default ``_generated_var_0``; a ``persistable`` variable keeps its value
        between runs; ``dtype`` is f32 unless given; ``stop_gradient`` keeps gradients from it.

        Raises:
            ArgumentError: the name is taken; a dim is below -1.
            ArgumentTypeError: the name is not a str, a dim no int, None or str, or ``dtype`` none.
        """
        variable = Variable(
            name or self.program.unique_name("_generated_var"),
            declared_type(self.program, shape, dtype),
            block=self,
            where=here(),
            persistable=persistable,
            stop_gradient=stop_gradient,
        )
        self.add_var(variable)
        return variable

    def append(self, op: Operator) -> None:
        """Append an op, registering its results; a result without a name gets one."""
        self.insert(len(self._ops), op)

    def insert(self, index: int, op: Operator) -> None:
        """Put an op before the one at ``index``, as ``append`` does at the end."""
        if op.stands and op.block is self:  # it comes back while the block is rewritten
            self._ops.insert(index, op)
            return
        for variable in op.writes():
            self._adopt(variable, op)
        op.block = self
        for inner in op.blocks():
            inner.parent = self
        op.scope = op.scope or name_scope_of(self.program)
        self._ops.insert(index, op)
        self.program.adopt(op)
        if self.idx >= 0:
            op.place()
        if self.program.journal is not None:
            self.program.journal.on_undo(partial(self.remove, op))
        self.program.version += 1

    def keep(self, op: Operator) -> None:
        """Append an op that stands in the block already, while it is rewritten."""
        self._ops.append(op)

    def remove(self, op: Operator) -> None:
        """Take an op out; its results stay declared."""
        self._note_order()
        place = next(k for k in range(len(self._ops) - 1, -1, -1) if self._ops[k] is op)
        del self._ops[place]
        op.lift()
        self.program.version += 1

    def move(self, op: Operator, index: int) -> None:
        """Put an op that is there already before the one at ``index``."""
        self._note_order()
        self._ops.remove(op)
        self._ops.insert(index, op)
        self.program.version += 1

    def reorder(self, ops: Sequence[Operator]) -> None:
        """Have exactly these ops, in this order; those that are left out are gone.

        All must stand in the block already: new ones are appended first.
        """
        self._note_order()
        gone = set(self._ops).difference(ops)
        self._ops = list(ops)
        for op in gone:
            op.lift()
        self.program.version += 1

    @contextmanager
    def rewriting(self) -> Iterator[Sequence[Operator]]:
        r"""The ops, to be appended again one by one, or left out, with others between them.

        >>> from graphopt.ir.text.parse import parse
        >>> block = parse("feed x : f32[2]\ny : f32[2] = Exp(x)\nz : f32[2] = Exp(x)").block(0)
        >>> with block.rewriting() as ops:
        ...     block.append(ops[1])
        >>> [op.output_arg_names for op in block.ops], len(block.var("x").uses)
        ([['z']], 1)
        """
        self._note_order()
        before, self._ops = self._ops, []
        yield before
        for op in set(before).difference(self._ops):
            op.lift()
            for v in op.writes():
                if v.maker is None and not (v.uses or v.persistable):
                    self.remove_var(v)
        self.program.version += 1

    def drop(self, gone: Collection[Operator]) -> None:
        """Take the ops ``gone`` out, with the variables that they make."""
        if not gone:
            return
        lost = set(gone)
        self.reorder([op for op in self._ops if op not in lost])
        for op in lost:
            for v in op.writes():
                if not v.persistable:
                    self.remove_var(v)

    def _note_order(self) -> None:
        journal = self.program.journal
        if journal is not None:
            journal.on_undo(partial(self._restore, list(self._ops), list(self.program.blocks)))

    def _restore(self, ops: Sequence[Operator], blocks: Sequence[Block]) -> None:
        for op in set(self._ops).difference(ops):
            op.lift()
        self._ops = list(ops)
        for op in self._ops:
            if self.idx >= 0:
                op.place()
        self.program.renumber(blocks)

    def _adopt(self, variable: Variable, op: Operator) -> None:
        if not variable.name:
            variable.name = self.program.unique_name(op.type.lower())
        if self.vars.get(variable.name) is not variable:
            variable.block = self
            self.add_var(variable)

    def append_op(
        self,
        type: str,
        inputs: Mapping[str, Variable | Sequence[Variable]] | None = None,
        outputs: Mapping[str, Variable | Sequence[Variable]] | None = None,
        attrs: Mapping[str, Attr] | None = None,
    ) -> Operator:
        """Record an op by slots, as ``paddle.static`` does; the outputs get their inferred types.

        ``type`` and the slots' names are onnx's, and so are those of ``attrs``.

        Raises:
            UnknownOpError: there is no op of this type.
            ShapeError, DTypeError: the op cannot take the inputs.
            ArgumentError: the op has no such slot or attribute, or lacks an attribute.
        """
        definition = op_def(type, self.program.opset_of(type))
        operands = _flatten(definition.type, definition.inputs, inputs or {})
        results = _flatten(definition.type, definition.outputs, outputs or {})
        Tape(self).emit(type, *operands, into=results, **dict(attrs or {}))
        return self._ops[-1]

    def __repr__(self) -> str:
        return f"<Block {self.idx}: {len(self._ops)} ops, {len(self.vars)} vars>"


def _flatten(
    type: str, formals: Sequence[Formal], slots: Mapping[str, Variable | Sequence[Variable]]
) -> list[Variable | None]:
    """Slots in the schema's order; None for an omitted one that others follow."""
    names = [f.name for f in formals]
    for name in slots:
        if name not in names:
            fix = did_you_mean(name, names) or f"it has {names}"
            raise ArgumentError(f"{type} has no slot {name!r}", fix=fix)
    flat: list[Variable | None] = []
    for name in names:
        value = slots.get(name)
        flat += list(value) if isinstance(value, (list, tuple)) else [value]  # type: ignore[list-item]
    while flat and flat[-1] is None:
        flat.pop()
    return flat


def declared_type(
    program: Program, shape: Sequence[int | str | None], dtype: DTypeLike
) -> TensorType:
    """The type a user declares: None and -1 are dims of any size, a str is a symbol."""
    return TensorType(as_dtype(dtype), tuple(_declared_dim(program, d) for d in shape))


def _declared_dim(program: Program, dim: int | str | None) -> int | str:
    if dim is None or (isinstance(dim, (int, np.integer)) and dim == -1):
        return program.fresh_symbol()
    if isinstance(dim, str):
        return program.claim_symbol(dim)
    if isinstance(dim, bool) or not isinstance(dim, (int, np.integer)):
        raise ArgumentTypeError(f"a dim is an int, None or a symbol, not {dim!r}")
    if dim < 0:
        raise ArgumentError(f"a dim cannot be {dim}", fix="use None for a dim of any size")
    return int(dim)
