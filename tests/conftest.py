import numpy as np
import pytest


@pytest.fixture
def rng(request) -> np.random.Generator:
    """Random numbers that depend on nothing but the test's name."""
    return np.random.default_rng(list(request.node.nodeid.encode()))
