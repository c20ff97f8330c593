"""What several tests need."""

import numpy as np

from graphopt.runtime.scope import Scope


def held(scope: Scope, name: str) -> np.ndarray:
    """A copy of the value that a scope holds."""
    variable = scope.find_var(name)
    assert variable is not None, name
    return np.array(variable.get_tensor())


def put(scope: Scope, name: str, value: np.ndarray) -> None:
    """Replace the value that a scope holds."""
    scope.var(name).get_tensor().set(value)
