from graphopt.ir.text.parse import parse
from graphopt.passes.engine.base import Pass, Pipeline
from graphopt.passes.select.prune import Prune, free_variables

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
    assert [v.name for v in free_variables(pruned)] == ["x", "w"]


def test_fetching_a_persistable_runs_no_update():
    types, pruned = kept(fetch=("w",))
    assert types == []
    assert pruned.global_block().has_var("w")


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


def test_a_pipeline_dumps_and_observes(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHOPT_DUMP", str(tmp_path))
    seen = []
    pipeline = Pipeline("step", Prune(fetch=("h",)))
    pipeline.run(parse(TRAINING), lambda step, program: seen.append((step, program)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00-step-recorded.txt", "01-prune.txt"]
    ((step, _),) = seen
    assert isinstance(step, Pass)
    assert "Prune(fetch=('h',)" in repr(pipeline)
