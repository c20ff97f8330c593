"""SAY: optimizers. Their hyper-parameters and state are here, their maths in ``ops/update.py``."""

from graphopt.optimizer.asgd import ASGD
from graphopt.optimizer.optimizer import Optimizer
from graphopt.optimizer.sgd import SGD

__all__ = ["ASGD", "SGD", "Optimizer"]
