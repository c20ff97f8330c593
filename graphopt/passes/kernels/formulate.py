"""Which formulation of an op a processor is quickest at, told by measured prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphopt.ir.model.block import Block
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.step import Step
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable
from graphopt.ir.types.where import at
from graphopt.ops.kernels import blocked_conv, blocked_norm  # noqa: F401 - they register
from graphopt.ops.registry.formulations import AS_IS, FORMULATIONS, Formulation, Machine
from graphopt.ops.registry.registry import FORMULAS
from graphopt.ops.windows import pool_gradient  # noqa: F401 - formulations
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.replace import make_results
from graphopt.passes.engine.values import Key, SharingTape


@dataclass(frozen=True)
class Formulate(Pass):
    """Write each op as the formulation that costs least where shapes are known.

    An op of graphopt's own that has no better one becomes its portable body, as all do where
    nothing is ``priced``. ``block`` is the number of channels that the runtime's convolutions keep
    side by side, 0 where they do not.

    >>> from graphopt.ir.text.parse import parse_step
    >>> import graphopt.ops
    >>> s = parse_step('''
    ... step
    ... feed x : f32[2, 3, 4]
    ... feed dy : f32[2, 5, 4]
    ... param w : f32[5, 3, 1]
    ... dx : f32[2, 3, 4] = ConvInputGradient(dy, w, x, dilations=[1], pads=[0, 0], strides=[1])
    ... -> dx
    ... ''')
    >>> print(Formulate().run(s).text(where=False))
    step : opset 21, 1 op, 2 feeds, 1 param
      feed x : f32[2, 3, 4]
      feed dy : f32[2, 5, 4]
      param w : f32[5, 3, 1]
      -- forward
      dx : f32[2, 3, 4] = ConvTranspose(dy, w, strides=[1], pads=[0, 0], output_padding=[0],
          dilations=[1])
      -> dx
    """

    priced: bool = True
    block: int = 0

    def needed(self, step: Step) -> bool:
        """Whether the Step has such an op."""
        return any(_is_open(op) for block in step.blocks for op in block.ops)

    def change(self, step: Step) -> None:
        """Write the ops anew."""
        for block in list(step.blocks):
            _rewrite(block, Machine(priced=self.priced, block=self.block))


def _is_open(op: Operator) -> bool:
    return op.type in FORMULAS or op.type in FORMULATIONS


def _rewrite(block: Block, machine: Machine) -> None:
    known: dict[Key, Operator] = {}  # formulations share much, such as a batch's statistics
    with block.rewriting() as ops:
        for op in ops:
            build = chosen(op, machine) if _is_open(op) else None
            if build is None:
                block.append(op)
                continue
            with at(op.where):
                made_by = f"formulate: {build.name}"
                _replace(
                    SharingTape(block, known, role=op.role, made_by=made_by), op, build, machine
                )


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


def _replace(g: Tape, op: Operator, found: Formulation, machine: Machine) -> None:
    """Record the formulation; the last op of each result makes the op's own variable."""
    made = found.build(g, op, machine)
    make_results(g, [made] if isinstance(made, Variable) else made, op.outputs)
    g.splice([*op.writes()])
