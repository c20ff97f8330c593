"""onnx's own backend suite, through graphopt.

``passing.txt`` names the cases that pass; onnxruntime by itself passes 1,433 of them, the others
are mostly of ops, or definitions of ops, that it does not know. Reading, lowering and running are
ours in every one.
"""

import glob
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.runner import Runner

import graphopt as go
from graphopt.errors import ArgumentError, FileError
from tests.ops import conftest  # noqa: F401 - the reference makes the cases, and pools slowly

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
PASSING = set((Path(__file__).parent / "passing.txt").read_text().split())
GROUPS = 24


@pytest.fixture(scope="module")
def cases():
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it overflows on purpose while it makes its cases
        loaded = [case for kind in KINDS for case in load_model_tests(kind=kind)]
    found = {case.name: case for case in loaded if case.name in PASSING}
    assert len(PASSING) >= 1434
    assert len(found) >= 0.97 * len(PASSING)  # other versions of onnx have other cases
    return found


def read_value(path, kind):
    data = Path(path).read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def data_sets(case, model):
    if not case.model_dir:
        return case.data_sets
    return [
        tuple(
            [
                read_value(f"{folder}/{kind}_{k}.pb", info.type)
                for k, info in enumerate(infos)
                if Path(f"{folder}/{kind}_{k}.pb").exists()
            ]
            for kind, infos in (("input", model.graph.input), ("output", model.graph.output))
        )
        for folder in sorted(glob.glob(f"{case.model_dir}/test_data_set_*"))
    ]


def check(case):
    model = onnx.load(f"{case.model_dir}/model.onnx") if case.model_dir else case.model
    prepared = go.onnx.backend.prepare(model)
    for inputs, expected in data_sets(case, model):
        Runner.assert_similar_outputs(
            expected, prepared.run(inputs), rtol=case.rtol, atol=case.atol
        )


@pytest.mark.parametrize("group", range(GROUPS))
def test_suite(cases, group):
    failed = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sorted(cases)[group::GROUPS]:
            try:
                check(cases[name])
            except Exception as error:
                failed[name] = f"{type(error).__name__}: {error}"
    assert not failed


def test_inputs_by_position_by_name_or_alone():
    text = '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y) { y = Exp(x) }'
    prepared = go.onnx.backend.prepare(onnx.parser.parse_model(text))
    x = np.array([0, 1], np.float32)
    for inputs in ([x], (x,), x, {"x": x}):
        (y,) = prepared.run(inputs)
        np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)
    with pytest.raises(ArgumentError, match="2 inputs are given"):
        prepared.run([x, x])
    assert go.onnx.backend.run_model(onnx.parser.parse_model(text), [x])[0].dtype == np.float32


def test_compatibility():
    good = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (float[2] y) { y = Exp(x) }'
    )
    assert go.onnx.backend.is_compatible(good)
    node = onnx.helper.make_node("Expo", ["x"], ["y"])
    bad = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))
    assert not go.onnx.backend.is_compatible(bad)
    with pytest.raises(FileError, match="Expo"):
        go.onnx.backend.prepare(bad)
    assert go.onnx.backend.supports_device("CPU")
    assert not go.onnx.backend.supports_device("TPU")


def test_a_node_of_another_domain_and_opset():
    x = np.array([[1, -2]], np.float32)
    node = onnx.helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=0.0)
    np.testing.assert_array_equal(go.onnx.backend.run_node(node, [x])[0], [[1, 0]])
    old = onnx.helper.make_node("Squeeze", ["x"], ["y"], axes=[0])
    (y,) = go.onnx.backend.run_node(old, [x], opset_version=11)
    np.testing.assert_array_equal(y, x[0])
