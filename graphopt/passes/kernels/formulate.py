"""Which formulation of an op a processor is quickest at, told by measured prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.ops.kernels import blocked_conv, blocked_norm  # noqa: F401 - they register
from graphopt.ops.registry.formulations import AS_IS, FORMULATIONS, Formulation, Machine
from graphopt.ops.registry.registry import FORMULAS
from graphopt.ops.windows import pool_gradient  # noqa: F401 - formulations
from graphopt.passes.engine.change import Change


@dataclass(frozen=True)
class Formulate(Change):
    """Write each op as the formulation that costs least where shapes are known.

    An op of graphopt's own that has no better one becomes its portable body, as all do where
    nothing is ``priced``. ``block`` is the number of channels that the runtime's convolutions keep
    side by side, 0 where they do not.

    >>> from graphopt.ir.text.parse import parse
    >>> import graphopt.ops
    >>> p = parse('''
    ... feed x : f32[2, 3, 4]
    ... feed dy : f32[2, 5, 4]
    ... param w : f32[5, 3, 1]
    ... dx : f32[2, 3, 4] = ConvInputGradient(dy, w, x, dilations=[1], pads=[0, 0], strides=[1])
    ... ''')
    >>> print(Formulate().run(p).text(where=False))
    program : opset 21, 1 op, 2 feeds, 1 param
      feed x : f32[2, 3, 4]
      feed dy : f32[2, 5, 4]
      param w : f32[5, 3, 1]
      -- forward
      dx : f32[2, 3, 4] = ConvTranspose(dy, w, strides=[1], pads=[0, 0], output_padding=[0],
          dilations=[1])
    """

    priced: bool = True
    block: int = 0

    def needed(self, program: Program) -> bool:
        """Whether the Program has such an op."""
        return any(_is_open(op) for block in program.blocks for op in block.ops)

    def change(self, program: Program) -> None:
        """Write the ops anew."""
        for block in list(program.blocks):
            _rewrite(block, Machine(priced=self.priced, block=self.block))


def _is_open(op: Operator) -> bool:
    return op.type in FORMULAS or op.type in FORMULATIONS


def _rewrite(block: Block, machine: Machine) -> None:
    ops, block.ops = block.ops, []
    for op in ops:
        build = chosen(op, machine) if _is_open(op) else None
        if build is None:
            block.append(op)
            continue
        with at(op.where):
            _replace(block, op, build, machine)


def chosen(op: Operator, machine: Machine) -> Formulation | None:
    """The cheapest formulation; None to leave the op as it is."""
    cheapest = _portable(op) if op.type in FORMULAS else None
    if not _has_price(op, machine):
        return cheapest
    best = AS_IS[op.type](op, machine)
    for found in FORMULATIONS.get(op.type, ()):
        if found.fits(op, machine) and found.cost(op, machine) < best:
            cheapest, best = found, found.cost(op, machine)
    return cheapest


def _has_price(op: Operator, machine: Machine) -> bool:
    """Whether all operands and results have static shapes, on a machine with prices."""
    known = all(v.tensor_type.is_static for v in (*op.reads(), *op.writes()))
    return known and op.type in AS_IS and machine.priced


def _portable(op: Operator) -> Formulation:
    def build(g: Tape, op: Operator, machine: Machine) -> Variable:
        results: Mapping[str, Variable] = FORMULAS[op.type].body(g, *op.inputs, **op.attrs)
        return next(iter(results.values()))

    return Formulation(op.type, "portable", lambda *_: True, lambda *_: 0.0, build)


def _replace(block: Block, op: Operator, found: Formulation, machine: Machine) -> None:
    """Record the formulation; the last op of each result makes the op's own variable."""
    g = Tape(block, role=op.role, made_by=f"formulate: {found.name}", scratch=True)
    made = found.build(g, op, machine)
    results = [made] if isinstance(made, Variable) else made
    for own, result in zip(op.outputs, results, strict=False):
        if own is not None:
            _stand(g, result, own)
    g.splice([*op.writes()])


def _stand(g: Tape, made: Variable, own: Variable) -> None:
    """Make ``own`` the result in place of ``made``, which nothing reads; else copy it."""
    assert g.scratch is not None
    maker = next((o for o in g.scratch if any(v is made for v in o.writes())), None)
    if maker is None or any(v is made for o in g.scratch for v in o.reads()):
        g.emit("Identity", made, into=[own])
    else:
        maker.outputs = [own if v is made else v for v in maker.outputs]
