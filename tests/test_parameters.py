import numpy as np
import pytest

from graphopt.errors import (
    ArgumentError,
    ArgumentTypeError,
    DTypeError,
    ShapeError,
    UninitializedError,
)
from graphopt.initializer import Assign, Constant, Normal
from graphopt.ir.model.program import Program
from graphopt.ir.types.types import parse_type
from graphopt.parameters import (
    ParamAttr,
    as_param_attr,
    create_global_var,
    create_parameter,
    create_state,
    parameter_name,
)
from graphopt.regularizer import L1Decay
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.state.scope import Scope
from graphopt.scoping import default_main_program, default_startup_program, program_guard
from tests.helpers import held


def started():
    """The scope after a run of the default startup Program."""
    scope = Scope()
    Executor().run(default_startup_program(), scope=scope)
    return scope


def texts():
    return default_main_program().text(), default_startup_program().text()


def test_a_parameter_is_in_both_programs():
    w = create_parameter([2, 3], "float32", name="w")
    assert default_main_program().all_parameters() == [w]
    assert w.persistable
    assert w.trainable
    assert not w.stop_gradient
    assert w.need_clip
    assert w.regularizer is None
    assert w.optimize_attr == {"learning_rate": 1.0}
    assert str(w.tensor_type) == "f32[2, 3]"
    twin = default_startup_program().global_block().var("w")
    assert twin.persistable
    assert twin.tensor_type == w.tensor_type
    assert default_startup_program().all_parameters() == []
    assert held(started(), "w").shape == (2, 3)


def test_default_values():
    create_parameter([300, 200], name="w")
    create_parameter([4], name="b", is_bias=True)
    create_parameter([4], name="c", is_bias=True, default_initializer=Constant(2.0))
    own = ParamAttr(initializer=Constant(3.0))
    create_parameter([4], name="d", attr=own, default_initializer=Constant(2.0))
    scope = started()
    limit = np.sqrt(6 / 500)
    assert 0.99 * limit < abs(held(scope, "w")).max() <= limit
    assert held(scope, "b").tolist() == [0.0] * 4
    assert held(scope, "c").tolist() == [2.0] * 4
    assert held(scope, "d").tolist() == [3.0] * 4


def test_names():
    names = [
        create_parameter([2]).name,
        create_parameter([2], is_bias=True).name,
        create_parameter([2], prefix="fc").name,
        create_parameter([2], prefix="linear_0").name,
        create_parameter([2], prefix="linear_0").name,
        create_parameter([2], prefix="linear_0", is_bias=True).name,
        create_parameter([2], name="w", attr=ParamAttr(name="mine")).name,
    ]
    assert names == [
        "create_parameter_0.w_0",
        "create_parameter_1.b_0",
        "fc_0.w_0",
        "linear_0.w_0",
        "linear_0.w_1",
        "linear_0.b_0",
        "mine",
    ]
    assert parameter_name(Program(), "conv2d", "b") == "conv2d_0.b_0"


def test_what_stands_for_an_attr():
    assert as_param_attr(None).name is None
    assert as_param_attr("w").name == "w"
    normal = Normal()
    assert as_param_attr(normal).initializer is normal
    attr = ParamAttr()
    assert as_param_attr(attr) is attr
    for wrong in (False, 1.0, L1Decay(0.1)):
        with pytest.raises(ArgumentTypeError, match="attr is a ParamAttr"):
            as_param_attr(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 3),
        ("initializer", "zeros"),
        ("initializer", Normal),
        ("learning_rate", "0.1"),
        ("learning_rate", None),
        ("regularizer", 0.1),
        ("trainable", 1),
        ("trainable", None),
        ("do_model_average", "yes"),
        ("need_clip", None),
    ],
)
def test_fields_of_param_attr(field, value):
    with pytest.raises(TypeError, match=field) as found:
        ParamAttr(**{field: value})
    assert isinstance(found.value, ArgumentTypeError)


def test_param_attr_reaches_the_parameter():
    decay = L1Decay(0.5)
    attr = ParamAttr("w", Constant(1.0), 2, decay, trainable=False, need_clip=False)
    w = create_parameter([2], attr=attr)
    assert w.name == "w"
    assert w.optimize_attr == {"learning_rate": 2.0}
    assert w.regularizer is decay
    assert not w.trainable
    assert w.stop_gradient
    assert not w.need_clip


