from graphopt.ir.text.parse import parse
from graphopt.passes.select.prune import Prune

TRAINING = """
feed x : f32[N, 4]
feed y : f32[N, 3]
param w : f32[4, 3]
state count : i64[]
h : f32[N, 3] = MatMul(x, w)
e : f32[N, 3] = Sub(h, y)
-- update
count <- Add(count, 1)
w <- Sub(w, 0.1)
"""


def kept(**arguments):
    pruned = Prune(**arguments).run(parse(TRAINING))
    return [op.type for op in pruned.global_block().ops], pruned


def test_fetches_alone():
    assert kept(fetch=("h",))[0] == ["MatMul"]


def test_roots_are_kept_with_what_they_need():
    types, pruned = kept(fetch=("h",), roots=(3,))
    assert types == ["MatMul", "Sub"]
    assert {v.name: new.name for v, new in pruned.next_state.items()} == {"w": "w@NEXT"}
    assert [v.name for v in pruned.inputs()] == ["x", "w"]


def test_fetching_a_persistable_runs_no_update():
    types, pruned = kept(fetch=("w",))
    assert types == []
    assert [v.name for v in pruned.fetch] == [v.name for v in pruned.states] == ["w"]
    assert not pruned.next_state


def test_the_program_is_cut_at_feeds():
    types, pruned = kept(fetch=("e",), feed=("h",))
    assert types == ["Sub"]
    assert not pruned.global_block().has_var("x")


def test_a_read_keeps_the_assignment_above_it():
    p = parse("state c : i64[]\nc <- Add(c, 1)\ny : i64[] = Mul(c, 2)")
    assert len(Prune(fetch=("y",)).run(p).global_block().ops) == 2


def test_the_input_program_is_untouched():
    p = parse(TRAINING)
    before = p.text()
    Prune(fetch=("h",)).run(p)
    assert p.text() == before


def test_a_run_that_assigns_nothing_still_computes_what_is_read():
    """An evaluation that reads what an update above it makes."""
    p = parse("state c : i64[]\nc <- Add(c, 1)\ny : i64[] = Mul(c, 2)")
    pruned = Prune(fetch=("y",), assigns=False).run(p)
    assert [op.type for op in pruned.global_block().ops] == ["Add", "Mul"]
    assert not pruned.next_state
