"""Places: what they are, what they refuse, and what is written for one that nobody measured."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import graphopt as go
from graphopt import errors
from graphopt.ops.registry.formulations import PORTABLE
from graphopt.passes.kernels.formulate import Formulate
from graphopt.passes.pipelines import STEP, Setting
from graphopt.runtime.ort import library, missing_kernels
from graphopt.runtime.ort import place as place_module
from graphopt.runtime.ort.memory import Memory
from graphopt.runtime.ort.providers.host import HOST_PROVIDER
from tests.helpers import state_of

UNMEASURED = go.Place(HOST_PROVIDER)


class Left(go.Place):
    """A provider that takes no op at all: onnxruntime would give them all to the processor."""

    def check(self):
        pass

    def choose(self, options):
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        return []


class Lost(go.Place):
    """A provider that onnxruntime cannot load: it goes on without, and says so in its log."""

    def check(self):
        pass

    def choose(self, options):
        return [HOST_PROVIDER]


class Images:
    """A small network under an optimizer, on a place."""

    def __init__(self, place, optimizer, history="device"):
        self.main, self.startup = go.static.Program(), go.static.Program()
        self.main.random_seed = self.startup.random_seed = 5
        self.exe, self.scope = go.static.Executor(place), go.static.Scope()
        with go.static.program_guard(self.main, self.startup):
            x = go.static.data("x", [None, 16, 8, 8])
            y = go.static.data("y", [None], "int64")
            h = go.static.nn.conv2d(x, 32, 3, padding=1, bias_attr=False)
            h = go.nn.functional.relu(go.static.nn.batch_norm(h))
            h = go.nn.functional.max_pool2d(h, 2)
            h = go.nn.functional.dropout(go.flatten(h, 1), 0.1)
            h = go.nn.functional.relu(go.static.nn.fc(h, 128))
            self.loss = go.nn.functional.cross_entropy(go.static.nn.fc(h, 4), y)
            if optimizer == "ASGD":
                go.optimizer.ASGD(0.01, batch_num=3, history=history).minimize(self.loss)
            else:
                getattr(go.optimizer, optimizer)(0.01).minimize(self.loss)
        draw = np.random.default_rng(0)
        self.x = draw.normal(size=(7, 4, 16, 8, 8)).astype("f4")
        self.y = draw.integers(0, 4, (7, 4))
        self.exe.run(self.startup, scope=self.scope)

    def feed(self, k):
        return {"x": self.x[k], "y": self.y[k]}

    def train(self):
        return [
            self.exe.run(self.main, self.feed(k), [self.loss], scope=self.scope)[0]
            for k in range(7)
        ]

    def state(self):
        return state_of(self.main, self.scope)

    def compiled(self):
        (entry,) = self.exe._cache[self.main]._entries.values()
        (found,) = entry._known.values()
        return found


def test_places_are_values():
    options = {"a": 1}
    place = go.Place("MyExecutionProvider", options, library="my.so")
    options["a"] = 2
    assert place == go.Place("MyExecutionProvider", {"a": "1"}, library="my.so")
    assert len({place, copy.deepcopy(place), pickle.loads(pickle.dumps(place))}) == 1
    others = [
        go.Place("Other", {"a": 1}, library="my.so"),
        go.Place("MyExecutionProvider", {"a": 2}, library="my.so"),
        go.Place("MyExecutionProvider", {"a": 1}),
        go.Place("MyExecutionProvider", {"a": 1}, library="my.so", fallback=True),
        go.Place("MyExecutionProvider", {"a": 1}, library="my.so", index=1),
    ]
    assert place not in others
    assert go.CPUPlace() != UNMEASURED
    assert go.CUDAPlace(1) != go.CUDAPlace(0) != go.CPUPlace()
    assert {go.CPUPlace(), go.CPUPlace(), go.CUDAPlace(1)} == {go.CUDAPlace(1), go.CPUPlace()}


def test_what_a_place_says():
    assert repr(go.CPUPlace()) == "CPUPlace()"
    assert repr(go.CUDAPlace(1)) == "CUDAPlace(index=1)"
    place = go.Place("MyExecutionProvider", library="my.so", fallback=True, index=2)
    assert repr(place) == (
        "Place('MyExecutionProvider', index=2, library='my.so', fallback=True)"
    )  # fmt: skip
    assert go.CUDAPlace(1).memory == Memory("cuda", 1)
    assert go.CUDAPlace(1).options == {"device_id": "1", "use_tf32": "0"}
    assert place.memory == go.CPUPlace().memory


@pytest.mark.parametrize(
    ("place", "arguments", "message"),
    [
        (go.Place, (3,), "a provider is given by its name, not by a int"),
        (go.Place, ("My", "fast"), "options must be a dict, not a str"),
        (go.CUDAPlace, (-1,), "there is no GPU -1"),
    ],
)
def test_wrong_arguments(place, arguments, message):
    with pytest.raises(errors.GraphoptError, match=message) as found:
        place(*arguments)
    assert isinstance(found.value, (TypeError, ValueError))


@pytest.mark.parametrize("optimizer", ["ASGD", "SGD", "Momentum", "Adam"])
def test_a_place_that_nobody_measured_gets_portable_forms_only(optimizer):
    plain, portable = Images(go.CPUPlace(), optimizer), Images(UNMEASURED, optimizer)
    np.testing.assert_allclose(portable.train(), plain.train(), rtol=2e-4)
    for name, value in plain.state().items():
        np.testing.assert_allclose(portable.state()[name], value, rtol=2e-3, atol=2e-4)
    compiled = portable.compiled()
    assert not [op.type for b in compiled.plan.step.blocks for op in b.ops if "::" in op.type]
    assert not compiled.over
    assert not compiled._over_next
    assert not compiled.aliases
    assert not compiled.plan.is_scheduled
    lowered = compiled.plan.lower(UNMEASURED.detours)
    assert "BatchNormalization" not in {n.op_type for n in lowered.bare.graph.node}
    domains = {opset.domain for opset in lowered.bare.opset_import}
    assert not [d for d in domains if d.startswith("com.microsoft")]


def test_the_processor_gets_all_that_was_measured_on_it():
    """What the test above finds none of is there to be found."""
    model = Images(go.CPUPlace(), "SGD")
    model.train()
    compiled = model.compiled()
    types = {op.type for b in compiled.plan.step.blocks for op in b.ops}
    assert [t for t in types if t.startswith("com.microsoft")]
    assert compiled.plan.is_scheduled
    assert list(compiled.aliases.values()) == ["fc_0.w_0"]


@pytest.mark.parametrize("history", ["device", "host", "disk"])
def test_rows_of_tables_on_a_place_that_nobody_measured(history):
    plain = Images(go.CPUPlace(), "ASGD", history)
    portable = Images(UNMEASURED, "ASGD", history)
    np.testing.assert_allclose(portable.train(), plain.train(), rtol=2e-4)


def test_many_steps_on_a_place_that_nobody_measured():
    one, many = Images(UNMEASURED, "ASGD"), Images(UNMEASURED, "ASGD")
    expected = one.train()
    feed = {"x": many.x, "y": many.y}
    (found,) = many.exe.run_steps(many.main, feed, [many.loss], many.scope)
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_a_state_goes_from_place_to_place():
    mixed, plain = Images(go.CPUPlace(), "ASGD"), Images(go.CPUPlace(), "ASGD")
    expected = plain.train()
    places = [go.static.Executor(place) for place in (go.CPUPlace(), UNMEASURED)]
    for k in range(7):
        (loss,) = places[k % 2].run(mixed.main, mixed.feed(k), [mixed.loss], scope=mixed.scope)
        np.testing.assert_allclose(loss, expected[k], rtol=2e-4)


def test_a_provider_that_is_not_there():
    with pytest.raises(errors.DeviceError, match="no provider 'NoExecutionProvider'") as found:
        go.static.Executor(go.Place("NoExecutionProvider"))
    assert HOST_PROVIDER in str(found.value)
    assert "library=" in found.value.fix


def test_a_provider_that_cannot_be_loaded_is_no_silent_run_on_the_processor():
    model = Images(go.CPUPlace(), "SGD")
    exe = go.static.Executor(Lost("LostExecutionProvider"))
    with pytest.raises(errors.DeviceError, match="could not load LostExecutionProvider"):
        exe.run(model.main, model.feed(0), [model.loss], scope=model.scope)


def small():
    main = go.static.Program()
    with go.static.program_guard(main, go.static.Program()):
        x = go.static.data("x", [None, 3])
        y = go.exp(go.tanh(x))
    return main, y


def test_ops_that_a_provider_lacks_are_named():
    main, y = small()
    exe = go.static.Executor(Left("LeftExecutionProvider"))
    with pytest.raises(errors.StepError, match="LeftExecutionProvider has no kernel for") as found:
        exe.run(main, {"x": np.ones((2, 3), "f4")}, [y])
    assert found.value.what.endswith("for 2 ops of the Program: Exp of float32, Tanh of float32")
    assert "fallback=True" in found.value.fix
    assert "y = go.exp(go.tanh(x))" in str(found.value)


def test_control_flow_that_a_provider_lacks_is_named(monkeypatch):
    """Bodies cannot be tried alone: they are named where every other op has a kernel."""
    model = Images(go.CPUPlace(), "SGD")
    exe = go.static.Executor(Left("LeftExecutionProvider"))
    monkeypatch.setattr(missing_kernels, "_lacks", lambda *_: False)
    with pytest.raises(errors.StepError, match="has no kernel for some of these ops") as found:
        exe.run_steps(model.main, {"x": model.x, "y": model.y}, [model.loss], model.scope)
    assert found.value.what.endswith("BatchNormalization of float32, Scan of float32")


def test_a_place_may_run_what_it_lacks_on_the_processor():
    class Falling(Left):
        def choose(self, options):
            return [HOST_PROVIDER]

    main, y = small()
    place = Falling(HOST_PROVIDER, fallback=True)
    x = np.ones((2, 3), "f4")
    (found,) = go.static.Executor(place).run(main, {"x": x}, [y])
    np.testing.assert_allclose(found, np.exp(np.tanh(x)), rtol=1e-6)


class Options:
    """What a session's options are told."""

    def __init__(self):
        self.entries, self.added = {}, []

    def add_session_config_entry(self, key, value):
        self.entries[key] = value

    def add_provider_for_devices(self, devices, options):
        self.added.append((devices, options))


