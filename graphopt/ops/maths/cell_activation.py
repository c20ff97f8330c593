"""The activations of RNN, GRU and LSTM: functions given by name, with parameters of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphopt.errors import GradientError
from graphopt.ir.model.operator import Operator
from graphopt.ir.model.tape import Tape
from graphopt.ir.model.variable import Variable

# The parameters, with defaults. None: those of onnxruntime and of the standard differ.
PARAMETERS: dict[str, dict[str, float | None]] = {
    "Affine": {"alpha": None, "beta": None},
    "Elu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "LeakyRelu": {"alpha": 0.01},
    "Relu": {},
    "ScaledTanh": {"alpha": None, "beta": None},
    "Sigmoid": {},
    "Softplus": {},
    "Softsign": {},
    "Tanh": {},
    "ThresholdedRelu": {"alpha": None},
}
TYPES = {type.lower(): type for type in PARAMETERS}


@dataclass(frozen=True)
class Activation:
    """One of the functions, of an operand that is clipped to ±bound first."""

    type: str
    parameters: dict[str, float]
    bound: float | None

    def __call__(self, g: Tape, x: Variable) -> Variable:
        """f(min(max(x, -bound), bound)): shaped like x."""
        if self.bound is not None:
            x = g.Clip(x, -self.bound, self.bound)
        alpha, beta = (self.parameters.get(name, 1.0) for name in ("alpha", "beta"))
        if self.type == "Affine":
            return g.Add(g.Mul(x, alpha), beta)
        if self.type == "ScaledTanh":
            return g.Mul(g.Tanh(g.Mul(x, beta)), alpha)
        y: Variable = getattr(g, self.type)(x, **self.parameters)
        return y


def activations(op: Operator, default: Sequence[str]) -> list[Activation]:
    """Those of all directions; alphas and betas go in order to the functions that have one."""
    names = [_text(name) for name in op.attrs.get("activations") or default]
    if len(names) < len(default):
        raise GradientError(
            f"{op.type} has {len(names)} activations, it needs {len(default)}",
            where=op.where,
            fix="give every direction its activations",
        )
    given = {k: iter(op.attrs.get(f"activation_{k}") or ()) for k in ("alpha", "beta")}
    return [_activation(op, name, given) for name in names[: len(default)]]


def _text(name: str | bytes) -> str:
    """The default that onnx's schema of RNN gives is not a str."""
    return name.decode() if isinstance(name, bytes) else name


def _activation(op: Operator, name: str, given: Mapping[str, Iterator[float]]) -> Activation:
    type = TYPES.get(name.lower())
    if type is None:
        raise GradientError(
            f"{op.type} has no activation {name!r}",
            where=op.where,
            fix=f"use one of {', '.join(PARAMETERS)}",
        )
    parameters = {k: next(given[k], value) for k, value in PARAMETERS[type].items()}
    return Activation(type, _all_known(op, type, parameters), op.attrs.get("clip"))


def _all_known(op: Operator, type: str, parameters: Mapping[str, float | None]) -> dict[str, float]:
    known = {k: value for k, value in parameters.items() if value is not None}
    missing = [f"activation_{k}" for k in parameters if k not in known]
    if missing:
        raise GradientError(
            f"{op.type} does not say the {' and '.join(missing)} of its {type}",
            where=op.where,
            fix="give it: the defaults of onnxruntime and of the standard differ",
        )
    return known
