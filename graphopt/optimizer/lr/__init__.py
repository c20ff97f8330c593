"""SAY: learning-rate schedules. Most are one formula of the epoch: a Python float, or ops."""

from graphopt.optimizer.lr.base import LRScheduler
from graphopt.optimizer.lr.cosine import CosineAnnealingDecay, CosineAnnealingWarmRestarts
from graphopt.optimizer.lr.cycle import CyclicLR, OneCycleLR
from graphopt.optimizer.lr.decay import (
    ExponentialDecay,
    InverseTimeDecay,
    LambdaDecay,
    LinearLR,
    MultiplicativeDecay,
    NaturalExpDecay,
    NoamDecay,
    PolynomialDecay,
)
from graphopt.optimizer.lr.plateau import ReduceOnPlateau
from graphopt.optimizer.lr.steps import MultiStepDecay, PiecewiseDecay, StepDecay
from graphopt.optimizer.lr.warmup import LinearWarmup

__all__ = [
    "CosineAnnealingDecay",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LRScheduler",
    "LambdaDecay",
    "LinearLR",
    "LinearWarmup",
    "MultiStepDecay",
    "MultiplicativeDecay",
    "NaturalExpDecay",
    "NoamDecay",
    "OneCycleLR",
    "PiecewiseDecay",
    "PolynomialDecay",
    "ReduceOnPlateau",
    "StepDecay",
]
