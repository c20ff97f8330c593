"""Places by name, and the rule that providers are named in their own files only."""

import ast
from pathlib import Path

import pytest

import graphopt as go
from graphopt import errors
from graphopt.runtime.ort.providers.names import as_place

ROOT = Path(go.__file__).parent
OWN = ROOT / "runtime" / "ort" / "providers"


def documentation(tree):
    """The constants that are docstrings, of modules and attributes too."""
    return {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}


def named(text):
    return text in ("cpu", "cuda", "gpu") or text.endswith("ExecutionProvider")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_other_file_names_a_provider(path):
    if OWN in path.parents:
        return
    tree = ast.parse(path.read_text())
    skipped = documentation(tree)
    found = [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in skipped and named(node.value)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (None, go.CPUPlace()),
        ("cpu", go.CPUPlace()),
        ("gpu", go.CUDAPlace(0)),
        ("gpu:1", go.CUDAPlace(1)),
        ("cuda:2", go.CUDAPlace(2)),
        (go.CUDAPlace(3), go.CUDAPlace(3)),
    ],
)
def test_names_that_paddle_gives(name, place):
    assert as_place(name) == place


@pytest.mark.parametrize("name", ["tpu", "gpu:x", "gpu:-1", 3])
def test_other_names_are_refused(name):
    with pytest.raises(errors.ArgumentError, match="there is no place") as found:
        go.static.Executor(name)
    assert "Place with the name of an onnxruntime provider" in str(found.value)
