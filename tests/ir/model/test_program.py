import time

import networkx as nx
import numpy as np
import pytest

from graphopt.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    ShapeError,
    UnknownOpError,
    UnknownVariableError,
    VerifyError,
)
from graphopt.ir.model.operator import Role
from graphopt.ir.model.program import Program
from graphopt.ir.model.tape import Tape
from graphopt.ir.text.verify import verify


@pytest.fixture
def program():
    return Program()


def feed(program, name, shape, dtype="float32"):
    variable = program.global_block().create_var(name, shape, dtype)
    variable.is_data = True
    return variable


def test_an_op_is_typed_by_onnx(program):
    x = feed(program, "x", [None, 3])
    y = program.recorder().MatMul(x, np.ones((3, 4), "f4"))
    assert str(y.tensor_type) == "f32[N, 4]"
    assert y.shape == (-1, 4)
    assert y.ndim == 2


def test_paddles_names_of_an_op(program):
    x = feed(program, "x", [2, 3])
    program.recorder().Softmax(x, axis=0)
    (op,) = program.global_block().ops
    assert op.type == "Softmax"
    assert op.idx == 0
    assert (op.input_names, op.output_names) == (["input"], ["output"])
    assert (op.input("input"), op.output("output")) == (["x"], ["softmax_0"])
    assert (op.input_arg_names, op.output_arg_names) == (["x"], ["softmax_0"])
    assert op.attr("axis") == 0
    assert op.all_attrs() == {"axis": 0}
    assert op.has_attr("axis")
    with pytest.raises(ArgumentError, match="did you mean 'axis'"):
        op.attr("axs")
    with pytest.raises(ArgumentError, match="no slot"):
        op.input("X")


def test_blocks_and_variables(program):
    x = feed(program, "x", [2, 3])
    block = program.global_block()
    assert block.var("x") is x
    assert block.has_var("x")
    assert program.block(0) is block is program.current_block()
    assert [v.name for v in program.list_vars()] == ["x"]
    assert program.all_parameters() == []
    assert program.num_blocks == 1
    with pytest.raises(UnknownVariableError, match="no variable 'xx'"):
        block.var("xx")
    with pytest.raises(KeyError):
        block.var("xx")
    with pytest.raises(ArgumentTypeError):
        block.var(3)
    with pytest.raises(IndexError):
        program.block(1)
    with pytest.raises(ArgumentError, match="already has"):
        block.create_var("x", [3])


def test_append_op_by_slots(program):
    x = feed(program, "x", [2, 3])
    block = program.global_block()
    out = block.create_var("out")
    op = block.append_op("Concat", {"inputs": [x, x]}, {"concat_result": out}, {"axis": 1})
    assert str(out.tensor_type) == "f32[2, 6]"
    assert op.output("concat_result") == ["out"]
    with pytest.raises(ArgumentError, match="no slot 'input'"):
        block.append_op("Concat", {"input": x}, {"concat_result": out})


def test_errors_name_operands_shapes_and_line(program):
    x = feed(program, "x", [2, 3])
    with pytest.raises(ShapeError) as found:
        program.recorder().MatMul(x, x)
    message = str(found.value)
    assert "A = x : f32[2, 3]" in message
    assert "program.recorder().MatMul(x, x)" in message
    assert "^^^" in message
    assert __file__ in message


def test_dtype_errors(program):
    x, n = feed(program, "x", [3]), feed(program, "n", [3], "int64")
    with pytest.raises(DTypeError, match="an integer and a float"):
        x + n
    with pytest.raises(DTypeError):
        program.recorder().MatMul(x, n)
    with pytest.raises(DTypeError):
        program.recorder().Relu(feed(program, "b", [3], "bool"))


def test_unknown_ops_and_attributes(program):
    x = feed(program, "x", [3])
    g = program.recorder()
    with pytest.raises(UnknownOpError, match="did you mean 'MatMul'"):
        g.Matmul(x, x)
    with pytest.raises(ArgumentError, match="no attribute 'axes'"):
        g.emit("Softmax", x, axes=1)
    with pytest.raises(ArgumentError, match="needs the attribute"):
        g.emit("Concat", x)
    with pytest.raises(ArgumentError, match="at most 1 inputs"):
        g.emit("Relu", x, x)


def test_promotion(program):
    x, d = feed(program, "x", [3]), feed(program, "d", [3], "float64")
    n, b = feed(program, "n", [3], "int64"), feed(program, "b", [3], "bool")
    assert (x + d).dtype == np.float64
    assert (n + 1.5).dtype == np.float32
    assert (n / n).dtype == np.float32
    assert (b + n).dtype == np.int64
    assert (x > 0).dtype == np.bool_
    assert (2 - x).dtype == np.float32
    assert (-x).shape == (3,)
    assert (x == x).dtype == np.bool_


def test_feeds_that_meet_get_one_symbol(program):
    x, y = feed(program, "x", [None, 4]), feed(program, "y", [None, 1])
    z = feed(program, "z", [None])
    assert str(y.tensor_type) == "f32[M, 1]"
    assert str((x - y).tensor_type) == "f32[N, 4]"
    assert str(y.tensor_type) == "f32[N, 1]"
    assert str(z.tensor_type) == "f32[K]"


