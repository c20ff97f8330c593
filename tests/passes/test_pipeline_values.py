"""Pipelines as values: which passes run, what is seen of them, and what is written of each."""

from dataclasses import dataclass

import pytest

from graphopt.errors import ArgumentError, GraphoptError
from graphopt.passes.engine.base import Pass
from graphopt.passes.engine.dead import DeadCode
from graphopt.passes.memory.overwrite import Donate
from graphopt.passes.pipelines import (
    DUMP,
    FILE,
    KNOWN,
    OPTIMISE,
    STEP,
    STEPS,
    WITHOUT,
    Pipeline,
    Setting,
)
from graphopt.passes.simplify.fold import Fold
from tests.passes.both_runtimes import as_step, lines

TEXT = """
feed x : f32[N, 4]
param w : f32[4, 3]
h : f32[N, 3] = MatMul(x, w)
i : f32[N, 3] = Identity(h)
y : f32[N, 3] = Exp(i)
-- update
w <- Sub(w, 0.1)
"""
SETTING = Setting(shapes={"x": (5, 4)})


@dataclass(frozen=True)
class Failing(Pass):
    """A pass that does not know how."""

    def change(self, step):
        raise GraphoptError("no")


def names(pipeline, setting=SETTING):
    return [type(p).__name__ for p in pipeline.passes(setting)]