def test_a_name_that_is_taken_is_shared():
    first = create_parameter([2, 3], attr=ParamAttr(name="w", initializer=Constant(1.0)))
    before = texts()
    assert create_parameter([2, 3], attr="w") is first
    assert create_parameter((2, 3), name="w", default_initializer=Constant(2.0)) is first
    assert texts() == before
    assert held(started(), "w").tolist() == [[1.0] * 3] * 2


def test_a_shared_name_with_another_type():
    create_parameter([2, 3], attr="w")
    create_global_var([2], 0.0, "float32", name="v")
    before = texts()
    for shape, dtype, name in (([3, 2], "float32", "w"), ([2, 3], "float64", "w")):
        with pytest.raises(ValueError, match="w is taken") as found:
            create_parameter(shape, dtype, attr=name)
        assert isinstance(found.value, ShapeError)
        assert "existing : f32[2, 3]" in str(found.value)
    with pytest.raises(ShapeError, match="v is taken"):
        create_parameter([2], attr="v")
    assert texts() == before


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"shape": [None, 3]}, ArgumentError),
        ({"shape": [-1, 3]}, ArgumentError),
        ({"shape": ["N"]}, ArgumentError),
        ({"shape": [-2]}, ArgumentError),
        ({"shape": [2.0]}, ArgumentTypeError),
        ({"shape": [True]}, ArgumentTypeError),
        ({"shape": 3}, ArgumentTypeError),
        ({"shape": "N"}, ArgumentTypeError),
        ({"shape": [2], "dtype": "float31"}, ArgumentTypeError),
        ({"shape": [2], "dtype": "int64"}, DTypeError),
        ({"shape": [2], "name": 3}, ArgumentTypeError),
        ({"shape": [2], "default_initializer": 0.0}, ArgumentTypeError),
        ({"shape": [2], "attr": Assign([1.0, 2.0, 3.0])}, ShapeError),
        ({"shape": [2], "attr": Constant}, ArgumentTypeError),
    ],
)
def test_wrong_arguments_change_nothing(arguments, error):
    before = texts()
    with pytest.raises(error):
        create_parameter(**arguments)
    assert texts() == before


def test_a_refused_initializer_can_be_replaced():
    with pytest.raises(ShapeError):
        create_parameter([2], name="w", attr=Assign([1.0]))
    create_parameter([3], name="w", attr=Assign([1.0, 2.0, 3.0]))
    assert held(started(), "w").tolist() == [1.0, 2.0, 3.0]


def test_one_startup_program_for_two_main_programs():
    startup = Program()
    for value in (1.0, 2.0):
        with program_guard(Program(), startup):
            create_parameter([2], name="w", attr=Constant(value))
    scope = Scope()
    Executor().run(startup, scope=scope)
    assert held(scope, "w").tolist() == [2.0, 2.0]
    with (
        program_guard(Program(), startup),
        pytest.raises(ShapeError, match="with another type") as found,
    ):
        create_parameter([3], name="w", attr=Constant(3.0))
    assert "startup : f32[2]" in str(found.value)


def test_create_global_var():
    v = create_global_var([2], 1.5, "float32", persistable=True, force_cpu=True, name="v")
    assert v.persistable
    assert v.stop_gradient
    assert not v.is_parameter
    assert create_global_var([], 7, "int64").name == "global_var_0"
    scope = started()
    assert held(scope, "v").tolist() == [1.5, 1.5]
    assert held(scope, "global_var_0") == np.int64(7)


def test_create_global_var_checks():
    create_global_var([2], 0.0, "float32", name="v")
    before = texts()
    with pytest.raises(ArgumentError, match="shape of ints"):
        create_global_var([-1], 0.0, "float32")
    with pytest.raises(ArgumentError, match="already has"):
        create_global_var([2], 0.0, "float32", name="v")
    assert texts() == before


def test_state_is_no_parameter():
    main, startup = default_main_program(), default_startup_program()
    state = create_state(main, startup, "s", parse_type("i64[1]"), Constant(3))
    assert main.all_parameters() == []
    assert main.persistables() == [state]
    assert held(started(), "s").tolist() == [3]


def test_a_parameter_without_a_startup_run():
    w = create_parameter([2], name="w")
    y = w + 1.0
    with pytest.raises(UninitializedError, match="w has no value"):
        Executor().run(default_main_program(), fetch_list=[y], scope=Scope())
