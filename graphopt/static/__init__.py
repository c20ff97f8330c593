"""SAY: ``paddle.static``'s names.

In ``static.nn``, ``name`` is the prefix of the parameters' names, and the name of the result.
"""

from graphopt.ir.model.block import Block
from graphopt.ir.model.program import Program
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.parameters import create_global_var, create_parameter
from graphopt.runtime.front.executor import Executor
from graphopt.runtime.ort.place import Place
from graphopt.runtime.ort.providers.cpu import CPUPlace
from graphopt.runtime.ort.providers.cuda import CUDAPlace
from graphopt.runtime.state.scope import Scope, global_scope, scope_guard
from graphopt.scoping import (
    default_main_program,
    default_startup_program,
    name_scope,
    program_guard,
)
from graphopt.static import nn
from graphopt.static.autodiff import append_backward, gradients
from graphopt.static.checkpoint import load, load_program_state, save, set_program_state
from graphopt.static.ema import ExponentialMovingAverage
from graphopt.static.input import data
from graphopt.static.io import (
    load_inference_model,
    normalize_program,
    save_inference_model,
    save_training_model,
)
from graphopt.static.metric import accuracy

__all__ = [
    "Block",
    "CPUPlace",
    "CUDAPlace",
    "Executor",
    "ExponentialMovingAverage",
    "Parameter",
    "Place",
    "Program",
    "Scope",
    "Variable",
    "accuracy",
    "append_backward",
    "create_global_var",
    "create_parameter",
    "data",
    "default_main_program",
    "default_startup_program",
    "global_scope",
    "gradients",
    "load",
    "load_inference_model",
    "load_program_state",
    "name_scope",
    "nn",
    "normalize_program",
    "program_guard",
    "save",
    "save_inference_model",
    "save_training_model",
    "scope_guard",
    "set_program_state",
]
