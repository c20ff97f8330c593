"""SAY: optimizers. Here are hyper-parameters and state; the maths is in ``ops/updates``."""

from graphopt.optimizer import lr
from graphopt.optimizer.adam import Adam, Adamax, AdamW, Lamb, NAdam, RAdam
from graphopt.optimizer.adaptive import Adadelta, Adagrad, RMSProp
from graphopt.optimizer.asgd import ASGD
from graphopt.optimizer.gradient_merge import GradientMerge
from graphopt.optimizer.momentum import Momentum
from graphopt.optimizer.optimizer import Optimizer
from graphopt.optimizer.rprop import Rprop
from graphopt.optimizer.sgd import SGD

__all__ = [
    "ASGD",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GradientMerge",
    "Lamb",
    "Momentum",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSProp",
    "Rprop",
    "lr",
]
