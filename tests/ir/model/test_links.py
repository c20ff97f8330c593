"""Variables know what makes and reads them, whatever happens to the ops."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import VerifyError
from graphopt.ir.text.parse import parse, parse_step
from graphopt.ir.text.verify import _verify_links, verify

CHAIN = """
feed x : f32[2]
a : f32[2] = Exp(x)
b : f32[2] = Mul(a, a)
c : f32[2] = Neg(b)
"""
NEST = """
feed x : f32[2]
a : f32[2] = Exp(x)
y : f32[2] = Loop(3, true, x)
  body(i : i64[], going : bool[], h : f32[2]):
    s : f32[2] = Scan(h, a, num_scan_inputs=1)
      inside(t : f32[2], k : f32[]):
        u : f32[2] = Add(t, a)
        -> u
    -> going, s
z : f32[2] = Neg(y)
""".replace("inside", "body")


def var(program, name):
    return next(v for v in program.list_vars() if v.name == name)


def uses(program, name):
    """What reads a variable, by the names of what it makes, and how often."""
    found = var(program, name).uses
    return {getattr(u, "output_arg_names", ["block"])[0]: n for u, n in found.items()}


def test_uses_are_counted_by_operand():
    program = parse(CHAIN)
    assert uses(program, "a") == {"b": 2}
    assert uses(program, "x") == {"a": 1}
    assert var(program, "a").maker is program.global_block().ops[0]
    assert var(program, "x").maker is None


def test_a_block_is_a_use_of_what_it_gives():
    program = parse(NEST)
    assert uses(program, "s") == {"block": 1}
    assert uses(program, "a") == {"s": 1, "u": 1}
    step = parse_step("step\nfeed x : f32[2]\ny : f32[2] = Exp(x)\n-> y, y")
    assert uses(step, "y") == {"block": 2}
    step.fetch = []
    assert uses(step, "y") == {}
    verify(step)


# How each link is broken: what is said of it
BROKEN = {
    "no maker": (lambda v: setattr(v["a"], "maker", None), "a does not know its maker"),
    "another maker": (lambda v: setattr(v["b"], "maker", v["c"].maker), "b does not know its"),
    "a maker of what is fed": (lambda v: setattr(v["x"], "maker", v["a"].maker), "x does not"),
    "a use too few": (lambda v: v["a"].uses.clear(), "a does not know its uses"),
    "a use that is not counted": (lambda v: v["a"].uses.update({v["b"].maker: 1}), "its uses"),
    "a use too many": (lambda v: v["a"].uses.update({v["c"].maker: 1}), "its uses"),
    "a use by a block": (lambda v: v["c"].uses.update({v["c"].block: 1}), "its uses"),
    "operands behind its back": (lambda v: v["c"].maker._take_inputs([v["a"]]), "uses"),
    "results behind its back": (lambda v: v["c"].maker._take_outputs([None]), "its maker"),
    "given behind its back": (lambda v: setattr(v["c"].block, "_outputs", (v["c"],)), "its uses"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_verify_finds_a_link_that_is_not_true(name):
    program = parse(CHAIN)
    verify(program)
    damage, said = BROKEN[name]
    damage(program.global_block().vars)
    with pytest.raises(VerifyError, match=said):
        verify(program)


def test_verify_finds_a_link_inside_a_body():
    program = parse(NEST)
    verify(program)
    var(program, "u").uses.clear()
    with pytest.raises(VerifyError, match="u does not know its uses"):
        verify(program)


def test_verify_finds_a_step_that_assigns_in_place():
    step = parse_step("step\nstate w : f32[2]\nv : f32[2] = Neg(w)\n-> w <- v")
    verify(step)
    block = step.global_block()
    step.next_state = {}
    block.ops[0].outputs = [block.var("w")]
    block.remove_var(block.var("w"))
    with pytest.raises(VerifyError):
        verify(step)


def test_operands_that_are_replaced():
    program = parse(CHAIN)
    block = program.global_block()
    block.ops[1].inputs = [block.var("a"), block.var("x")]
    assert uses(program, "a") == {"b": 1}
    assert uses(program, "x") == {"a": 1, "b": 1}
    verify(program)


def test_removed_ops_and_dropped_ones():
    program = parse(CHAIN)
    block = program.global_block()
    neg = block.ops[2]
    block.remove(neg)
    assert uses(program, "b") == {}
    assert var(program, "c").maker is None
    verify(program)
    block.append(neg)
    assert uses(program, "b") == {"c": 1}
    verify(program)
    block.drop([neg])
    assert not block.has_var("c")
    verify(program)


def test_a_body_leaves_and_comes_back_with_its_op():
    program = parse(NEST)
    block = program.global_block()
    _, loop, neg = block.ops
    block.reorder([block.ops[0], neg])
    assert program.num_blocks == 1
    assert uses(program, "a") == {}
    assert [b.idx for b in loop.blocks()] == [-1]
    block.insert(1, loop)
    assert [b.idx for b in program.blocks] == [0, 1, 2]
    assert uses(program, "a") == {"s": 1, "u": 1}
    verify(program)


def test_an_op_with_a_body_moves_to_another_block():
    """Its body is then inside that one."""
    program = parse(NEST)
    block = program.global_block()
    (body,) = block.ops[1].blocks()
    (scan,) = body.ops
    body.outputs = [body.outputs[0], body.inputs[2]]
    body.reorder([])
    scan.inputs = [block.var("x"), block.var("a")]
    for v in scan.writes():
        body.remove_var(v)
    block.insert(1, scan)
    assert [inner.parent for inner in scan.blocks()] == [block]
    verify(program)


def test_symmetry_of_rewriting():
    program = parse(NEST)
    block = program.global_block()
    before, blocks = program.text(), list(program.blocks)
    with block.rewriting() as ops:
        for op in ops:
            block.append(op)
    assert program.text() == before
    assert program.blocks == blocks
    verify(program)
    with block.rewriting() as ops:
        block.append(ops[0])
    assert program.num_blocks == 1
    assert not block.has_var("z")
    verify(program)


def rewrite(data, block, op):
    kept = data.draw(st.sets(st.sampled_from(list(block.ops))))
    again = data.draw(st.sampled_from([block.append, block.keep]))
    with block.rewriting() as ops:
        for o in ops:
            if o in kept:
                again(o)


def append(data, block, op):
    block.program.recorder().Neg(var(block.program, "x"))


def read_x(data, block, op):
    op.inputs = [var(block.program, "x"), *op.inputs[1:]]


def give(data, block, op):
    block.outputs = [*block.outputs, *op.writes()]


# What is done to an op of a block.
CHANGES = {
    "move": lambda data, b, op: b.move(op, data.draw(st.integers(0, len(b.ops) - 1))),
    "rewrite": rewrite,
    "reorder": lambda data, b, op: b.reorder(data.draw(st.permutations(list(b.ops)))),
    "remove": lambda data, b, op: b.remove(op),
    "drop": lambda data, b, op: b.drop([op]),
    "append": append,
    "inputs": read_x,
    "outputs": give,
}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_links_stay_true(data):
    """Whatever is done to the ops, in bodies too, makers and uses are those of the ops."""
    program = parse(NEST)
    gone = []
    for _ in range(data.draw(st.integers(1, 12))):
        blocks = [b for b in program.blocks if b.ops]
        if not blocks:
            break
        block = data.draw(st.sampled_from(blocks))
        op = data.draw(st.sampled_from(list(block.ops)))
        change = data.draw(st.sampled_from(sorted(CHANGES)))
        CHANGES[change](data, block, op)
        if change == "remove":
            gone.append((block, op))
        elif gone and gone[-1][0] in program.blocks and data.draw(st.booleans()):
            home, back = gone.pop()
            home.append(back)
        check_links(program)


def check_links(program):
    """``verify`` less what it says of the order."""
    _verify_links(program)
    assert [b.idx for b in program.blocks] == list(range(len(program.blocks)))
    for block in program.blocks:
        assert all(op.stands and op.block is block for op in block.ops)
        assert all(inner.parent is block for op in block.ops for inner in op.blocks())