def test_a_built_in_provider_is_named_with_its_options():
    strict, lenient = Options(), Options()
    place = go.Place("MyExecutionProvider", {"threads": 2})
    assert place.choose(strict) == [("MyExecutionProvider", {"threads": "2"})]
    assert strict.entries == {"session.disable_cpu_ep_fallback": "1"}
    place = go.Place("MyExecutionProvider", fallback=True)
    assert place.choose(lenient) == [("MyExecutionProvider", {}), HOST_PROVIDER]
    assert not lenient.entries
    assert go.CPUPlace().choose(lenient) == [HOST_PROVIDER]
    cuda = ("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"})
    assert go.CUDAPlace(1).choose(lenient) == [cuda, HOST_PROVIDER]
    assert not lenient.entries


class Plugins:
    """onnxruntime as far as it loads providers from libraries."""

    def __init__(self, monkeypatch, names):
        self.names, self.loaded, self.listed = names, [], []
        for module in (library, place_module):
            monkeypatch.setattr(module, "onnxruntime", lambda: self)

    def get_available_providers(self):
        return [HOST_PROVIDER]

    def get_ep_devices(self):
        return self.listed

    def register_execution_provider_library(self, name, path):
        self.loaded.append((name, path))
        self.listed = [SimpleNamespace(ep_name=name, number=k) for k, name in enumerate(self.names)]


