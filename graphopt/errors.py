"""One family of errors, one formatter: what happened, the operands, the user's line, the fix.

Every class also derives from the built-in exception a caller would expect, so
``except ValueError`` keeps working. ``docs/errors.md`` has a running example of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Protocol

MAX_OPERANDS = 8


class Location(Protocol):
    """A place in the user's code that can be printed (see ``ir.where.Where``)."""

    def lines(self) -> Sequence[str]:
        """The location and its source line, one string per printed line."""


class GraphoptError(Exception):
    """Base of every error graphopt raises.

    ``what`` is complete on its own; ``operands`` are (label, description) pairs, of which the first
    eight are shown, or with ``all_operands`` all; ``where`` is the user's line; ``fix`` says what
    to do. Each is an attribute of the error too.
    """

    def __init__(
        self,
        what: str,
        *,
        operands: Iterable[tuple[str, object]] = (),
        where: Location | None = None,
        fix: str = "",
        all_operands: bool = False,
    ) -> None:
        self.what = what
        self.operands = [(label, str(text)) for label, text in operands]
        self.where = where
        self.fix = fix
        self.shown = len(self.operands) if all_operands else MAX_OPERANDS
        super().__init__(str(self))

    def __str__(self) -> str:
        return "\n".join([self.what, *self._operand_lines(), *self._where_lines(), *self._fix()])

    def _operand_lines(self) -> list[str]:
        shown = self.operands[: self.shown]
        width = max((len(label) for label, _ in shown), default=0)
        lines = [f"    {label:<{width}} : {text}" for label, text in shown]
        hidden = len(self.operands) - len(shown)
        return [*lines, f"    ... and {hidden} more"] if hidden else lines

    def _where_lines(self) -> list[str]:
        return [] if self.where is None else [f"  {line}" for line in self.where.lines()]

    def _fix(self) -> list[str]:
        return [f"  fix: {self.fix}"] if self.fix else []


class ArgumentError(GraphoptError, ValueError):
    """An argument has a value that cannot be used."""


class ArgumentTypeError(GraphoptError, TypeError):
    """An argument has a type that cannot be used."""


class ShapeError(GraphoptError, ValueError):
    """An op cannot take operands of these shapes."""


class DTypeError(GraphoptError, TypeError):
    """An op cannot take operands of these dtypes."""


class UnknownOpError(GraphoptError, ValueError):
    """No op of this name exists in the ONNX standard or among the composites."""


class UnknownVariableError(GraphoptError, ValueError, KeyError):
    """No variable of this name is in the Program."""


class GradientError(GraphoptError, NotImplementedError):
    """A gradient is asked of an op that has none; the message names the path from the target."""


class LossError(GraphoptError, ValueError):
    """The loss is not a scalar."""


class FeedError(GraphoptError, ValueError):
    """A fed value does not fit the variable it is fed to."""


class MissingFeedError(FeedError, KeyError):
    """A variable that the run needs is not fed."""


class DeviceError(GraphoptError, RuntimeError):
    """The asked device, or onnxruntime itself, is not available."""


class CapacityError(GraphoptError, MemoryError):
    """More memory or disk space is asked for than there is."""


class StepError(GraphoptError, RuntimeError):
    """onnxruntime failed while loading or running a compiled Program; it is the ``__cause__``."""


class StateError(GraphoptError, RuntimeError):
    """A state does not fit what shall hold it, or cannot be changed in this way."""


class UninitializedError(StateError):
    """A persistable variable has no value in the scope yet."""


class TextError(GraphoptError, ValueError):
    """A Program's text form cannot be read."""


class FileError(GraphoptError, ValueError):
    """A file does not hold what it should."""


class VerifyError(GraphoptError, AssertionError):
    """A Program breaks an invariant: a bug in graphopt, or in a pass."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with that of the ``known`` names which is closest to ``name``, or ''.

    >>> did_you_mean("lable", ["label", "image"])
    "did you mean 'label'?"
    """
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean '{close[0]}'?" if close else ""