def files(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("pipeline", [FILE, STEP, STEPS], ids=lambda p: p.name)
def test_each_pass_of_a_compile_is_dumped(pipeline, tmp_path, monkeypatch):
    monkeypatch.setenv(DUMP, str(tmp_path))
    step = as_step(TEXT, "y")
    before = step.text()
    after = pipeline.run(step, SETTING)
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"0000-{pipeline.name}"
    expected = ["selected", *names(pipeline)]
    assert files(folder) == [f"{k:02d}-{name}.txt" for k, name in enumerate(expected)]
    assert (folder / "00-selected.txt").read_text() == before + "\n"
    assert (folder / files(folder)[-1]).read_text() == after.text() + "\n"


def test_a_dump_overwrites_nothing(tmp_path, monkeypatch):
    directory = tmp_path / "new" / "folder"
    monkeypatch.setenv(DUMP, str(directory))
    STEP.run(as_step(TEXT, "y"), SETTING)
    first = directory / "0000-step"
    kept = {name: (first / name).read_text() for name in files(first)}
    (directory / "0001-mine").mkdir()
    STEP.run(as_step(TEXT, "h"), SETTING)
    FILE.run(as_step(TEXT, "y"))
    assert files(directory) == ["0000-step", "0001-mine", "0002-step", "0003-file"]
    assert files(directory / "0001-mine") == []
    assert {name: (first / name).read_text() for name in files(first)} == kept


def test_what_is_not_asked_for_is_not_dumped(tmp_path, monkeypatch):
    monkeypatch.delenv(DUMP, raising=False)
    monkeypatch.chdir(tmp_path)
    STEP.run(as_step(TEXT, "y"), SETTING)
    assert files(tmp_path) == []


def test_a_failure_names_the_pass_and_leaves_what_was_dumped(tmp_path, monkeypatch):
    monkeypatch.setenv(DUMP, str(tmp_path))
    pipeline = Pipeline("short", OPTIMISE).adding(Failing(), before="Fold")
    place = names(pipeline).index("Failing") + 1
    with pytest.raises(GraphoptError) as caught:
        pipeline.run(as_step(TEXT, "y"), SETTING)
    (note,) = caught.value.__notes__
    assert note.startswith(f"in pass {place} of short: Failing(), after Specialise(")
    assert len(files(tmp_path / "0000-short")) == place


def test_an_observer_sees_each_pass_and_the_step_before_it():
    seen = []
    step = as_step(TEXT, "y")
    STEP.run(step, SETTING, lambda made, before: seen.append((made, lines(before))))
    assert [type(made).__name__ for made, _ in seen] == names(STEP)
    assert all(isinstance(made, Pass) for made, _ in seen)
    assert seen[0][1] == lines(as_step(TEXT, "y"))
    assert any("Identity" in line for line in seen[0][1])
    assert not any("Identity" in line for line in seen[-1][1])


@pytest.mark.parametrize("separator", [" ", ",", ", "])
def test_passes_are_left_out_by_the_environment(separator, monkeypatch):
    monkeypatch.setenv(WITHOUT, separator.join(["Fold", "CommonSubexpressions"]))
    left = names(STEP)
    assert "Fold" not in left
    assert "CommonSubexpressions" not in left
    monkeypatch.delenv(WITHOUT)
    assert [n for n in names(STEP) if n not in ("Fold", "CommonSubexpressions")] == left


@pytest.mark.parametrize("name", ["Flod", "Streams", "Decompose", "Repeat", "Cut"])
def test_what_is_no_pass_cannot_be_left_out(name, monkeypatch):
    """Nor can what the runtime needs."""
    monkeypatch.setenv(WITHOUT, f"Fold {name}")
    with pytest.raises(ArgumentError, match=f"{WITHOUT} names '{name}'"):
        STEP.run(as_step(TEXT, "y"), SETTING)


def test_a_name_that_is_nearly_right_is_proposed(monkeypatch):
    monkeypatch.setenv(WITHOUT, "Flod")
    with pytest.raises(ArgumentError, match="Fold"):
        FILE.run(as_step(TEXT, "y"))


def test_every_pass_of_one_pipeline_may_be_named_for_all(monkeypatch):
    monkeypatch.setenv(WITHOUT, " ".join(KNOWN))
    assert names(FILE) == ["Streams", "Decompose"]
    assert names(STEP) == ["Streams", "Decompose"]
    assert names(STEPS) == ["Streams", "Decompose", "Inline", "Repeat"]


def test_without():
    assert STEP.without() == STEP
    short = STEP.without("CommonSubexpressions", "Fold")
    assert short.names() == [n for n in STEP.names() if n not in ("CommonSubexpressions", "Fold")]
    assert STEPS.without("Donate") == STEPS  # which it does not have
    with pytest.raises(ArgumentError, match="the pipeline 'step' has no pass 'Flod'"):
        STEP.without("Flod")


def test_replacing():
    twice = DeadCode()
    changed = STEP.replacing("CommonSubexpressions", twice)
    assert changed.names().count("DeadCode") == 3
    assert "CommonSubexpressions" not in changed.names()
    assert STEP.names().count("CommonSubexpressions") == 2
    own = STEP.replacing("Donate", Donate(least=0))
    assert Donate(least=0) in [*own.passes(SETTING)]
    with pytest.raises(ArgumentError, match="has no pass 'Cut'"):
        STEP.replacing("Cut", twice)


def test_adding():
    assert names(STEP.adding(DeadCode(), before="CommonSubexpressions")).index("DeadCode") == (
        names(STEP).index("CommonSubexpressions")
    )
    behind = STEP.adding(Fold(), after="CommonSubexpressions").names()
    places = [k for k, name in enumerate(behind) if name == "CommonSubexpressions"]
    assert behind.index("Fold", places[-1]) == places[-1] + 1
    assert len(behind) == len(STEP.names()) + 1


@pytest.mark.parametrize(
    "places", [{}, {"before": "Fold", "after": "Fold"}, {"after": "Repeat"}, {"before": "Flod"}]
)
def test_adding_needs_one_place_that_there_is(places):
    with pytest.raises(ArgumentError):
        STEP.adding(DeadCode(), **places)


def test_since():
    rest = STEP.since("History")
    assert rest.names() == STEP.names()[STEP.names().index("History") :]
    assert rest.name == STEP.name
    again = STEP.since("CommonSubexpressions").names()
    assert again.count("CommonSubexpressions") == 2  # from the first


def test_in_two_parts_it_is_the_same():
    step = as_step(TEXT, "y")
    at = STEP.names().index("History")
    first = Pipeline("step", STEP.entries[:at])
    whole = STEP.run(as_step(TEXT, "y"), SETTING)
    assert STEP.since("History").run(first.run(step, SETTING), SETTING).text() == whole.text()


def test_a_pipeline_prints_a_reason_for_each_pass():
    for pipeline in (FILE, STEP, STEPS):
        title, *entries = str(pipeline).splitlines()
        assert title == pipeline.name
        assert [line.split()[0] for line in entries] == pipeline.names()
        assert all(len(line.split()) > 3 for line in entries)