def test_a_provider_of_another_wheel(monkeypatch):
    found = Plugins(monkeypatch, ["MyEP", "MyEP"])
    place = go.Place("MyEP", {"fast": 1}, library="my.so", index=1)
    go.static.Executor(place)
    go.static.Executor(place)
    assert found.loaded == [("MyEP", "my.so")]
    options = Options()
    assert place.choose(options) is None
    assert options.added == [([found.listed[1]], {"fast": "1"})]
    assert options.entries == {"session.disable_cpu_ep_fallback": "1"}
    with pytest.raises(errors.DeviceError, match="MyEP has no device 2: it has 2"):
        go.static.Executor(go.Place("MyEP", library="my.so", index=2))


def test_a_library_without_the_provider(monkeypatch):
    Plugins(monkeypatch, ["YourEP"])
    with pytest.raises(errors.DeviceError, match="no provider 'MyEP'") as error:
        go.static.Executor(go.Place("MyEP", library="my.so"))
    assert "YourEP" in str(error.value)


def test_a_library_that_cannot_be_loaded():
    with pytest.raises(errors.DeviceError, match="library of MyEP cannot be loaded") as error:
        go.static.Executor(go.Place("MyEP", library="/nowhere/my.so"))
    assert "/nowhere/my.so" in str(error.value)
    assert error.value.__cause__ is not None


def test_an_onnxruntime_that_loads_no_libraries(monkeypatch):
    monkeypatch.setattr(library, "onnxruntime", lambda: SimpleNamespace())
    with pytest.raises(errors.DeviceError, match="cannot load providers from libraries"):
        go.static.Executor(go.Place("MyEP", library="my.so"))


def test_what_passes_take_from_a_machine():
    def passes(machine):
        return {type(p).__name__: p for p in STEP.passes(Setting(machine=machine))}

    proved = {"Fuse", "JoinSlices", "InPlace", "StepInBlocks", "Schedule", "Donate"}
    assert not proved & {*passes(PORTABLE)}
    assert proved & {*passes(go.CUDAPlace(0).machine)} == {"JoinSlices"}
    assert proved - {*passes(go.CPUPlace().machine)} == {"StepInBlocks"}  # which asks for blocks
    formulate = passes(PORTABLE)["Formulate"]
    assert isinstance(formulate, Formulate)
    assert not formulate.priced


@pytest.mark.parametrize("place", [go.CPUPlace(), UNMEASURED], ids=str)
def test_large_constants_are_read_from_memory_only_where_that_is_known_to_work(place):
    main = go.static.Program()
    with go.static.program_guard(main, go.static.Program()):
        x = go.static.data("x", [1])
        table = main.constant(np.arange(2**15, dtype="f4"))
        y = go.sum(main.recorder().Mul(x, table))
    exe = go.static.Executor(place)
    (found,) = exe.run(main, {"x": np.ones(1, "f4")}, [y])
    np.testing.assert_allclose(found, 2**14 * (2**15 - 1), rtol=1e-5)
    (entry,) = exe._cache[main]._entries.values()
    (compiled,) = entry._known.values()
    assert bool(compiled.session._arrays) is place.shares_constants
