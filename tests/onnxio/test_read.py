"""What files hold, and what becomes of it."""

import json

import numpy as np
import onnx
import pytest

import graphopt as go
from graphopt import errors
from tests.helpers import held
from tests.onnxio.models import check_equal, load, model, on_onnxruntime

W = np.arange(12, dtype="f4").reshape(4, 3) / 10
X = np.linspace(-1, 1, 8, dtype="f4").reshape(2, 4)
LINEAR = "g (float[N, 4] x) => (float[N, 3] y) { y = MatMul(x, w) }"


def test_float_weights_train_and_integers_do_not():
    body = """g (float[N, 4] x) => (float[N, 3] y) {
        picked = Gather<axis = 1>(x, order)
        h = MatMul(picked, w)
        y = Clip(h, low, high)
    }"""
    proto = model(body, w=W, order=np.array([3, 2, 1, 0]), low=np.float32(-9), high=np.float32(9))
    loaded = check_equal(proto, x=X)
    assert (loaded.trainable, loaded.frozen, loaded.state) == (["w"], [], [])
    loss = loaded.minimize()
    losses = [float(loaded.run([loss], x=X)[0]) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("body", "trainable"),
    [
        ("w = Constant<value = float[2] {1, 2}>() y = Mul(x, w)", ["w"]),
        ("w = Constant<value_floats = [1.0, 2.0]>() y = Mul(x, w)", ["w"]),
        ("s = Constant<value_ints = [2]>() w = ConstantOfShape(s) y = Mul(x, w)", ["w"]),
        ("w = Constant<value = float {2}>() y = Pow(x, w)", []),
        ("w = Constant<value = float[1] {2}>() y = Mul(x, w)", []),
        ("w = Constant<value = float[2] {1, 2}>() y = Identity(x)", []),
    ],
)
def test_arrays_that_nodes_make(body, trainable):
    proto = model(f"g (float[N, 2] x) => (float[N, 2] y) {{ {body} }}")
    assert check_equal(proto, x=X[:, :2]).trainable == trainable


def test_an_initializer_that_is_an_input_too_is_no_feed():
    proto = model("g (float[N, 4] x, float[4, 3] w) => (float[N, 3] y) { y = MatMul(x, w) }", w=W)
    proto.ir_version = 3
    loaded = load(proto)
    assert (loaded.names, loaded.trainable) == (["x"], ["w"])


def test_sparse_weights():
    proto = model("g (float[N, 4] x) => (float[N, 3] y) { y = MatMul(x, w) }")
    dense = np.zeros((4, 3), "f4")
    dense[1, 2], dense[3, 0] = 5, 7
    sparse = proto.graph.sparse_initializer.add(dims=[4, 3])
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.array([5, 7], "f4"), "w"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.array([[1, 2], [3, 0]]), "at"))
    loaded = load(proto)
    assert loaded.trainable == ["w"]
    np.testing.assert_array_equal(loaded.run(x=X)[0], X @ dense)


def test_weights_inside_a_branch():
    body = """g (float[N, 2] x, bool c) => (float[N, 2] y) {
        y = If (c) <
            then_branch = yes () => (float[N, 2] a) <float[2] w = {1, 2}> { a = Mul(x, w) },
            else_branch = no () => (float[N, 2] a) <float[2] w = {3, 4}> { a = Mul(x, w) }
        >
    }"""
    loaded = load(model(body))
    assert loaded.trainable == ["w", "w_0"]
    loss = loaded.minimize()
    for c, name in ((True, "w"), (False, "w_0")):
        before = held(loaded.scope, name)
        loaded.run([loss], x=X[:, :2], c=np.array(c))
        assert (held(loaded.scope, name) != before).any()


def test_names_of_bodies_do_not_take_those_outside():
    body = """g (float[N, 2] x, bool c) => (float[N, 2] y) {
        z = If (c) <
            then_branch = yes () => (float[N, 2] y) { y = Neg(x) },
            else_branch = no () => (float[N, 2] y) { y = Abs(x) }
        >
        y = Relu(z)
    }"""
    loaded = load(model(body))
    assert [v.name for v in loaded.fetches] == ["y"]
    (found,) = loaded.run(x=X[:, :2], c=np.array(False))
    np.testing.assert_array_equal(found, np.abs(X[:, :2]))


