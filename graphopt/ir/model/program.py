"""Program: the ops a user recorded, in order, and the variables they connect."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from graphopt.errors import ArgumentError, ArgumentTypeError
from graphopt.ir.model import current_scope
from graphopt.ir.model.block import Block
from graphopt.ir.model.names import Names, Symbols
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.schema import OPSET, domain_of
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.undo import Journal
from graphopt.ir.model.variable import Constant, Content, Parameter, Variable
from graphopt.ir.types.types import Inferred, TensorType
from graphopt.ir.types.where import UNKNOWN, Where

if TYPE_CHECKING:
    from graphopt.ir.text.graph import Graph

StateDict: TypeAlias = dict[str, np.ndarray]


class RateSource(Protocol):
    """Where a run takes the value of a scalar variable from: a learning-rate scheduler."""

    def current(self) -> float | None:
        """The value now, or None: the scope's."""

    def upcoming(self, steps: int) -> list[float] | None:
        """The values of the next steps, or None: it stays as it is."""

    def advance(self, steps: int) -> None:
        """So many steps were run."""


# What ``all_or_nothing`` copies, since it is small; all else is undone change by change.
COPIED = ("domains", "equal_dims", "opset", "rates", "tables", "version")
DIGESTED = 1024  # bytes: a constant's content is kept as a key up to here, beyond it as a digest


