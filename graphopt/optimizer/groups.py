"""Parameter groups: which parameters an optimizer trains, and how each group differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphopt.clip import ClipGradBase
from graphopt.errors import ArgumentError, ArgumentTypeError, did_you_mean
from graphopt.ir.model.variable import Parameter, Variable
from graphopt.regularizer import WeightDecayRegularizer, as_regularizer

KEYS = ("params", "learning_rate", "weight_decay", "grad_clip")


@dataclass(frozen=True)
class Group:
    """Parameters by name (None: all), regularized alike and clipped together."""

    names: frozenset[str] | None
    regularization: WeightDecayRegularizer | None
    grad_clip: ClipGradBase | None


def as_groups(
    parameters: Sequence[Parameter] | Sequence[Mapping[str, Any]] | None,
    regularization: WeightDecayRegularizer | None,
    grad_clip: ClipGradBase | None,
) -> list[Group]:
    """The groups that ``parameters`` stands for: one, unless it is a list of dicts.

    Raises:
        ArgumentTypeError: not a list of Parameters or of dicts, or not a clip object; a setting of
            a group has the wrong type.
        ArgumentError: a group without ``params``, with an unknown key, or sharing a parameter.
    """
    _check_clip(grad_clip)
    if parameters is None:
        return [Group(None, regularization, grad_clip)]
    if isinstance(parameters, (Variable, Mapping, str)):
        raise ArgumentTypeError(
            f"parameters must be a list of Parameters, not a {type(parameters).__name__}",
            fix="e.g. layer.parameters()",
        )
    listed = list(parameters)
    if not any(isinstance(item, Mapping) for item in listed):
        return [Group(_names(listed), regularization, grad_clip)]
    groups = [_group(item, regularization, grad_clip) for item in listed]
    _check_disjoint(groups)
    return groups


def _names(parameters: Sequence[object]) -> frozenset[str]:
    names = []
    for p in parameters:
        if not isinstance(p, Variable):
            raise ArgumentTypeError(f"parameters holds a {type(p).__name__}, not a Parameter")
        names.append(p.name)
    return frozenset(names)


def _group(
    item: object, regularization: WeightDecayRegularizer | None, grad_clip: ClipGradBase | None
) -> Group:
    """One group; its settings replace those of its members."""
    if not isinstance(item, Mapping):
        raise ArgumentTypeError(f"a group is a dict, not a {type(item).__name__}")
    for key in item:
        if key not in KEYS:
            raise ArgumentError(
                f"a parameter group has no setting {key!r}",
                fix=did_you_mean(str(key), KEYS) or f"it has {', '.join(KEYS)}",
            )
    if "params" not in item:
        raise ArgumentError("a parameter group needs 'params'")
    params = item["params"]
    if isinstance(params, set):
        raise ArgumentTypeError("a group's params must be a list: a set has no order")
    members = [params] if isinstance(params, Variable) else list(params)
    own = as_regularizer(item["weight_decay"]) if "weight_decay" in item else regularization
    clip = item.get("grad_clip", grad_clip)
    _check_clip(clip)
    factor = item.get("learning_rate", 1.0)
    if isinstance(factor, bool) or not isinstance(factor, (int, float)):
        raise ArgumentTypeError(
            f"a group's learning_rate is a factor, a float, not a {type(factor).__name__}"
        )
    names = _names(members)
    for p in members:
        if isinstance(p, Parameter):
            p.regularizer = None
            p.optimize_attr["learning_rate"] = float(factor)
    return Group(names, own, clip)


def _check_disjoint(groups: Sequence[Group]) -> None:
    seen: set[str] = set()
    for group in groups:
        shared = seen & (group.names or frozenset())
        if shared:
            raise ArgumentError(f"{', '.join(sorted(shared))} is in more than one group")
        seen |= group.names or frozenset()


def _check_clip(grad_clip: object) -> None:
    if grad_clip is not None and not isinstance(grad_clip, ClipGradBase):
        raise ArgumentTypeError(
            f"grad_clip must be a clip object, not {type(grad_clip).__name__}",
            fix="e.g. nn.ClipGradByGlobalNorm(1.0)",
        )
