"""``graphopt.grad``: from model to model, with respect to inputs and weights, and twice."""

import numpy as np
import onnx
import onnx.reference
import pytest

import graphopt as go
from graphopt.errors import ArgumentError, DTypeError, GradientError, UnknownVariableError

NETWORK = """
<ir_version: 10, opset_import: ["": 21]>
net (double[N, 3] x) => (double[N, 2] y, double loss)
<double[3, 2] w = {0.1, -0.4, 0.3, 0.2, 0.5, -0.1}> {
    h = MatMul(x, w)
    y = Tanh(h)
    s = Mul(y, y)
    loss = ReduceSum <keepdims = 0> (s)
}
"""
STEP = 1e-6


@pytest.fixture
def network():
    return onnx.parser.parse_model(NETWORK)


def run(model, names, **feeds):
    onnx.checker.check_model(model, full_check=True)
    return onnx.reference.ReferenceEvaluator(model).run(names, feeds)


def test_inputs_outputs_and_values(network, rng):
    model = go.grad(network, wrt=["x", "w"], of="loss")
    assert [i.name for i in model.graph.input] == ["x"]
    assert [o.name for o in model.graph.output] == ["y", "loss", "x@GRAD", "w@GRAD"]
    x, v = rng.normal(size=(2, 4, 3))
    _, _, dx, dw = run(model, None, x=x)
    assert dw.shape == (3, 2)
    above, below = (run(network, ["loss"], x=x + s * STEP * v)[0] for s in (1, -1))
    assert (dx * v).sum() == pytest.approx((above - below) / (2 * STEP), rel=1e-6)


def test_vector_jacobian_and_jacobian_vector_products(network, rng):
    back = go.grad(network, wrt="x", of="y")
    assert [i.name for i in back.graph.input] == ["x", "y@GRAD"]
    forward = go.grad(back, wrt="y@GRAD", of="x@GRAD")
    x, v = rng.normal(size=(2, 4, 3))
    u = rng.normal(size=(4, 2))
    (vjp,) = run(back, ["x@GRAD"], x=x, **{"y@GRAD": u})
    feeds = {"x": x, "y@GRAD": u, "x@GRAD@GRAD": v}
    (jvp,) = run(forward, [forward.graph.output[-1].name], **feeds)
    above, below = (run(network, ["y"], x=x + s * STEP * v)[0] for s in (1, -1))
    np.testing.assert_allclose(jvp, (above - below) / (2 * STEP), rtol=1e-5, atol=1e-8)
    assert (vjp * v).sum() == pytest.approx((jvp * u).sum(), rel=1e-9)


def test_hessian_vector_product(network, rng):
    first = go.grad(network, wrt="x", of="loss")
    second = go.grad(first, wrt="x", of="x@GRAD")
    x, v = rng.normal(size=(2, 4, 3))
    (hv,) = run(second, ["x@GRAD_0"], x=x, **{"x@GRAD@GRAD": v})
    above, below = (run(first, ["x@GRAD"], x=x + s * STEP * v)[0] for s in (1, -1))
    np.testing.assert_allclose(hv, (above - below) / (2 * STEP), rtol=1e-5, atol=1e-8)


def test_what_does_not_matter_has_zeros(network, rng):
    network.graph.input.append(onnx.helper.make_tensor_value_info("z", 11, [2]))
    (dz,) = run(go.grad(network, wrt="z", of="loss"), ["z@GRAD"], x=np.ones((1, 3)), z=np.ones(2))
    np.testing.assert_array_equal(dz, np.zeros(2))


def test_intermediate_values(network, rng):
    x = rng.normal(size=(4, 3))
    (dy,) = run(go.grad(network, wrt="y", of="loss"), ["y@GRAD"], x=x)
    np.testing.assert_allclose(dy, 2 * run(network, ["y"], x=x)[0])


def test_wrong_names(network):
    with pytest.raises(ArgumentError, match="2 outputs"):
        go.grad(network, wrt="x")
    with pytest.raises(UnknownVariableError, match="did you mean 'loss'"):
        go.grad(network, wrt="x", of="los")
    counted = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[2] x) => (int64[1] n) { n = Shape(x) }'
    )
    with pytest.raises(DTypeError, match="n is not of floats"):
        go.grad(counted, wrt="x", of="n")


def test_all_ops_without_a_gradient_are_named():
    model = onnx.parser.parse_model("""
        <ir_version: 11, opset_import: ["": 26]>
        g (float[2] x, float[2] z) => (float[2] y) {
            [first] a = BitCast <to = 1> (x)
            [second] b = BitCast <to = 1> (z)
            y = Add(a, b)
        }""")
    with pytest.raises(GradientError) as found:
        go.grad(model, wrt=["x", "z"])
    assert "2 ops" in str(found.value)
    assert "first" in str(found.value)
    assert "second" in str(found.value)


GRADIENT_NODE = """
<ir_version: 10, opset_import: ["": 21, "ai.onnx.preview.training": 1]>
g (float a, float b, float c) => (float y, float da, float db, float dc) {{
    s = Add(a, b)
    y = Mul(s, a)
    da, db = ai.onnx.preview.training.Gradient
        <xs: strings = ["a", "b"], y: string = "y"> ({first}, b)
    none, dc = ai.onnx.preview.training.Gradient
        <xs: strings = ["b", "c"], y: string = "y"> (b, c)
}}
"""


@pytest.mark.parametrize(("first", "expected"), [("a", (2 * 2 + 3, 2)), ("c", (2 * 5 + 3, 5))])
def test_gradient_node_at_its_own_point_and_at_another(first, expected):
    """y = (a + b) a, so dy/da = 2 a + b and dy/db = a."""
    model = onnx.parser.parse_model(GRADIENT_NODE.format(first=first))
    y, da, db, dc = go.onnx.backend.run_model(model, [np.float32(v) for v in (2, 3, 5)])
    assert float(y) == 10
    assert (float(da), float(db)) == expected
    assert float(dc) == 0


def test_gradients_through_control_flow_have_their_own_names():
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[2] x, bool c) => (float y) {
            z = If (c) <
                then_branch = a () => (float[2] p) { p = Mul(x, x) },
                else_branch = b () => (float[2] q) { q = Sin(x) }>
            y = ReduceSum <keepdims = 0> (z)
        }""")
    assert [o.name for o in go.grad(model, wrt="x").graph.output] == ["y", "x@GRAD"]