class Program:
    """Blocks of ops. Block 0 is global; others are bodies of control-flow ops.

    Attributes:
        random_seed: fixes the streams of random ops recorded after it is set; 0 means random.
        version: changes with every change, so compiled programs know when they are stale.
    """

    def __init__(self) -> None:
        self.journal: Journal | None = None  # not None inside all_or_nothing
        self.blocks: list[Block] = [Block(self)]
        self.names = Names()
        self.symbols = Symbols()
        self._recording = self.blocks[0]
        self.version = 0
        self.opset = OPSET
        self.domains: dict[str, int] = {}  # versions of the domains other than ai.onnx
        self.constants: dict[tuple[str, tuple[int, ...], bytes, str], Constant] = {}
        self.family = object()  # shared by clones, in which equal names mean the same variable
        self._random_seed = 0
        self.rates: dict[str, RateSource] = {}  # variables that every run is to set first
        self.tables: dict[str, str] = {}  # states of rows used in turn, and where these are kept
        self.equal_dims: dict[str, Where] = {}  # a fed dim, and the op that makes others equal it
        self._scopes: set[str] = set()  # those that were opened: see scoping.name_scope

    @property
    def random_seed(self) -> int:
        """The seed of the random ops that are recorded from now on; 0 means random."""
        return self._random_seed

    @random_seed.setter
    def random_seed(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise ArgumentError(f"random_seed must be an int, not {seed!r}", fix="e.g. 42")
        self._random_seed = int(seed)

    @property
    def num_blocks(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    def global_block(self) -> Block:
        """Block 0."""
        return self.blocks[0]

    def block(self, index: int) -> Block:
        """A block by its index."""
        return self.blocks[index]

    def current_block(self) -> Block:
        """The block that is being recorded."""
        return self._recording

    @property
    def current_block_idx(self) -> int:
        """The index of the block that is being recorded; -1 while its op is not there yet."""
        return self._recording.idx

    @contextmanager
    def recording(self, block: Block) -> Iterator[None]:
        """Inside, users' ops are recorded into ``block``."""
        outer, self._recording = self._recording, block
        try:
            yield
        finally:
            self._recording = outer

    def adopt(self, op: Operator) -> None:
        """Take note of the opset of an op, and of those in its blocks."""
        domain = op.definition.domain
        if domain == "":
            self.opset = max(self.opset, op.definition.since)
        elif op.definition.schema is not None:
            self.domains[domain] = max(self.domains.get(domain, 1), op.definition.since)
        for block in op.blocks():
            for inner in block.ops:
                self.adopt(inner)

    def register(self, block: Block, parent: Block) -> None:
        """A block, of an op that is in ``parent``, becomes part of the Program."""
        block.parent, block.idx = parent, len(self.blocks)
        self.blocks.append(block)

    def forget(self, block: Block) -> None:
        """A block is no part of the Program any more; those behind it are numbered anew."""
        if block.idx < 0:
            return
        del self.blocks[block.idx]
        self.renumber(self.blocks)
        block.idx = -1

    def renumber(self, blocks: Sequence[Block]) -> None:
        """The blocks are in this order."""
        self.blocks = list(blocks)
        for number, block in enumerate(self.blocks):
            block.idx = number

    def lower_opset(self, without: Collection[str] = ()) -> None:
        """Go down to the lowest opset that defines the ops, not counting types in ``without``."""
        definitions = [op.definition for block in self.blocks for op in block.ops]
        needed = [
            d.since for d in definitions if d.schema and not d.domain and d.type not in without
        ]
        self.opset = max([OPSET, *needed])

    def opset_of(self, type: str) -> int:
        """The version of the domain that defines the op ``type``; 0 if any will do."""
        domain = domain_of(type)
        return self.domains.get(domain, 0) if domain else self.opset

    def recorder(self) -> Tape:
        """A tape over the block that is being recorded."""
        return Tape(self.current_block())

    def list_vars(self) -> Iterator[Variable]:
        """The variables of all blocks, in the order they were made; constants are not listed."""
        return (v for block in self.blocks for v in block.vars.values())

    def all_parameters(self) -> list[Parameter]:
        """The parameters, in the order they were made."""
        return [v for v in self.list_vars() if isinstance(v, Parameter)]

    def persistables(self) -> list[Variable]:
        """The variables that keep their value between runs."""
        return [v for v in self.list_vars() if v.persistable]

    def clone(self, for_test: bool = False) -> Program:
        """A copy that shares names, hence values in a scope.

        ``for_test=True`` copies the forward part only: dropout passes its input through, batch
        normalization uses its running statistics and leaves them alone.
        """
        from graphopt.ir.edit import clone

        return clone.for_test(self) if for_test else clone.copy(self)

    def train(self) -> None:
        """Switch the recorded or loaded ops to training, in place; before ``minimize``.

        Dropout drops, anew in every run; BatchNormalization normalizes by the batch and assigns
        its running statistics. One inside a body stays in test mode, which a warning says.

        Raises:
            ArgumentError: the Program has gradients, or statistics that are no state.
        """
        from graphopt.ir.edit import modes

        modes.train(self)

    def eval(self) -> None:
        """Switch back, in place: what ``clone(for_test=True)`` does to the ops of its copy.

        Raises:
            ArgumentError: the Program has gradients.
        """
        from graphopt.ir.edit import modes

        modes.evaluate(self)

    def state_dict(self, mode: str = "all", scope: current_scope.Holder | None = None) -> StateDict:
        """The values that the scope holds, by name.

        ``mode`` is 'param' for the parameters, 'opt' for all other persistable variables (the
        optimizers' state, running statistics, learning rates), 'all' for both. ``scope`` is by
        default the global one.

        Raises:
            UninitializedError: a variable has no value yet.
        """
        if not isinstance(mode, str):
            raise ArgumentTypeError(f"state_dict: mode must be a str, not {type(mode).__name__}")
        if mode not in ("all", "param", "opt"):
            raise ArgumentError(f"state_dict: there is no mode {mode!r}", fix="all, param or opt")
        chosen = [
            v
            for v in self.persistables()
            if mode == "all" or isinstance(v, Parameter) == (mode == "param")
        ]
        return current_scope.read(chosen, scope)

    def set_state_dict(
        self, state_dict: Mapping[str, object], scope: current_scope.Holder | None = None
    ) -> None:
        """Set values by name: all of them, or on an error none. Variables not named keep theirs.

        ``state_dict`` maps names to arrays; ``scope`` is by default the global one.

        Raises:
            ArgumentTypeError: ``state_dict`` is not a dict.
            StateError: a name is unknown, or a value has another shape or dtype.
        """
        if not isinstance(state_dict, Mapping):
            raise ArgumentTypeError(f"a dict is wanted, not a {type(state_dict).__name__}")
        current_scope.write({v.name: v for v in self.persistables()}, state_dict, scope)

    def graph(self) -> Graph:
        """Ops and variables as a networkx graph."""
        from graphopt.ir.text import graph

        return graph.to_networkx(self)

    def text(self, where: bool = True) -> str:
        """The Program, one op per line; ``where`` adds the user's lines."""
        from graphopt.ir.text import text

        return text.print_program(self, where=where)

    def to_string(self, throw_on_error: bool = False, with_details: bool = False) -> str:
        """Paddle's name of ``text``; ``with_details`` adds the user's lines.

        ``throw_on_error`` is accepted as in Paddle and changes nothing.

        Raises:
            ArgumentTypeError: a flag is not a bool.
        """
        if not (isinstance(throw_on_error, bool) and isinstance(with_details, bool)):
            raise ArgumentTypeError("to_string: both flags must be bool")
        return self.text(where=with_details)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        ops = sum(len(block.ops) for block in self.blocks)
        return f"<Program {ops} ops, {len(self.all_parameters())} params, opset {self.opset}>"

    def unique_name(self, prefix: str) -> str:
        """``prefix`` with the first of ``_0``, ``_1``, … that is not taken in this Program."""
        return self.names.unique(prefix, self.journal)

    def unique_scope(self, outer: str, prefix: str) -> str:
        """``prefix``, with a number if ``outer`` already has a scope of this name."""
        name, number = prefix, 0
        while outer + name in self._scopes:
            number += 1
            name = f"{prefix}_{number}"
        self._scopes.add(outer + name)
        return name

    def unused_name(self, name: str) -> str:
        """The name itself if it is free, else with a number."""
        return self.unique_name(name) if self.has_var(name) else name

    def has_var(self, name: str) -> bool:
        """Whether a variable, of any block, has or had this name."""
        return name in self.names

    def note_symbols(self, tensor_type: TensorType) -> None:
        """Remember the symbols of ``tensor_type``, so that fresh ones differ."""
        if tensor_type.shape:
            self.symbols.note(tensor_type.shape, self.journal)

    def claim_symbol(self, symbol: str) -> str:
        """A symbol that the user chose; a generated one of this name gets another."""
        if self.symbols.is_generated(symbol):
            self.rename_symbol(symbol, self.fresh_symbol(), UNKNOWN)
        self.symbols.claim(symbol, self.journal)
        return symbol

    def fresh_symbol(self) -> str:
        """A symbol for a dim nothing is known of: N, M and so on, then d12, d13 and so on."""
        return self.symbols.fresh(self.journal)

    def tensor_type(self, inferred: Inferred) -> TensorType:
        """The type that was ``inferred``, with a fresh symbol for every open dim."""
        return inferred.closed(self.fresh_symbol)

    def take_counters(self, other: Program) -> None:
        """Go on numbering names and symbols where ``other`` is."""
        self.names.go_on_from(other.names)
        self.symbols.go_on_from(other.symbols)
        self.opset, self.rates, self.domains = other.opset, dict(other.rates), dict(other.domains)
        self.tables = dict(other.tables)
        self.equal_dims, self._scopes = dict(other.equal_dims), set(other._scopes)

    def rename_symbol(self, old: str, new: str, where: Where) -> None:
        """Let ``new`` stand for the dims called ``old`` too, which ``where`` made equal to them."""
        self.equal_dims[new] = where
        for variable in self.list_vars():
            before = variable.tensor_type
            if before.shape is not None and old in before.shape:
                if self.journal is not None:
                    self.journal.field(variable, "tensor_type")
                renamed = tuple(new if d == old else d for d in before.shape)
                variable.tensor_type = TensorType(variable.dtype, renamed)

    def constant(self, value: np.ndarray, name: str = "") -> Constant:
        """The constant of this value: one per Program, or one per ``name`` where that is given."""
        content = (_dtype_key(value.dtype), value.shape, _digest(value))
        if (*content, name) not in self.constants:
            frozen = np.array(value, order="C")
            frozen.flags.writeable = False
            self._hold(frozen, content, name)
        return self.constants[*content, name]

    def shared_constant(self, constant: Constant) -> Constant:
        """What stands for another Program's constant here: it holds the very same array."""
        if (*constant.content, constant.name) not in self.constants:
            self._hold(constant.value, constant.content, constant.name)
        return self.constants[*constant.content, constant.name]

    def _hold(self, frozen: np.ndarray, content: Content, name: str) -> None:
        own = self.unused_name(name) if name else self.unique_name("const")
        self.names.take(own, self.journal)
        made = Constant(own, frozen, content, block=self.blocks[0], where=UNKNOWN)
        for key in ((*content, name), (*content, "")):
            if key not in self.constants:
                if self.journal is not None:
                    self.journal.entry(self.constants, key)
                self.constants[key] = made

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """If the body raises, the Program is as it was. Inside another one it does nothing."""
        if self.journal is not None:
            yield
            return
        fields = {name: copy(getattr(self, name)) for name in COPIED}
        journal = self.journal = Journal()
        try:
            yield
        except BaseException:
            self.journal = None  # what undoes a change is not noted itself
            journal.undo()
            for name, value in fields.items():
                setattr(self, name, value)
            raise
        finally:
            self.journal = None


@cache
def _dtype_key(dtype: np.dtype) -> str:
    """What tells dtypes apart; numpy takes long to make it."""
    return dtype.str + dtype.name


def _digest(value: np.ndarray) -> bytes:
    """What is equal for equal contents, and short."""
    if value.dtype == object or value.nbytes <= DIGESTED:
        return value.tobytes()
    return sha256(np.ascontiguousarray(value).view(np.uint8).data).digest()