def test_branches_may_use_a_name_for_different_shapes():
    body = """g (float[4, 2] x, bool c) => (float y) {
        y = If (c) <
            then_branch = yes () => (float r) { t = MatMul(x, v) r = ReduceSum<keepdims = 0>(t) },
            else_branch = no () => (float r) { t = MatMul(u, x) r = ReduceSum<keepdims = 0>(t) }
        >
    }"""
    proto = model(body, v=np.ones((2, 3), "f4"), u=np.ones((5, 4), "f4"))
    x = X.reshape(4, 2)
    for c in (True, False):
        loaded = check_equal(proto, x=x, c=np.array(c))
    shapes = [v.shape for b in loaded.program.blocks[1:] for v in b.vars.values() if v.ndim]
    assert sorted(shapes) == [(4, 3), (5, 2)]


def test_shapes_that_are_computed():
    body = """g (float[N, 4] x) => (float[2, M] y) {
        s = Shape(x)
        n = Gather(s, first)
        half = Div(n, two)
        rest = Constant<value_ints = [-1]>()
        target = Concat<axis = 0>(two, rest)
        h = Reshape(x, target)
        y = Mul(h, w)
        unused = Squeeze(half)
    }"""
    proto = model(body, first=np.array([0]), two=np.array([2]), w=np.ones((1, 4), "f4"))
    loaded = check_equal(proto, x=X)
    assert loaded.program.global_block().var("h").shape == (2, -1)
    loaded.minimize()


def test_a_rank_that_only_the_op_behind_tells():
    body = """g (float[N, 1, M] x) => (float[N, P, Q] y) {
        one = Constant<value_int = 7>()
        dims = Shape<start = 2, end = 3>(x)
        wide = Equal(dims, one)
        z = If (wide) <
            then_branch = yes () => (float[A, B, C] a) { a = Identity(x) },
            else_branch = no () => (float[A, B] a) { axis = Constant<value_ints = [1]>()
                                                     a = Squeeze(x, axis) }
        >
        y = Conv(z, w)
    }"""
    loaded = load(model(body, w=np.ones((2, 1, 3), "f4")))
    loss = loaded.minimize()
    x = np.ones((2, 1, 7), "f4")
    losses = [float(loaded.run([loss], x=x)[0]) for _ in range(3)]
    assert losses == sorted(losses, reverse=True)


