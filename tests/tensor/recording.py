"""Records functions on fed arrays and evaluates them on onnxruntime."""

import numpy as np

from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Variable
from graphopt.scoping import default_main_program, program_guard
from tests.ops import harness
from tests.ops.on_onnxruntime import evaluate
from tests.ops.test_gradients import check


def fed(name, value, *, opened=False) -> Variable:
    """A fed variable of the default main Program; ``opened`` hides its dims, or those it lists."""
    hidden = range(value.ndim) if opened is True else opened or ()
    shape = [None if k in hidden else d for k, d in enumerate(value.shape)]
    variable = default_main_program().global_block().create_var(name, shape, value.dtype)
    variable.is_data = True
    return variable


def run(function, *arrays, opened=False):
    """What ``function`` of Variables with these values gives: an array, or a list of them."""
    with program_guard(Program(), Program()):
        values = [np.asarray(a) for a in arrays]
        variables = [fed(f"v{k}", a, opened=opened) for k, a in enumerate(values)]
        result = function(*variables)
        single = isinstance(result, Variable)
        fetch = [result] if single else list(result)
        feeds = {v.name: a for v, a in zip(variables, values, strict=True)}
        found = evaluate(default_main_program(), fetch, feeds)
    for variable, value in zip(fetch, found, strict=True):
        assert variable.dtype == value.dtype
        assert variable.ndim == value.ndim
        assert all(d in (-1, e) for d, e in zip(variable.shape, value.shape, strict=True))
    return found[0] if single else found


def both(function, *arrays):
    """The same, checked to be equal with known and with open dims."""
    found, opened = run(function, *arrays), run(function, *arrays, opened=True)
    for a, b in zip(as_list(found), as_list(opened), strict=True):
        np.testing.assert_array_equal(a, b)
    return found


def as_list(found):
    return found if isinstance(found, list) else [found]


def assert_gradient(function, *arrays, dims=(False, True)):
    """The gradients of a function of float arrays meet central differences, with open dims too."""
    for opened in dims:
        rng = np.random.default_rng(7)
        with program_guard(Program(), Program()):
            program = default_main_program()
            feeds = {f"v{k}": np.asarray(a, np.float64) for k, a in enumerate(arrays)}
            wrt = [fed(name, value, opened=opened) for name, value in feeds.items()]
            result = function(*wrt)
            results = [result] if isinstance(result, Variable) else list(result)
            values, _ = harness.evaluate(program, results, feeds)
            g = program.recorder()
            parts = [
                g.ReduceSum(g.Mul(r, g.const(rng.normal(size=v.shape))), keepdims=0)
                for r, v in zip(results, values, strict=True)
            ]
            assert check(program, g.Sum(*parts), wrt, feeds, rng)
