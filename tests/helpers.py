"""What several tests need."""

import numpy as np

from graphopt.ir.model.program import Program
from graphopt.onnxio.write import lower
from graphopt.passes.select.functional import functional
from graphopt.runtime.state.scope import Scope


def held(scope: Scope, name: str) -> np.ndarray:
    """A copy of the value that a scope holds."""
    variable = scope.find_var(name)
    assert variable is not None, name
    return np.array(variable.get_tensor())


def put(scope: Scope, name: str, value: np.ndarray) -> None:
    """Replace the value that a scope holds."""
    scope.var(name).get_tensor().set(value)


def state_of(program: Program, scope: Scope) -> dict[str, np.ndarray | None]:
    """Copies of all state of a Program, by name."""
    return {v.name: scope.get(v.name) for v in program.list_vars() if v.persistable}


def lowered(program, inputs, fetch):
    """A Program's ops as a model with these inputs, whose outputs are the fetched variables."""
    step = functional(program, fetch=fetch, feed=[v.name for v in inputs])
    variables = step.global_block().vars
    return lower(step, [variables[v.name] for v in inputs])
