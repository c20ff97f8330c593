"""What fails while it is recorded leaves the Program as it was."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.edit import control
from graphopt.ir.text.parse import parse


def picture(program):
    """All that an exception must leave as it was."""
    variables = [v for block in program.blocks for v in block.vars.values()]
    ops = [(op, op.inputs, op.outputs, dict(op.attrs)) for b in program.blocks for op in b.ops]
    known = [*variables, *program.constants.values()]
    return {
        "text": program.text(),
        "blocks": [(b, b.idx, b.parent, b.outputs, list(b.inputs)) for b in program.blocks],
        "ops": [(id(op), *(tuple(map(id, side)) for side in sides)) for op, *sides, _ in ops],
        "vars": [(v.name, id(v), str(v.tensor_type)) for v in variables],
        "makers": {id(v): v.maker for v in known},
        "uses": {id(v): dict(v.uses) for v in known},
        "names": (set(program.names._taken), dict(program.names._next)),
        "symbols": (set(program.symbols._used), set(program.symbols._generated),
                    program.symbols._count),
        "constants": {key: id(c) for key, c in program.constants.items()},
        "rest": (program.opset, dict(program.domains), program.version, dict(program.equal_dims)),
    }  # fmt: skip


class RecordingError(Exception):
    """What goes wrong while something is recorded."""


def name_of_user(g, v, k):
    if not g.program.has_var(f"user{k}"):
        g.emit("Exp", v, names=[f"user{k}"])


def feed(g, dim):
    g.block.create_var(None, [dim, 2]).is_data = True


def assign_new(g, v, k):
    g.emit("Identity", v, into=[g.block.create_var(None, [2], persistable=True)])


def assign(g, v, k):
    g.emit("Neg", g.block.var("s"), into=[g.block.var("s")])


def branches(g, v, k):
    flag = g.Greater(g.ReduceSum(v, keepdims=0), 0.0)
    control.cond(g, flag, lambda t: [t.Exp(v)], lambda t: [t.Mul(v, np.float32(k))])


def read_p(g, v, k):
    op = nth(g, k)
    op.inputs = [g.block.var("p"), *op.inputs[1:]]


def rewrite(g, v, k):
    with g.block.rewriting() as ops:
        for op in ops[k % 2 :]:
            g.block.append(op)
            g.Neg(g.block.var("p"))


def give(g, v, k):
    g.block.outputs = [v]


def inside(g, v, k):
    with g.program.all_or_nothing():
        g.Tanh(v)


def nth(g, k):
    return g.block.ops[k % len(g.block.ops)]


# What can be done to a Program: to a variable v of it, or by a number k.
KINDS = {
    "op": lambda g, v, k: g.Neg(v),
    "constant": lambda g, v, k: g.Mul(v, np.float32(k / 8)),
    "named": name_of_user,
    "feed": lambda g, v, k: feed(g, None),
    "symbol": lambda g, v, k: feed(g, "N" if k % 2 else "batch"),
    "equal": lambda g, v, k: g.Add(g.block.var("p"), g.block.var("q")),
    "state": assign_new,
    "assign": assign,
    "opset": lambda g, v, k: g.emit("Swish", v) if k % 2 else g.Gelu(v),
    "body": branches,
    "inputs": read_p,
    "move": lambda g, v, k: g.block.move(nth(g, k), 0),
    "remove": lambda g, v, k: g.block.remove(nth(g, k)),
    "drop": lambda g, v, k: g.block.drop([nth(g, k)]),
    "rewrite": rewrite,
    "reorder": lambda g, v, k: g.block.reorder(list(g.block.ops)[:: -1 if k % 2 else 2]),
    "give": give,
    "inside": inside,
}


def record(program, kind, k):
    """One of these, where there are ops."""
    block = program.global_block()
    if block.ops:
        values = [v for v in block.vars.values() if v.tensor_type.is_float]
        KINDS[kind](program.recorder(), values[k % len(values)], k)


START = """
feed p : f32[N]
feed q : f32[M]
state s : f32[2]
a : f32[N] = Exp(p)
b : f32[N] = Mul(a, 2.0)
c : f32[2] = Neg(s)
"""


def record_in_vain(program, plan):
    with program.all_or_nothing():
        for kind, k in plan:
            record(program, kind, k)
        raise RecordingError


PLANS = st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 20)), max_size=8)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(PLANS, PLANS)
def test_a_failed_recording_leaves_nothing(before, failed):
    program = parse(START)
    for kind, k in before:
        record(program, kind, k)
    expected = picture(program)
    with pytest.raises(RecordingError):
        record_in_vain(program, failed)
    assert picture(program) == expected
    assert program.journal is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_that_goes_well_stays(kind):
    program, other = parse(START), parse(START)
    record(program, kind, 3)
    with other.all_or_nothing():
        record(other, kind, 3)
    assert program.text(where=False) == other.text(where=False)
    assert other.journal is None