def test_functions_are_inlined():
    text = """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
    g (float[N, 4] x) => (float[N, 3] y) { y = own.Linear(x, w) }
    <domain: "own", opset_import: ["" : 21]>
    Linear (a, b) => (c) { h = MatMul(a, b) c = Relu(h) }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(W, "w"))
    assert check_equal(proto, x=X).trainable == ["w"]


def test_running_statistics_are_state():
    body = """g (float[N, 3] x) => (float[N, 3] y) { y = BatchNormalization(x, s, b, mean, var) }"""
    ones = np.ones(3, "f4")
    loaded = load(model(body, s=ones, b=ones, mean=ones, var=2 * ones))
    assert (loaded.trainable, loaded.state) == (["s", "b"], ["mean", "var"])


def test_a_mask_is_frozen():
    mask = np.where(np.eye(3, dtype=bool), 0, -np.inf).astype("f4")
    proto = model("g (float[3, 3] x) => (float[3, 3] y) { y = Add(x, w) }", w=mask)
    assert load(proto).frozen == ["w"]
    assert load(proto, trainable=True).frozen == ["w"]
    assert load(proto, trainable=["w"]).frozen == []


@pytest.mark.parametrize(
    ("trainable", "found"),
    [
        (True, ["first.w", "first.b", "last.w"]),
        (False, []),
        (["last.w"], ["last.w"]),
        (r"^first\.", ["first.w", "first.b"]),
        (lambda p: p.ndim == 1, ["first.b"]),
    ],
)
def test_trainable(trainable, found):
    body = """g (float[N, 4] x) => (float[N, 3] y) {
        h = Gemm(x, "first.w", "first.b") y = MatMul(h, "last.w") }"""
    weights = {"first.w": np.ones((4, 4), "f4"), "first.b": np.ones(4, "f4"), "last.w": W}
    assert load(model(body, **weights), trainable=trainable).trainable == found


def test_trainable_names_that_are_not_there():
    with pytest.raises(errors.ArgumentError, match="no parameter 'v'"):
        load(model(LINEAR, w=W), trainable=["v"])
    with pytest.raises(errors.ArgumentError, match="no parameter's name matches"):
        load(model(LINEAR, w=W), trainable="encoder")


def test_ops_that_onnx_does_not_define_are_all_named():
    body = """g (float[N, 4] x) => (float[N, 4] y) {
        a = com.microsoft.FusedGelu(x) b = com.microsoft.FastNorm(a) y = com.microsoft.FusedGelu(b)
    }"""
    proto = model(body)
    proto.opset_import.add(domain="com.microsoft", version=1)
    with pytest.raises(errors.FileError, match="3 nodes of ops that ONNX does not define") as found:
        load(proto)
    assert str(found.value).count("com.microsoft::FusedGelu :") == 2


def test_external_data(tmp_path):
    proto = model(LINEAR, w=np.tile(W, (1, 100)))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 300
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin")
    loaded = load(tmp_path / "m.onnx")
    np.testing.assert_allclose(loaded.run(x=X)[0], X @ np.tile(W, (1, 100)), rtol=1e-6)
    with pytest.raises(errors.FileError, match="by its path"):
        load(onnx.load(tmp_path / "m.onnx", load_external_data=False))
    (tmp_path / "w.bin").write_bytes(b"short")
    with pytest.raises(errors.FileError, match="too short"):
        load(tmp_path / "m.onnx")
    (tmp_path / "w.bin").unlink()
    with pytest.raises(errors.FileError, match="not a file beside it"):
        load(tmp_path / "m.onnx")


def test_constants_of_equal_value_keep_their_names(tmp_path):
    body = """g (float[N, 4] x) => (float[N, 4] y) {
        a = Transpose<perm = [1, 0]>(x) b = Reshape(a, one) c = Reshape(b, two) y = Relu(c) }"""
    proto = model(body, one=np.array([-1, 4]), two=np.array([-1, 4]))
    saved = load(proto).save(tmp_path / "m")
    assert {t.name for t in saved.graph.initializer} == {"one", "two"}
    assert {name for n in saved.graph.node for name in n.output} == set("abcy")


def test_a_file_says_which_arrays_are_parameters(tmp_path):
    body = """g (float[N, 4] x) => (float[N, 3] y) {
        h = MatMul(x, w) k = Add(h, fixed) m = Mul(k, table) y = Relu(m) }"""
    proto = model(body, w=W, fixed=W[0], table=W[1])
    loaded = load(proto, trainable=["w", "table"])
    loaded.program.global_block().var("fixed")
    saved = loaded.save(tmp_path / "m")
    (text,) = [p.value for p in saved.metadata_props if p.key == "graphopt.parameters"]
    assert json.loads(text) == {"trainable": ["w", "table"], "frozen": ["fixed"], "state": []}
    again = load(tmp_path / "m.onnx")
    assert (again.trainable, again.frozen) == (["w", "table"], ["fixed"])


def test_array_constants_do_not_come_back_as_parameters(tmp_path):
    main, startup = go.static.Program(), go.static.Program()
    exe, scope = go.static.Executor(), go.static.Scope()
    with go.static.program_guard(main, startup), go.static.scope_guard(scope):
        x = go.static.data("x", [None, 4])
        y = go.static.nn.fc(x, 3) * go.assign(np.array([1, 2, 3], "f4"))
        exe.run(startup)
        go.static.save_inference_model(tmp_path / "m", x, y, exe)
    names = [p.name for p in main.all_parameters()]
    assert load(tmp_path / "m.onnx").trainable == names


def test_metadata_of_another_tool_is_no_obstacle():
    proto = model(LINEAR, w=W)
    proto.metadata_props.add(key="graphopt.parameters", value="[3")
    proto.metadata_props.add(key="graphopt.state", value="{}")
    assert load(proto).trainable == ["w"]


def test_a_fetch_that_is_asked_for_twice_and_a_feed_that_nothing_needs(tmp_path):
    body = "g (float[N, 4] x, float[N] unused) => (float[N, 3] y) { y = MatMul(x, w) }"
    loaded = load(model(body, w=W))
    saved = loaded.save(tmp_path / "m", [loaded.fetches[0]] * 2)
    assert [o.name for o in saved.graph.output] == ["y", "y_1"]
    assert [i.name for i in saved.graph.input] == ["x", "unused"]
    first, second = on_onnxruntime(saved, x=X, unused=X[:, 0])
    np.testing.assert_array_equal(first, second)


def test_a_counter_is_no_output_of_an_inference_model(tmp_path):
    main, startup = go.static.Program(), go.static.Program()
    exe, scope = go.static.Executor(), go.static.Scope()
    with go.static.program_guard(main, startup), go.static.scope_guard(scope):
        x = go.static.data("x", [None, 4])
        y = x + go.uniform([4])
        step = go.static.create_global_var([1], 0.0, "float32", persistable=True, name="step")
        go.increment(step)
        exe.run(startup)
        go.static.save_inference_model(tmp_path / "m", x, y, exe)
    saved = onnx.load(tmp_path / "m.onnx")
    assert [o.name for o in saved.graph.output] == [y.name]


def test_names_that_graphopt_would_make_itself(tmp_path):
    body = """g (float[N, 4] x) => (float[N, 3] "w@NEXT", float[N, 3] "w@GRAD") {
        "w@NEXT" = MatMul(x, w) "w@GRAD" = Neg("w@NEXT") "x@OUT" = Abs("w@GRAD") }"""
    loaded = load(model(body, w=W))
    loss = loaded.minimize()
    before = held(loaded.scope, "w")
    found = loaded.run([loss, *loaded.fetches, "w", "x"], x=X)
    np.testing.assert_allclose(found[1], X @ before, rtol=1e-6)
    assert (held(loaded.scope, "w") != before).all()
    loaded.save_training(tmp_path / "m", loss)
    again = load(tmp_path / "m.train.onnx")
    expected = loaded.run([loss], x=X)
    np.testing.assert_array_equal(again.run(x=X)[0], expected[0])


def test_a_training_step_is_read_back(tmp_path):
    loaded = load(model(LINEAR, w=W))
    loss = loaded.minimize(go.optimizer.Adam(0.01))
    loaded.run([loss], x=X)
    loaded.save_training(tmp_path / "m", loss)
    again = load(tmp_path / "m.train.onnx")
    assert (again.names, again.trainable) == (["x"], ["w"])
    assert {"w_moment1_0", "w_moment2_0"} <= set(again.state)
    for _ in range(3):
        np.testing.assert_array_equal(again.run(x=X)[0], loaded.run([loss], x=X)[0])
    test = again.program.clone(for_test=True)
    assert {op.type for op in test.global_block().ops} == {"MatMul", "Mul", "ReduceMean"}


def test_a_training_step_without_its_state(tmp_path):
    loaded = load(model(LINEAR, w=W))
    loaded.save_training(tmp_path / "m", loaded.minimize())
    data = (tmp_path / "m.train.onnx").read_bytes()
    (tmp_path / "m.state.onnx").unlink()
    for source in (tmp_path / "m.train.onnx", data):
        with pytest.raises(errors.FileError, match="the file with its state"):
            load(source)


def test_models_too_large_for_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr("graphopt.onnxio.files.LARGEST", 2000)
    loaded = load(model(LINEAR, w=np.tile(W, (1, 100))[:, :300]))
    saved = loaded.save(tmp_path / "m")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    np.testing.assert_array_equal(on_onnxruntime(saved, x=X)[0], loaded.run(x=X)[0])
    loss = loaded.minimize()
    loaded.save_training(tmp_path / "t", loss)
    assert (tmp_path / "t.state.onnx.data").is_file()
    np.testing.assert_array_equal(
        load(tmp_path / "t.train.onnx").run(x=X)[0], loaded.run([loss], x=X)[0]
    )


def test_outputs_that_are_inputs_weights_or_constants_keep_their_names(tmp_path):
    text = "g (float[2] x) => (float[2] x, float[2] w, int64[1] n, float[2] y) { y = Add(x, w) }"
    weights = {"w": np.array([1, 2], "f4"), "n": np.array([3], "i8")}
    loaded = load(model(text, **weights))
    x = loaded.program.global_block().var("x")
    with go.static.scope_guard(loaded.scope):
        go.static.save_inference_model(tmp_path / "m", [x], loaded.fetches, loaded.exe)
    saved = onnx.load(tmp_path / "m.onnx")
    assert [o.name for o in saved.graph.output] == ["x", "w", "n", "y"]
    found = on_onnxruntime(saved, x=np.array([5, 6], "f4"))
    for value, expected in zip(found, ([5, 6], [1, 2], [3], [6, 8]), strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        ("g (float[3] x) => (float[3] y) { y = Celu(x) }", 21),
        ("g (int64[3] x) => (int64[3] y) { y = Mod(x, x) }", 21),
        ("g (uint16[3] x) => (uint16[3] y) { y = BitShift <direction = \"LEFT\"> (x, x) }", 21),
        ("g (float[1,4,2,2] x) => (float[1,16,1,1] y)"
         " { y = SpaceToDepth <blocksize = 2, mode = \"CRD\"> (x) }", 28),
        ("g (int16[3] x) => (int16[3] y) { y = BitShift <direction = \"LEFT\"> (x, x) }", 28),
    ],
)  # fmt: skip
def test_an_older_definition_serves_where_it_says_the_same(text, opset):
    """Opset 28 only adds to these ops, and onnxruntime does not know it yet."""
    assert load(model(text, opset=28)).program.opset == opset