def test_declared_dims(program):
    block = program.global_block()
    assert str(block.create_var("a", [None, -1, "batch", 3]).tensor_type) == "f32[N, M, batch, 3]"
    with pytest.raises(ArgumentError):
        block.create_var("b", [-2])
    with pytest.raises(ArgumentTypeError):
        block.create_var("b", [2.5])


def test_scratch_ops_that_nobody_needs_are_dropped(program):
    x = feed(program, "x", [3])
    g = Tape(program.global_block(), role=Role.BACKWARD, scratch=True)
    g.Exp(x)
    y = g.Relu(g.Neg(x))
    g.splice([y])
    assert [op.type for op in program.global_block().ops] == ["Neg", "Relu"]
    verify(program)


def test_all_or_nothing(program):
    x = feed(program, "x", [None, 3])
    y = program.recorder().Relu(x)
    before, version = program.text(), program.version

    def fail():
        with program.all_or_nothing():
            program.recorder().Exp(y)
            program.constant(np.ones(3))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert program.text() == before
    assert program.version == version
    assert program.recorder().Exp(y).name == "exp_0"


def test_clone_shares_names_and_nothing_else(program):
    x = feed(program, "x", [3])
    program.recorder().Relu(x)
    copy = program.clone()
    assert copy.text() == program.text()
    copy.recorder().Exp(copy.global_block().var("x"))
    assert len(program.global_block().ops) == 1
    verify(copy)


def test_clone_for_test_switches_training_ops(program):
    x = feed(program, "x", [None, 3])
    block = program.global_block()
    mean, var = (block.create_var(n, [3], persistable=True) for n in ("mean", "var"))
    g = program.recorder()
    ones = np.ones(3, "f4")
    dropped, _ = g.Dropout(x, 0.5, True, outputs=2)
    y = block.create_var("y")
    g.BatchNormalization(dropped, ones, ones, mean, var, training_mode=1, into=[y, mean, var])
    Tape(block, role=Role.BACKWARD).Exp(y)
    test = program.clone(for_test=True)
    verify(test)
    assert [op.type for op in test.global_block().ops] == ["Dropout", "BatchNormalization"]
    dropout, norm = test.global_block().ops
    assert dropout.inputs[2].value == np.array(False)
    assert norm.attr("training_mode") == 0
    assert norm.output_arg_names == ["y"]


def test_graph(program):
    x = feed(program, "x", [3])
    y = program.recorder().Relu(x)
    graph = program.graph()
    assert isinstance(graph, nx.MultiDiGraph)
    assert nx.has_path(graph, "x", y.name)
    (node,) = [n for n, kind in graph.nodes(data="kind") if kind == "op"]
    assert graph.nodes[node]["type"] == "Relu"
    assert graph.get_edge_data("x", node)[0]["slot"] == "X"


def test_verify_finds_each_broken_invariant(program):
    x = feed(program, "x", [3])
    block = program.global_block()
    program.recorder().Relu(program.recorder().Exp(x))
    exp, relu = block.ops

    block.reorder([relu, exp])
    with pytest.raises(VerifyError, match="used before"):
        verify(program)
    block.reorder([exp, exp, relu])
    with pytest.raises(VerifyError, match="assigned twice"):
        verify(program)
    block.reorder([exp, relu])
    relu.block = None
    with pytest.raises(VerifyError, match="know its block"):
        verify(program)
    relu.block = block
    (name,) = relu.output_arg_names
    variable = block.vars.pop(name)
    with pytest.raises(VerifyError, match="not registered"):
        verify(program)
    block.vars[name] = variable
    verify(program)


def test_random_seed_is_an_int(program):
    program.random_seed = 3
    assert program.clone().random_seed == 3
    with pytest.raises(ValueError, match="random_seed"):
        program.random_seed = "3"


def test_the_time_to_record_and_print_grows_with_the_number_of_ops():
    def seconds(count):
        program = Program()
        x = feed(program, "x", [None, 4])
        start = time.process_time()
        y = x
        for _ in range(count // 2):
            y = y * 1.5 + x
        program.text()
        assert len(program.global_block().ops) == count
        return time.process_time() - start

    seconds(100)
    few, many = min(seconds(1000), seconds(1000)), seconds(8000)
    assert many < 20 * few  # 8 times if it is linear, 64 times if it is quadratic


def test_a_users_symbol_is_never_a_generated_one(program):
    a = feed(program, "a", [None, 3])
    b = feed(program, "b", ["N", 3])
    c = feed(program, "c", [None, 3])
    shapes = {str(v.tensor_type) for v in (a, b, c)}
    assert str(b.tensor_type) == "f32[N, 3]"
    assert len(shapes) == 3


def test_a_refused_op_renames_nothing(program):
    a, b = feed(program, "a", [None, 3]), feed(program, "b", [None, 4])
    with pytest.raises(ShapeError):
        a + b
    assert (str(a.tensor_type), str(b.tensor_type)) == ("f32[N, 3]", "f32[M, 4]")


def test_all_or_nothing_restores_symbols(program):
    a, b = feed(program, "a", [None]), feed(program, "b", [None])

    def fail():
        with program.all_or_nothing(), program.all_or_nothing():
            a + b
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert str(b.tensor_type) == "f32[M]"
    assert program.equal_dims == {}
