"""KNOW: one card per op. Importing the room registers every card."""

from graphopt.ops.containers import bodies, quantization, sequence
from graphopt.ops.images import resize, roi, sampling
from graphopt.ops.indexing import indexing, scatter, selection
from graphopt.ops.layers import attention, linear_attention, loss, normalization, norms, recurrent
from graphopt.ops.maths import activation, einsum, elementwise, linalg, products, reduction, zero
from graphopt.ops.models import ml, svm
from graphopt.ops.moves import movement
from graphopt.ops.signals import signal
from graphopt.ops.updates import asgd_rows, training, update
from graphopt.ops.windows import columns, conv, deformable, pooling

__all__ = [
    "activation",
    "asgd_rows",
    "attention",
    "bodies",
    "columns",
    "conv",
    "deformable",
    "einsum",
    "elementwise",
    "indexing",
    "linalg",
    "linear_attention",
    "loss",
    "ml",
    "movement",
    "normalization",
    "norms",
    "pooling",
    "products",
    "quantization",
    "recurrent",
    "reduction",
    "resize",
    "roi",
    "sampling",
    "scatter",
    "selection",
    "sequence",
    "signal",
    "svm",
    "training",
    "update",
    "zero",
]
